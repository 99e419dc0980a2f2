//! Which parts of a document are credentials, and their replacement.

use serde_json::Value as Json;

/// What stands in place of a credential.
pub const REDACTED: &str = "<redacted>";

/// Whether a value under this name is a credential. Names of environment variables or files that hold one
/// (`token_env`, `password_file`) are not.
pub fn is_secret_name(name: &str) -> bool {
    let words: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| character.to_ascii_lowercase())
        .collect();
    if ["env", "file", "path", "ids"].iter().any(|end| words.ends_with(end)) {
        return false;
    }
    [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "credential",
        "accesskey",
        "apikey",
        "privatekey",
        "authorization",
    ]
    .iter()
    .any(|part| words.contains(part))
        || ["token", "auth", "sas"].iter().any(|end| words.ends_with(end))
}

/// Replaces every credential in `value`: texts and numbers under secret names, and passwords inside URLs.
pub fn redact(value: &mut Json) {
    match value {
        Json::Object(entries) => {
            for (key, item) in entries {
                if is_secret_name(key) && !item.is_null() {
                    *item = Json::from(REDACTED);
                } else {
                    redact(item);
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(redact),
        Json::String(text) => {
            if let Some(clean) = without_url_password(text) {
                *text = clean;
            }
        }
        _ => {}
    }
}

/// `scheme://user:password@host` without the password; `None` when there is none.
fn without_url_password(text: &str) -> Option<String> {
    let start = text.find("://")? + "://".len();
    let authority = text[start..].split(['/', '?', '#']).next()?;
    let userinfo = &authority[..authority.rfind('@')?];
    let user = &userinfo[..userinfo.find(':')?];
    let rest = &text[start + userinfo.len()..];
    Some(format!("{}{user}:{REDACTED}{rest}", &text[..start]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let mut value = json!({
            "type": "s3", "aws_secret_access_key": "k", "aws_access_key_id": "i", "password": "", "token": 7,
            "token_env": "HF_TOKEN", "key_prefix": "p", "num_tokens": 3, "nested": [{"apiKey": {"a": "b"}}],
            "url": "redis://me:pw@host:1/0", "plain": "http://host:1/a@b:c",
        });
        redact(&mut value);
        assert_eq!(
            value,
            json!({
                "type": "s3", "aws_secret_access_key": REDACTED, "aws_access_key_id": REDACTED, "password": REDACTED,
                "token": REDACTED, "token_env": "HF_TOKEN", "key_prefix": "p", "num_tokens": 3,
                "nested": [{"apiKey": REDACTED}], "url": "redis://me:<redacted>@host:1/0", "plain": "http://host:1/a@b:c",
            })
        );
    }
}
