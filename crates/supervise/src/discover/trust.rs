//! Who else could change what a plugin runs as this server's user: its file, its manifest, and the folder in
//! which others could be put.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::survey::in_place;
use crate::manifest::Manifest;
use crate::text::shown;

/// What follows when others could change what is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WritableByOthers {
    /// Nothing.
    Allow,
    /// It is run; the log and its status say so.
    #[default]
    Warn,
    /// It is not run.
    Refuse,
}

/// What about a plugin's files others could change, in words. Reads the file system.
pub(crate) fn doubts(plugin: &Path) -> Vec<String> {
    let manifest = Manifest::path_for(plugin);
    let folder = in_place(plugin.parent().unwrap_or(plugin)).to_path_buf();
    let own = rustix::process::geteuid().as_raw();
    [plugin, &manifest, &folder]
        .into_iter()
        .filter_map(|path| Some((path, path.metadata().ok()?)))
        .filter_map(|(path, meta)| Some(format!("`{}` {}", shown(path), doubt(&meta, own)?)))
        .collect()
}

fn doubt(meta: &Metadata, own: u32) -> Option<String> {
    let (owner, group, mode) = (meta.uid(), meta.gid(), meta.mode());
    if owner != 0 && owner != own {
        return Some(format!("belongs to user {owner}"));
    }
    if mode & 0o002 != 0 {
        return Some(format!("can be changed by everybody (mode {:04o})", mode & 0o7777));
    }
    // A group of the owner's own, of the same number as a rule, is nobody else.
    let shared = group != 0 && group != owner;
    (shared && mode & 0o020 != 0)
        .then(|| format!("can be changed by group {group} (mode {:04o})", mode & 0o7777))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn files_that_others_can_change_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("x.sh");
        let manifest = Manifest::path_for(&plugin);
        fs::write(&plugin, "").unwrap();
        fs::write(&manifest, "").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        set(&plugin, 0o755);
        assert_eq!(doubts(&plugin), [""; 0]);
        set(&plugin, 0o777);
        assert_eq!(
            doubts(&plugin),
            [format!("`{}` can be changed by everybody (mode 0777)", shown(&plugin))]
        );
        set(&plugin, 0o755);
        set(&manifest, 0o666);
        set(dir.path(), 0o1777);
        assert_eq!(doubts(&plugin).len(), 2, "{:?}", doubts(&plugin));
        set(&manifest, 0o664);
        set(dir.path(), 0o700);
        assert_eq!(doubts(&plugin), [""; 0], "a group of one's own");
        // Only root can give files away.
        if chown(&manifest, None, Some(54321)).is_ok() {
            assert!(doubts(&plugin)[0].contains("group 54321"), "{:?}", doubts(&plugin));
            chown(&plugin, Some(54321), None).unwrap();
            assert!(doubts(&plugin)[0].ends_with("belongs to user 54321"), "{:?}", doubts(&plugin));
        }
    }
}
