//! Pages of what the servers hold, one server after the other.

use larder_core::key::ObjectKey;

use super::command::Command;
use super::commands::{Dialect, SEAL_PREFIX};
use super::options::Node;
use super::reply::Reply;
use super::session::Session;
use crate::adapter::{ListPage, ListRequest, Listed};
use crate::error::{Failure, FailureKind};
use crate::names::KeyDecoder;

impl Session {
    /// One step of a server's own listing. The token names the server by its position and the place in its
    /// listing.
    pub(super) fn page(&mut self, request: &ListRequest) -> Result<ListPage, Failure> {
        let (position, cursor) = parse_token(request.page_token.as_deref())?;
        let nodes = self.listed_nodes()?;
        let Some(node) = nodes.get(position) else { return Ok(ListPage::default()) };
        let (next, keys) = self.scan(node, cursor, request)?;
        // Through the usual way: a key may move to another server meanwhile.
        let refs: Vec<&ObjectKey> = keys.iter().collect();
        let found = self.run(&refs, |key| key, Dialect::find);
        let entries = keys.into_iter().zip(found);
        let entries =
            entries.filter_map(|(key, found)| Some(Listed { key, bytes: found.ok()?.bytes? })).collect();
        let next_page_token = match next {
            0 if position + 1 < nodes.len() => Some(format!("{}.0", position + 1)),
            0 => None,
            next => Some(format!("{position}.{next}")),
        };
        Ok(ListPage { entries, next_page_token })
    }

    fn listed_nodes(&mut self) -> Result<Vec<Node>, Failure> {
        let options = &self.shared().dialect.options;
        if !options.is_cluster {
            return Ok(options.nodes[..1].to_vec());
        }
        let known = self.shared().slots().nodes();
        if known.is_empty() { Ok(self.learn_slots()?.nodes()) } else { Ok(known) }
    }

    fn scan(
        &mut self,
        node: &Node,
        cursor: u64,
        request: &ListRequest,
    ) -> Result<(u64, Vec<ObjectKey>), Failure> {
        let prefix = match self.shared().dialect.options.key_prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}@"),
        };
        let command = Command::new("SCAN")
            .arg(cursor.to_string())
            .arg("MATCH")
            .arg(format!("{}*@*@*@*", escape_glob(&prefix)))
            .arg("COUNT")
            .arg(request.entries_max.clamp(1, 10_000).to_string());
        let reply = self.with(node, |connection| {
            connection.send(&command.encode())?;
            connection.reply()
        })?;
        let (next, keys) = read_scan(&reply, &prefix).ok_or_else(|| {
            let text = format!("list `{node}`: unexpected reply `{}`", reply.summary());
            Failure::permanent(FailureKind::Io, text)
        })?;
        let wanted = |key: &ObjectKey| {
            request.model_name.as_deref().is_none_or(|model| model == &**key.namespace.model_name())
        };
        Ok((next, keys.into_iter().filter(wanted).collect()))
    }
}

/// Reads the reply to `SCAN`: where to go on, and which of the names are objects.
pub(super) fn read_scan(reply: &Reply, prefix: &str) -> Option<(u64, Vec<ObjectKey>)> {
    let Reply::Array(parts) = reply else { return None };
    let [Reply::Bytes(next), Reply::Array(names)] = parts.as_slice() else { return None };
    let next = std::str::from_utf8(next).ok()?.parse().ok()?;
    let decoder = KeyDecoder::default();
    Some((next, names.iter().filter_map(|name| listed_key(name, prefix, &decoder)).collect()))
}

fn listed_key(name: &Reply, prefix: &str, decoder: &KeyDecoder) -> Option<ObjectKey> {
    let Reply::Bytes(name) = name else { return None };
    let name = std::str::from_utf8(name).ok()?;
    if name.starts_with(SEAL_PREFIX) {
        return None;
    }
    decoder.wire_name(name.strip_prefix(prefix)?)
}

fn escape_glob(text: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | ']' | '\\' | '^');
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn parse_token(token: Option<&str>) -> Result<(usize, u64), Failure> {
    let Some(token) = token else { return Ok((0, 0)) };
    let parsed =
        token.split_once('.').and_then(|(node, cursor)| Some((node.parse().ok()?, cursor.parse().ok()?)));
    parsed.ok_or_else(|| {
        Failure::permanent(
            FailureKind::Invalid,
            format!("page token `{}` is not one of ours", token.escape_debug()),
        )
    })
}
