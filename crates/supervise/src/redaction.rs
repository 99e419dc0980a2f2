//! Secrets in a configuration text, masked for plugins that have not been granted them.

use std::borrow::Cow;

use serde_json::Value;

/// What stands in place of a secret.
pub const MASK: &str = "***";
/// Parts of key names, in lower case, behind which a secret is assumed.
const SECRET_PARTS: [&str; 8] =
    ["secret", "passw", "credential", "api_key", "apikey", "access_key", "private_key", "authorization"];

/// Whether a key's name suggests that its value is a secret.
pub fn looks_secret(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    // `token_count` and `max_tokens` are none.
    let is_token = key.rsplit(|c: char| !c.is_alphanumeric()).next() == Some("token");
    is_token || SECRET_PARTS.iter().any(|part| key.contains(part))
}

/// The text with the values of secret-looking keys masked. A text without any, or that is no JSON, is returned as it is, byte for byte.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return Cow::Borrowed(text) };
    if mask(&mut value) { Cow::Owned(value.to_string()) } else { Cow::Borrowed(text) }
}

/// Whether anything was masked. Empty values and switches say nothing and stay.
fn mask(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => map.iter_mut().fold(false, |found, (key, value)| {
            let telling = match value {
                Value::String(text) => !text.is_empty(),
                Value::Number(_) => true,
                _ => false,
            };
            if telling && looks_secret(key) {
                *value = MASK.into();
                return true;
            }
            mask(value) || found
        }),
        // Every item, also after the first find.
        Value::Array(items) => items.iter_mut().map(mask).fold(false, |found, masked| found | masked),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_at_any_depth() {
        let text = r#"{"a": 1, "l2": [{"secret_access_key": "s3", "region": "x"}], "plugin.x.API-Key": "k", "plugin.x.token": "t", "password": 7}"#;
        let expected = r#"{"a":1,"l2":[{"secret_access_key":"***","region":"x"}],"plugin.x.API-Key":"***","plugin.x.token":"***","password":"***"}"#;
        assert_eq!(redacted(text), expected);
    }

    #[test]
    fn nothing_to_hide_nothing_changed() {
        for text in [
            r#"{"chunk_size": 256,  "hash": "x", "token_count": 3}"#,
            r#"{"password": "", "secret": null, "use_credentials": true}"#,
            "no json: password=x",
            "",
        ] {
            assert!(matches!(redacted(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
