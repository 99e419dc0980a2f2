//! The little XML the interface speaks: flat elements, found by name.

/// Longest entity with its end. Without a limit, each `&` would be a search through all that follows.
const ENTITY_BYTES_MAX: usize = 12;

/// The text of the first element of a name, with entities resolved.
pub(super) fn text(xml: &str, name: &str) -> Option<String> {
    element(xml, name).map(|(text, _)| unescape(text))
}

/// Every element of a name, as the XML inside it.
pub(super) fn elements<'a>(xml: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (inner, after) = element(rest, name)?;
        rest = after;
        Some(inner)
    })
}

/// What is inside the first element of a name, and what follows it. Elements of a name do not nest here.
fn element<'a>(xml: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let mut rest = xml;
    loop {
        let start = rest.find(&format!("<{name}"))?;
        rest = &rest[start + 1 + name.len()..];
        // A longer name that only starts the same.
        if rest.starts_with(['>', ' ', '\n', '\r', '\t']) {
            let (_, inner) = rest.split_once('>')?;
            return inner.split_once(&format!("</{name}>"));
        }
        if let Some(after) = rest.strip_prefix("/>") {
            return Some(("", after));
        }
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let end = after.bytes().take(ENTITY_BYTES_MAX).position(|byte| byte == b';');
        let Some((entity, after)) = end.map(|end| (&after[..end], &after[end + 1..])) else {
            rest = after;
            plain.push('&');
            continue;
        };
        let code = entity.strip_prefix('#').and_then(|code| match code.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => code.parse().ok(),
        });
        match (entity, code.and_then(char::from_u32)) {
            ("lt", _) => plain.push('<'),
            ("gt", _) => plain.push('>'),
            ("amp", _) => plain.push('&'),
            ("quot", _) => plain.push('"'),
            ("apos", _) => plain.push('\''),
            (_, Some(character)) => plain.push(character),
            (other, None) => plain.push_str(&format!("&{other};")),
        }
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// Text made fit to stand between tags.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn listings_are_read() {
        let xml = "<?xml version=\"1.0\"?><L xmlns=\"x\"><KeyCount>2</KeyCount><Contents><Key>a&amp;b</Key><Size>3</Size>\
                   </Contents><Contents><Key>&lt;&#65;&#x42;&quot;</Key><Size>4</Size></Contents><Empty/></L>";
        let keys: Vec<_> = elements(xml, "Contents").map(|inner| text(inner, "Key").unwrap()).collect();
        assert_eq!(keys, ["a&b", "<AB\""]);
        assert_eq!(text(xml, "KeyCount").as_deref(), Some("2"));
        assert_eq!(text(xml, "Empty").as_deref(), Some(""));
        assert_eq!(text(xml, "Missing"), None);
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
