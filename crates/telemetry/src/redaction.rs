//! Which parts of a document are secrets, and their replacement: the one rule for whatever is shown or handed
//! on.
//!
//! A name tells for whole values; inside texts, passwords of URLs and `name=value` pairs are found. What is
//! no secret stays as it is, byte for byte.

use std::borrow::Cow;

use serde_json::Value;

/// What stands in place of a secret.
pub const REDACTED: &str = "<redacted>";

/// Parts of names, without separators and in lower case, behind which a secret is assumed wherever they
/// stand.
const PARTS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "credential",
    "accesskey",
    "apikey",
    "privatekey",
    "authorization",
    "connectionstring",
];
/// Ends of names that tell the same. `num_tokens` is none of them if it is a number.
const ENDS: [&str; 14] = [
    "token",
    "tokens",
    "auth",
    "sas",
    "pwd",
    "pass",
    "signature",
    "accountkey",
    "sharedkey",
    "encryptionkey",
    "signingkey",
    "masterkey",
    "authkey",
    "sshkey",
];
/// Names that tell only as a whole.
const WHOLE: [&str; 3] = ["key", "sig", "bearer"];
/// Ends of names of which the value says where a secret is, not what it is.
const PLACES: [&str; 4] = ["env", "file", "path", "ids"];

/// Whether a value under this name is a secret. Of a name with dots the last part counts.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let word: String = last
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| character.to_ascii_lowercase())
        .collect();
    if PLACES.iter().any(|end| word.ends_with(end)) {
        return false;
    }
    PARTS.iter().any(|part| word.contains(part))
        || ENDS.iter().any(|end| word.ends_with(end))
        || WHOLE.contains(&word.as_str())
}

/// Whether this text is a secret as the value of this name. A count is not, nor a folder as in `PWD`, nor a
/// switch.
#[must_use]
pub fn is_secret(name: &str, text: &str) -> bool {
    let is_said =
        !text.is_empty() && !["true", "false", "null", "none"].contains(&text.to_ascii_lowercase().as_str());
    let is_count = name.to_ascii_lowercase().ends_with("tokens") && text.parse::<f64>().is_ok();
    let is_folder = name.to_ascii_lowercase().ends_with("pwd") && text.starts_with('/');
    is_said && !is_count && !is_folder && is_secret_name(name)
}

/// Whether the environment variable is a secret, or has one in it.
#[must_use]
pub fn has_secret(name: &str, text: &str) -> bool {
    is_secret(name, text) || matches!(redacted(text), Cow::Owned(_))
}

/// Replaces every secret in `value`; whether there was one.
pub fn redact(value: &mut Value) -> bool {
    match value {
        Value::Object(entries) => {
            // Every entry, also after the first find.
            entries.iter_mut().fold(false, |found, (name, item)| {
                if is_secret_name(name) && tells(name, item) {
                    *item = REDACTED.into();
                    return true;
                }
                redact(item) | found
            })
        }
        Value::Array(items) => items.iter_mut().fold(false, |found, item| redact(item) | found),
        Value::String(text) => match redacted(text) {
            Cow::Owned(clean) => {
                *text = clean;
                true
            }
            Cow::Borrowed(_) => false,
        },
        _ => false,
    }
}

/// Whether secrets were taken out of this value: what logs in with it would do so with their replacement.
pub fn is_redacted(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(REDACTED),
        Value::Array(items) => items.iter().any(is_redacted),
        Value::Object(entries) => entries.values().any(is_redacted),
        _ => false,
    }
}

/// Whether there is something to hide in the value of a secret name: emptiness and switches say nothing.
fn tells(name: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text != REDACTED && is_secret(name, text),
        Value::Number(number) => is_secret(name, &number.to_string()),
        Value::Array(items) => items.iter().any(|item| tells(name, item)),
        Value::Object(entries) => entries.values().any(|item| tells(name, item)),
        Value::Null | Value::Bool(_) => false,
    }
}

/// The text without its secrets: those of a JSON document, or else passwords of URLs and secret `name=value`
/// pairs. A text without any is returned as it is.
#[must_use]
pub fn redacted(text: &str) -> Cow<'_, str> {
    if text.trim_start().starts_with(['{', '['])
        && let Ok(mut document) = serde_json::from_str::<Value>(text)
    {
        return if redact(&mut document) { Cow::Owned(document.to_string()) } else { Cow::Borrowed(text) };
    }
    match without_url_passwords(text) {
        Cow::Borrowed(text) => without_pairs(text),
        Cow::Owned(clean) => Cow::Owned(without_pairs(&clean).into_owned()),
    }
}

