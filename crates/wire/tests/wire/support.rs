//! Golden vectors as Rust values.

use std::path::PathBuf;

use serde_json::Value;

/// A file of `spec/vectors`.
pub(crate) fn vector_path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "spec", "vectors", name].iter().collect()
}

/// A JSON file of `spec/vectors`.
pub(crate) fn vectors(name: &str) -> Value {
    let path = vector_path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Bytes of a hex string.
pub(crate) fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex string");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits"))
        .collect()
}

/// Frames of a list of hex strings.
pub(crate) fn frames(value: &Value) -> Vec<Vec<u8>> {
    value.as_array().expect("list of frames").iter().map(unhex).collect()
}

/// Lower-case hex, for readable assertion failures.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
