//! What names that clients choose may be. One rule for whoever takes one in: the wire, an operator's route, a
//! stored name.

/// Longest model name, in bytes. A path of a model's folder fits; so does the name stores derive from it, in
/// most.
pub const MODEL_NAME_BYTES_MAX: usize = 512;

/// Longest cache salt, in characters (`spec/cache-semantics.md` 2).
pub const CACHE_SALT_CHARS_MAX: usize = 128;

/// Longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 1024;

/// Characters of a name that an error repeats.
const QUOTE_CHARS_MAX: usize = 64;

/// What separates the fields of stored names, and what no file can be called.
const NOT_IN_MODEL_NAMES: [char; 2] = ['@', '\0'];

/// The same, and what would lead out of a folder.
const NOT_IN_CACHE_SALTS: [char; 4] = ['@', '/', '\\', '\0'];

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A character that would be mistaken for something else in names derived from this one.
    #[error("{what} `{name}` must not contain `{}`", character.escape_debug())]
    Character {
        /// Which name.
        what: &'static str,
        /// Its beginning, with control characters made visible.
        name: String,
        /// The character.
        character: char,
    },
    /// It is too long.
    #[error("{what} has `{length}` {unit}, expected at most {max}")]
    Length {
        /// Which name.
        what: &'static str,
        /// Its length.
        length: usize,
        /// What the length counts.
        unit: &'static str,
        /// What is allowed.
        max: usize,
    },
}

/// Checks a model name.
///
/// # Errors
/// It is longer than [`MODEL_NAME_BYTES_MAX`] or contains `@` or NUL.
pub fn check_model_name(name: &str) -> Result<(), NameError> {
    check_bytes("model name", name, MODEL_NAME_BYTES_MAX)?;
    check_characters("model name", name, &NOT_IN_MODEL_NAMES)
}

/// Checks a cache salt; the empty one stands for none.
///
/// # Errors
/// It is longer than [`CACHE_SALT_CHARS_MAX`] or contains `@`, `/`, `\` or NUL.
pub fn check_cache_salt(salt: &str) -> Result<(), NameError> {
    check_characters("cache salt", salt, &NOT_IN_CACHE_SALTS)?;
    match salt.chars().count() {
        0..=CACHE_SALT_CHARS_MAX => Ok(()),
        length => Err(NameError::Length {
            what: "cache salt",
            length,
            unit: "characters",
            max: CACHE_SALT_CHARS_MAX,
        }),
    }
}

/// Checks a request id, which names nothing that is kept: only its length matters.
///
/// # Errors
/// It is longer than [`REQUEST_ID_BYTES_MAX`].
pub fn check_request_id(request_id: &str) -> Result<(), NameError> {
    check_bytes("request id", request_id, REQUEST_ID_BYTES_MAX)
}

fn check_bytes(what: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.len() > max {
        return Err(NameError::Length { what, length: name.len(), unit: "bytes", max });
    }
    Ok(())
}

fn check_characters(what: &'static str, name: &str, refused: &[char]) -> Result<(), NameError> {
    match name.chars().find(|character| refused.contains(character)) {
        None => Ok(()),
        Some(character) => {
            let name = name.chars().take(QUOTE_CHARS_MAX).flat_map(char::escape_debug).collect();
            Err(NameError::Character { what, name, character })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_for_what_would_be_mistaken_in_a_stored_name() {
        for name in ["meta-llama/Llama-3.1-8B", "/models/a b", "ä", "..", ""] {
            assert_eq!(check_model_name(name), Ok(()), "{name}");
        }
        assert_eq!(
            check_model_name("a\0b").unwrap_err().to_string(),
            "model name `a\\0b` must not contain `\\0`"
        );
        assert!(check_model_name("a@b").is_err());
        assert_eq!(check_cache_salt("tenant-1"), Ok(()));
        for salt in ["a@b", "a/b", "a\\b", "a\0b"] {
            assert!(check_cache_salt(salt).is_err(), "{salt:?}");
        }
        assert_eq!(check_request_id("a@b/\0"), Ok(()));
    }

    #[test]
    fn names_are_bounded_to_the_last_byte() {
        assert_eq!(check_model_name(&"m".repeat(MODEL_NAME_BYTES_MAX)), Ok(()));
        let long = check_model_name(&"m".repeat(MODEL_NAME_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(long.to_string(), "model name has `513` bytes, expected at most 512");
        assert_eq!(check_cache_salt(&"ä".repeat(CACHE_SALT_CHARS_MAX)), Ok(()));
        assert!(check_cache_salt(&"s".repeat(CACHE_SALT_CHARS_MAX + 1)).is_err());
        assert_eq!(check_request_id(&"r".repeat(REQUEST_ID_BYTES_MAX)), Ok(()));
        assert!(check_request_id(&"r".repeat(REQUEST_ID_BYTES_MAX + 1)).is_err());
        let refused = check_model_name(&format!("@{}", "\n".repeat(400))).unwrap_err().to_string();
        assert!(refused.len() < 200 && !refused.contains('\n'), "{refused}");
    }
}