/// `scheme://user:password@host` without the password, as often as it occurs.
fn without_url_passwords(text: &str) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + "://".len());
        clean.push_str(before);
        let end = after.find(|c: char| "/?#,\"'".contains(c) || c.is_whitespace()).unwrap_or(after.len());
        let userinfo = after[..end].rfind('@').map(|end| &after[..end]);
        match userinfo.and_then(|userinfo| userinfo.split_once(':')) {
            Some((user, password)) if !password.is_empty() && password != REDACTED => {
                clean.push_str(user);
                clean.push(':');
                clean.push_str(REDACTED);
                rest = &after[user.len() + 1 + password.len()..];
            }
            _ => rest = after,
        }
    }
    clean.push_str(rest);
    if clean == text { Cow::Borrowed(text) } else { Cow::Owned(clean) }
}

/// `name=value` without the value where the name is that of a secret: connection strings, queries of URLs,
/// options.
fn without_pairs(text: &str) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        let (before, after) = rest.split_at(equals + 1);
        clean.push_str(before);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let name = before[..equals].rsplit(|c: char| !is_of_name(c)).next().unwrap_or_default();
        let end = after.find(|c: char| "&;,\"'#".contains(c) || c.is_whitespace()).unwrap_or(after.len());
        let value = &after[..end];
        rest = if value != REDACTED && is_secret(name, value) {
            clean.push_str(REDACTED);
            &after[end..]
        } else {
            after
        };
    }
    clean.push_str(rest);
    if clean == text { Cow::Borrowed(text) } else { Cow::Owned(clean) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn names_of_secrets_are_told_from_others() {
        for name in [
            "password",
            "db_passwd",
            "PGPASSWORD",
            "passphrase",
            "auth",
            "basic_auth",
            "oauth",
            "sas",
            "blob-sas",
            "pwd",
            "token",
            "HF_TOKEN",
            "tokens",
            "api_tokens",
            "apiKey",
            "API-Key",
            "secret_access_key",
            "AWS_ACCESS_KEY_ID",
            "key",
            "plugin.push.key",
            "plugin.push.token",
            "encryption_key",
            "AccountKey",
            "Authorization",
            "credentials",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "token_env",
            "password_file",
            "key_prefix",
            "cache_key",
            "chunk_size",
            "author",
            "token_count",
            "SSH_AUTH_SOCK",
            "XAUTHORITY",
            "plugin.secret_pusher.interval",
            "PATH",
            "GPG_KEY",
            "keys",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_value_may_show_that_it_is_none() {
        assert!(
            !is_secret("PWD", "/root") && !is_secret("max_tokens", "4096") && !is_secret("use_auth", "true")
        );
        assert!(is_secret("PWD", "hunter2") && is_secret("tokens", "abc") && is_secret("token", "7"));
        assert!(has_secret("DATABASE_URL", "postgres://me:pw@host/db") && !has_secret("URL", "http://host/"));
    }

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let mut value = json!({
            "type": "s3", "aws_secret_access_key": "k", "passphrase": "p", "auth": "a", "sas": "s", "pwd": "w", "token": 7,
            "token_env": "HF_TOKEN", "key_prefix": "p", "num_tokens": 3, "nested": [{"apiKey": {"a": "b"}}], "key": "k",
            "tokens": ["a", "b"], "empty": {"password": "", "secret": null, "use_credentials": true},
            "url": "redis://me:pw@host:1/0", "plain": "http://host:1/a@b:c",
            "urls": "redis://:one@h1,redis://u:two@h2/0", "query": "https://h/x?sv=1&sig=abc%3D&se=2",
            "dsn": "Host=h;AccountKey=abc==;Port=1", "text": "{\"password\": \"p\"}",
        });
        assert!(redact(&mut value));
        let r = REDACTED;
        let expected = json!({
            "type": "s3", "aws_secret_access_key": r, "passphrase": r, "auth": r, "sas": r, "pwd": r, "token": r,
            "token_env": "HF_TOKEN", "key_prefix": "p", "num_tokens": 3, "nested": [{"apiKey": r}], "key": r,
            "tokens": r, "empty": {"password": "", "secret": null, "use_credentials": true},
            "url": "redis://me:<redacted>@host:1/0", "plain": "http://host:1/a@b:c",
            "urls": "redis://:<redacted>@h1,redis://u:<redacted>@h2/0", "query": "https://h/x?sv=1&sig=<redacted>&se=2",
            "dsn": "Host=h;AccountKey=<redacted>;Port=1", "text": "{\"password\":\"<redacted>\"}",
        });
        assert_eq!(value, expected);
        assert!(!redact(&mut value), "what is clean stays");
    }

    #[test]
    fn nothing_to_hide_nothing_changed() {
        for text in [
            r#"{"chunk_size": 256,  "hash": "x", "token_count": 3}"#,
            r#"{"password": "", "secret": null, "use_credentials": true}"#,
            "no json: a=x",
            "://@:=",
            "",
        ] {
            assert!(matches!(redacted(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_cleaned_once(text in "([a-z:/@?&=;, ]|password|token|://){0,20}") {
            let clean = redacted(&text).into_owned();
            prop_assert_eq!(redacted(&clean).into_owned(), clean.clone(), "{}", text);
        }
    }
}
