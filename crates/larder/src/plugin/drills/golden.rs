//! The output that a plugin's author expects: a file beside it, a line each, `*` for whatever may differ.

use std::path::{Path, PathBuf};

use super::report::Verdict;

/// Bytes of such a file.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Where the expected output of `plugin` would be.
pub(super) fn path_for(plugin: &Path) -> PathBuf {
    let mut name = plugin.as_os_str().to_owned();
    name.push(".golden");
    name.into()
}

/// Whether every expected line came, in order; others may come between. Nothing where nothing is expected.
pub(super) fn compare(plugin: &Path, said: &[String]) -> Option<Verdict> {
    let path = path_for(plugin);
    let size = path.metadata().ok()?.len();
    if size > FILE_MAX_BYTES {
        return Some(Verdict::Failed(format!(
            "`{}` has {size} bytes, at most {FILE_MAX_BYTES} are read",
            path.display()
        )));
    }
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Some(Verdict::Failed(format!("`{}`: {error}", path.display()))),
    };
    let expected: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let mut rest = said.iter();
    for line in &expected {
        if !rest.any(|said| matches(line, said)) {
            return Some(Verdict::Failed(format!("never said, or not in its place: {line}")));
        }
    }
    Some(Verdict::Ok(format!("{} lines as expected", expected.len())))
}

/// Whether `line` is as `pattern`, in which `*` stands for anything.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, line, expected) in [
            ("beat #*", "beat #1", true),
            ("beat", "beat", true),
            ("beat", "beats", false),
            ("*a*b*", "xaxxbx", true),
            ("a*b", "ab", true),
            ("ab*b", "ab", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, line), expected, "{pattern} {line}");
        }
    }

    #[test]
    fn lines_have_to_come_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let plugin = folder.path().join("p.sh");
        let said = ["started".to_owned(), "noise".to_owned(), "beat #0".to_owned()];
        assert_eq!(compare(&plugin, &said), None);
        std::fs::write(path_for(&plugin), "started\nbeat #*\n").unwrap();
        assert_eq!(compare(&plugin, &said), Some(Verdict::Ok("2 lines as expected".into())));
        std::fs::write(path_for(&plugin), "beat #*\nstarted\n").unwrap();
        assert_eq!(
            compare(&plugin, &said),
            Some(Verdict::Failed("never said, or not in its place: started".into()))
        );
    }
}
