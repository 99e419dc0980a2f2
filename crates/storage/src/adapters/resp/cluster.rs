//! Which server of a cluster keeps which key.

use super::options::Node;
use super::reply::Reply;

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// The slot of a name: of what is between its first braces, if anything.
pub(super) fn slot(name: &str) -> u16 {
    let hashed = name
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty())
        .unwrap_or(name);
    crc16(hashed.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    crc
}

/// Slots by server, as last heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SlotMap {
    ranges: Vec<(u16, u16, Node)>,
}

impl SlotMap {
    /// Reads the reply to `CLUSTER SLOTS`; a server that does not know its own name means the one that
    /// answered.
    pub(super) fn read(reply: &Reply, answered: &Node) -> Option<Self> {
        let Reply::Array(ranges) = reply else { return None };
        let mut map =
            Self { ranges: ranges.iter().map(|range| read_range(range, answered)).collect::<Option<_>>()? };
        map.ranges.sort_by_key(|(first, ..)| *first);
        Some(map)
    }

    pub(super) fn node(&self, slot: u16) -> Option<&Node> {
        let after = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, node) = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= *last).then_some(node)
    }

    /// Every server once, in slot order.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        for (.., node) in &self.ranges {
            if !nodes.contains(node) {
                nodes.push(node.clone());
            }
        }
        nodes
    }
}

fn read_range(range: &Reply, answered: &Node) -> Option<(u16, u16, Node)> {
    let Reply::Array(parts) = range else { return None };
    let [Reply::Integer(first), Reply::Integer(last), Reply::Array(master), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Reply::Integer(port), ..] = master.as_slice() else { return None };
    let host = match host {
        Reply::Bytes(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
        Reply::Bytes(_) | Reply::Nil => answered.host.clone(),
        _ => return None,
    };
    let node = Node { host, port: u16::try_from(*port).ok()? };
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // CRC-16/XMODEM check value, and slots answered by `CLUSTER KEYSLOT` of Redis 7.0.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!((slot("foo"), slot("somekey"), slot("foo{hash_tag}")), (12182, 11058, 2515));
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_ne!(slot("foo{}{bar}"), slot("bar"), "an empty tag is no tag");
    }

    #[test]
    fn a_map_covers_what_was_heard() {
        let range = |first, last, host: &[u8], port| {
            let host = Reply::Bytes(host.to_vec());
            let master = Reply::Array(vec![host, Reply::Integer(port), Reply::Bytes(b"id".to_vec())]);
            Reply::Array(vec![Reply::Integer(first), Reply::Integer(last), master])
        };
        let answered = Node { host: "seed".into(), port: 1 };
        let reply = Reply::Array(vec![range(100, 200, b"b", 2), range(0, 99, b"", 3)]);
        let map = SlotMap::read(&reply, &answered).unwrap();
        assert_eq!(map.node(0), Some(&Node { host: "seed".into(), port: 3 }));
        assert_eq!(map.node(150).map(|node| node.port), Some(2));
        assert_eq!(map.node(201), None);
        assert_eq!(map.nodes().len(), 2);
        assert_eq!(SlotMap::read(&Reply::Nil, &answered), None);
        assert_eq!(SlotMap::default().node(0), None);
    }
}
