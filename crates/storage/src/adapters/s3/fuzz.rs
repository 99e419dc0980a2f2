//! What a fuzzer feeds bytes of a store to.

use super::response::{read_head, read_text};
use super::session::read_listing;
use super::xml;
use crate::adapter::Seal;

/// Reads responses one after the other until one is malformed, and their bodies as text.
pub fn responses(mut bytes: &[u8], is_bodiless: bool) {
    while let Ok(response) = read_head(&mut bytes, is_bodiless) {
        assert!(response.status >= 200, "interim responses are passed over");
        _ = response.header("content-length");
        let Ok(text) = read_text(&mut bytes, response.body) else { return };
        listing(&text);
        if !response.is_kept_open {
            return;
        }
    }
}

/// Reads a listing, and text as an element.
pub fn listing(text: &str) {
    for is_salted in [false, true] {
        let page = read_listing(text, "", is_salted);
        assert!(page.entries.len() <= text.matches("<Contents").count());
    }
    _ = xml::text(text, "Code");
    let element = format!("<A>{}</A>", xml::escape(text));
    assert_eq!(xml::text(&element, "A").as_deref(), Some(text), "escaped text comes back");
}

/// Reads a seal as it stands in a header.
pub fn seal(text: &str) -> Option<Seal> {
    super::session::decode_seal(text, &crate::conformance::object_key(0))
}
