//! The little XML the interface speaks: flat elements, found by name.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::escape::{partial_escape, unescape};
use quick_xml::events::{BytesStart, Event};

/// The text of the first element of a name, with entities resolved.
pub(super) fn text(xml: &str, name: &str) -> Option<String> {
    let mut reader = reader(xml);
    find(&mut reader, name)?;
    let mut text = String::new();
    loop {
        match reader.read_event().ok()? {
            Event::Text(part) => text.push_str(&part),
            Event::CData(part) => text.push_str(&part),
            Event::GeneralRef(entity) => {
                let written = format!("&{};", &*entity);
                text.push_str(&unescape(&written).unwrap_or(Cow::Borrowed(&written)));
            }
            Event::End(end) if end.name().0 == name => return Some(text),
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// Every element of a name, as the XML inside it.
pub(super) fn elements<'a>(xml: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    let mut reader = reader(xml);
    std::iter::from_fn(move || {
        let start = find(&mut reader, name)?;
        Some(reader.read_text(start.name()).ok()?.into_inner())
    })
}

/// Why a document can't be believed; none if it is read to its end and every element is closed. What is cut
/// or garbled would else look like a short listing.
pub(super) fn fault(xml: &str) -> Option<String> {
    let mut reader = reader(xml);
    let (mut depth, mut elements) = (0_usize, 0_usize);
    loop {
        match reader.read_event() {
            Ok(Event::Start(_)) => (depth, elements) = (depth + 1, elements + 1),
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Eof) if elements == 0 => return Some("no element in it".to_owned()),
            Ok(Event::Eof) => return (depth > 0).then(|| "it ends inside an element".to_owned()),
            Ok(_) => {}
            Err(error) => return Some(error.to_string()),
        }
    }
}

/// Text made fit to stand between tags.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    partial_escape(text)
}

fn reader(xml: &str) -> Reader<&[u8]> {
    let mut reader = Reader::from_str(xml);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.allow_dangling_amp = true;
    reader
}

/// Reads up to the first element of a name.
fn find<'a>(reader: &mut Reader<&'a [u8]>, name: &str) -> Option<BytesStart<'a>> {
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) if start.name().0 == name => return Some(start),
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn listings_are_read() {
        let xml = "<?xml version=\"1.0\"?><L xmlns=\"x\"><KeyCount>2</KeyCount><Contents><Key>a&amp;b</Key><Size>3</Size>\
                   </Contents><Contents><Key>&lt;&#65;&#x42;&quot;</Key><Size>4</Size></Contents><Empty/></L>";
        let keys: Vec<_> = elements(xml, "Contents").map(|inner| text(&inner, "Key").unwrap()).collect();
        assert_eq!(keys, ["a&b", "<AB\""]);
        assert_eq!(text(xml, "KeyCount").as_deref(), Some("2"));
        assert_eq!(text(xml, "Empty").as_deref(), Some(""));
        assert_eq!(text(xml, "Missing"), None);
    }

    #[test]
    fn what_only_looks_like_a_tag_is_none() {
        let listing = "<L><!-- <Key>no</Key> --><Note><![CDATA[<Key>no</Key>]]></Note><Key a=\">\" b='</Key>'\n>a</Key></L>";
        assert_eq!(text(listing, "Key").as_deref(), Some("a"));
        assert_eq!(elements(listing, "Key").collect::<Vec<_>>(), ["a"]);
        assert_eq!(text("<A><![CDATA[a<b&lt;]]>&nbsp;&#0;</A>", "A").as_deref(), Some("a<b&lt;&nbsp;&#0;"));
    }

    #[test]
    fn what_is_cut_or_garbled_is_at_fault() {
        let whole = "<?xml version=\"1.0\"?><L><Contents><Key>a & b</Key></Contents><Empty/></L>\n";
        assert_eq!(fault(whole), None);
        for at in whole.match_indices('>').map(|(at, _)| at).skip(1).take(5) {
            assert!(fault(&whole[..at]).is_some(), "{}", &whole[..at]);
        }
        for broken in ["", "not found", "<L><Key>a</L>", "<L></L></L>", "<L>a<b</L>"] {
            assert!(fault(broken).is_some(), "{broken}");
        }
    }

    #[test]
    fn ampersands_without_end_are_read_in_one_pass() {
        let plain = "&".repeat(4 << 20);
        assert_eq!(text(&format!("<A>{plain}</A>"), "A"), Some(plain));
    }

    proptest! {
        #[test]
        fn escaped_text_comes_back(plain in ".{0,60}") {
            prop_assert_eq!(text(&format!("<A>{}</A>", escape(&plain)), "A"), Some(plain));
        }

        #[test]
        fn no_text_panics_the_reader(xml in ".{0,120}", entity in "[&#x;a-f0-9<>/A ]{0,40}") {
            _ = (text(&xml, "A"), text(&entity, "A"), elements(&entity, "A").count());
        }
    }
}
