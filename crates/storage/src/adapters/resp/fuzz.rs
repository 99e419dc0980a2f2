//! What a fuzzer feeds bytes of a server to.

use super::cluster::SlotMap;
use super::listing::read_scan;
use super::options::Node;
use super::reply::{BulkHeader, Reply, read_bulk_header, read_end, read_reply, redirect, server_failure};
use crate::adapters::quote::QUOTE_CHARS_MAX;

/// Reads replies one after the other until one is malformed, and everything that can be made of each.
pub fn replies(mut bytes: &[u8]) {
    let answered = Node { host: "answered".to_owned(), port: 1 };
    while let Ok(reply) = read_reply(&mut bytes) {
        assert!(reply.summary().chars().count() <= QUOTE_CHARS_MAX + 20, "messages stay short");
        if let Some(slots) = SlotMap::read(&reply, &answered) {
            let nodes = slots.nodes();
            assert!((0..u16::MAX).filter_map(|slot| slots.node(slot)).all(|node| nodes.contains(node)));
        }
        _ = read_scan(&reply, "prefix@");
        if let Reply::Error(error) = &reply {
            _ = (redirect(error, &answered), server_failure("fuzz", error));
        }
    }
}

/// Reads what precedes an object, skips the object and reads its end.
pub fn objects(mut bytes: &[u8]) {
    while let Ok(header) = read_bulk_header(&mut bytes) {
        if let BulkHeader::Length(len) = header {
            let Some(rest) = bytes.get(len..) else { return };
            bytes = rest;
            if read_end(&mut bytes).is_err() {
                return;
            }
        }
    }
}
