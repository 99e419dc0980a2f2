//! Paths of the API that more than one program writes.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The second tier's adapters.
pub const ADAPTERS: &str = "/config/adapters";
/// Whether engines are served.
pub const HEALTHCHECK: &str = "/healthcheck";
/// The node.
pub const STATUS: &str = "/status";
/// The runtime plugins.
pub const PLUGINS: &str = "/plugins";

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as one segment of a path, whatever is in it.
#[must_use]
pub fn segment(name: &str) -> String {
    // Alone these would be taken for steps in the path.
    if !name.is_empty() && name.bytes().all(|byte| byte == b'.') {
        return name.replace('.', "%2E");
    }
    utf8_percent_encode(name, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_leave_its_place_in_the_path() {
        assert_eq!(segment("fs-0"), "fs-0");
        assert_eq!(segment("/a b/é.py"), "%2Fa%20b%2F%C3%A9.py");
        assert_eq!(segment("../x?y#z é"), "..%2Fx%3Fy%23z%20%C3%A9");
        assert_eq!((segment(".."), segment("")), ("%2E%2E".to_owned(), String::new()));
    }
}
