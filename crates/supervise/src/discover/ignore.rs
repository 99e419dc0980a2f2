//! The `.pluginignore` file of a folder: one name pattern a line, for helpers that are no plugins.
//!
//! `*` stands for any text, `?` for one character; `#` starts a comment. Patterns match names, not paths.

use std::path::Path;

use crate::regular;
use crate::text::glob;

/// Name of the file read in every scanned folder.
pub(crate) const FILE_NAME: &str = ".pluginignore";
/// Bytes read of one such file; the rest has no effect.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// The patterns of one folder.
#[derive(Debug, Default)]
pub(crate) struct IgnoreList(Vec<Vec<u8>>);

impl IgnoreList {
    /// Reads the folder's list; an absent or unreadable one excludes nothing.
    pub(crate) fn of_folder(folder: &Path) -> Self {
        Self::parse(&regular::read_head(&folder.join(FILE_NAME), FILE_MAX_BYTES).unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        let lines = text.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        let patterns = lines.filter(|l| !l.is_empty() && !l.starts_with(b"#"));
        Self(patterns.map(|l| l.strip_suffix(b"/").unwrap_or(l).to_vec()).collect())
    }

    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        self.0.iter().any(|pattern| glob(pattern, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let list = IgnoreList::parse(b"# helpers\n\n lib_*.py \nvendor/\n?.sh\n");
        for name in ["lib_x.py", "lib_.py", "vendor", "a.sh"] {
            assert!(list.matches(name.as_bytes()), "{name}");
        }
        for name in ["libx.py", "lib_x.pyc", "ab.sh", "# helpers", ""] {
            assert!(!list.matches(name.as_bytes()), "{name}");
        }
    }
}
