use super::super::eligibility::Role;
use super::super::survey::{DEPTH_MAX, ENTRIES_MAX, UNREMARKABLE_MAX, tidy};
use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.file_with(name, "exit 0\n", 0o644)
    }

    fn file_with(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn scan(&self) -> Discovery {
        self.scan_as(None)
    }

    fn scan_as(&self, role: Option<Role>) -> Discovery {
        discover(&[self.dir.path().to_path_buf()], &Host { role, worker_id: 0 }, &Interpreters::default())
    }

    fn names(&self, found: &Discovery) -> Vec<String> {
        let strip = |p: &PathBuf| p.strip_prefix(self.dir.path()).unwrap().to_string_lossy().into_owned();
        found.plugins.iter().map(strip).collect()
    }

    fn reason(&self, found: &Discovery, name: &str) -> SkipReason {
        let path = shown(&self.path(name));
        let skipped = found.skipped.iter().find(|s| s.path == path);
        skipped.unwrap_or_else(|| panic!("{name} not among {:?}", found.skipped)).reason.clone()
    }
}

#[test]
fn python_before_shell_then_by_path_recursively() {
    let tree = Tree::new();
    for name in ["mp_heartbeat.sh", "mp_plugin.py", "b.py", "a.sh", "sub/deep/a.py", "sub/z.sh"] {
        tree.file(name);
    }
    let found = tree.scan();
    assert_eq!(
        tree.names(&found),
        ["b.py", "mp_plugin.py", "sub/deep/a.py", "a.sh", "mp_heartbeat.sh", "sub/z.sh"]
    );
    assert_eq!(found.skipped, []);
}

#[test]
fn what_is_no_plugin_is_named_with_its_reason() {
    let tree = Tree::new();
    for name in [
        ".hidden.py",
        "__init__.py",
        "_helper.py",
        "sub/.git/hook.py",
        "__pycache__/x.py",
        "README.md",
        "UPPER.PY",
    ] {
        tree.file(name);
    }
    fs::create_dir(tree.path("dir.py")).unwrap();
    symlink("nowhere.py", tree.path("broken.py")).unwrap();
    symlink("..", tree.path("sub/loop")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.path("pipe.sh"), rustix::fs::Mode::RUSR).unwrap();
    let found = tree.scan();
    assert_eq!(tree.names(&found), [""; 0]);
    for (name, reason) in [
        (".hidden.py", SkipReason::Hidden),
        ("sub/.git", SkipReason::Hidden),
        ("__init__.py", SkipReason::Underscore),
        ("_helper.py", SkipReason::Underscore),
        ("__pycache__", SkipReason::Underscore),
        ("README.md", SkipReason::NotAProgram),
        ("UPPER.PY", SkipReason::NotAProgram),
        ("dir.py", SkipReason::DirectoryNamedLikeScript),
        ("broken.py", SkipReason::BrokenLink),
        ("sub/loop", SkipReason::LinkToDirectory),
        ("pipe.sh", SkipReason::NotRegular),
    ] {
        assert_eq!(tree.reason(&found, name), reason, "{name}");
    }
}

#[test]
fn any_program_runs_and_executable_data_does_not() {
    let tree = Tree::new();
    tree.file_with("report.pl", "#!/usr/bin/env perl\n", 0o755);
    tree.file_with("tool", "\x7fELF", 0o755);
    tree.file_with("data.csv", "1,2,3\n", 0o755);
    tree.file_with("later.rb", "#!/usr/bin/env ruby\n", 0o644);
    for copy in ["report.pl~", "report.pl.bak", "report.pl.tmp"] {
        tree.file_with(copy, "#!/usr/bin/env perl\n", 0o755);
    }
    let found = tree.scan();
    assert_eq!(tree.names(&found), ["report.pl", "tool"]);
    assert_eq!(tree.reason(&found, "data.csv"), SkipReason::NotAProgram);
    assert_eq!(tree.reason(&found, "report.pl~"), SkipReason::Backup);
    assert_eq!(tree.reason(&found, "later.rb"), SkipReason::NotAProgram);
}

#[test]
fn no_file_runs_twice() {
    let tree = Tree::new();
    let original = tree.file("a.py");
    symlink("a.py", tree.path("link.py")).unwrap();
    fs::hard_link(&original, tree.path("hard.py")).unwrap();
    tree.file("sub/b.sh");
    let dir = tree.dir.path().to_path_buf();
    let locations = [dir.clone(), dir.join("sub"), original.clone(), dir.clone()];
    let found = discover(&locations, &Host { role: None, worker_id: 0 }, &Interpreters::default());
    assert_eq!(tree.names(&found), ["a.py", "sub/b.sh"]);
    let duplicates =
        found.skipped.iter().filter(|s| matches!(s.reason, SkipReason::Duplicate { .. })).count();
    assert_eq!(duplicates, 5, "two links, the sub folder, the file, the folder: {:?}", found.skipped);
}

#[test]
fn locations_keep_their_order_and_files_need_no_folder() {
    let tree = Tree::new();
    let z = tree.file("z/z.sh");
    let a = tree.file("a/a.py");
    let hidden = tree.file("h/.explicit.py");
    let missing = tree.path("missing");
    let found = discover(
        &[tree.path("z"), missing.clone(), a.clone(), hidden.clone()],
        &Host { role: None, worker_id: 0 },
        &Interpreters::default(),
    );
    assert_eq!(found.plugins, [z, a, hidden], "a file that is named outright runs whatever its name");
    assert_eq!(found.skipped, [Skipped { path: shown(&missing), reason: SkipReason::Missing }]);
}

#[test]
fn an_ignore_file_excludes_helpers() {
    let tree = Tree::new();
    tree.file("plugin.py");
    tree.file("lib_common.py");
    tree.file("vendor/x.py");
    tree.file_with(".pluginignore", "lib_*.py\nvendor/\n", 0o644);
    let found = tree.scan();
    assert_eq!(tree.names(&found), ["plugin.py"]);
    assert_eq!(tree.reason(&found, "vendor"), SkipReason::Ignored);
}

#[test]
fn role_names_filter_only_where_there_is_a_role() {
    let tree = Tree::new();
    for name in
        ["scheduler_foo_plugin.py", "worker_0_test.sh", "worker_1_test.sh", "all_plugin.sh", "my_plugin.py"]
    {
        tree.file(name);
    }
    assert_eq!(tree.scan().plugins.len(), 5);
    let found = tree.scan_as(Some(Role::new("WORKER")));
    assert_eq!(tree.names(&found), ["my_plugin.py", "all_plugin.sh", "worker_0_test.sh"]);
    let reason = tree.reason(&found, "scheduler_foo_plugin.py").to_string();
    assert_eq!(reason, "requires role SCHEDULER");
}

#[test]
fn odd_names_are_found_and_shown_on_one_line() {
    let tree = Tree::new();
    for name in ["-dash.sh", "with space.py", "new\nline.sh", "日本語.py"] {
        tree.file(name);
    }
    tree.file_with("re\nadme", "x", 0o644);
    let found = tree.scan();
    assert_eq!(found.plugins.len(), 4);
    assert!(found.skipped.iter().all(|s| !s.path.contains('\n')));
}

#[test]
fn relative_locations_lose_their_dots() {
    assert_eq!(tidy(Path::new("./examples//mp/./x/")), Path::new("examples/mp/x"));
    assert_eq!(tidy(Path::new("../x")), Path::new("../x"));
    assert_eq!(tidy(Path::new(".")), Path::new(""));
}

#[test]
fn depth_is_bounded() {
    let tree = Tree::new();
    let deep = "d/".repeat(DEPTH_MAX + 1);
    tree.file(&format!("{deep}x.py"));
    tree.file(&format!("{}ok.py", "e/".repeat(DEPTH_MAX)));
    let found = tree.scan();
    assert_eq!(found.plugins.len(), 1);
    assert_eq!(found.skipped.last().unwrap().reason, SkipReason::TooDeep);
}

#[test]
fn pipes_in_the_place_of_files_hold_nobody_up() {
    let tree = Tree::new();
    tree.file("x.py");
    tree.file("sub/y.py");
    for name in [".pluginignore", "x.py.plugin.toml", "sub/.pluginignore"] {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, tree.path(name), mode).unwrap();
    }
    assert_eq!(tree.names(&tree.scan()), ["sub/y.py", "x.py"]);
    let mistake = crate::Manifest::load(&tree.path("x.py"), &crate::Manifest::default()).unwrap_err();
    assert!(mistake.message.contains("not a regular file"), "{mistake}");
}

#[test]
fn a_folder_full_of_data_is_counted_and_not_listed() {
    let tree = Tree::new();
    let data = UNREMARKABLE_MAX + 30;
    for index in 0..data {
        tree.file(&format!("data-{index:03}.json"));
    }
    tree.file("zz_plugin.py");
    tree.file_with("zz_plugin.py.plugin.toml", "", 0o644);
    symlink("nowhere", tree.path("zzz.py")).unwrap();
    let found = tree.scan();
    assert_eq!(tree.names(&found), ["zz_plugin.py"]);
    assert_eq!(tree.reason(&found, "zzz.py"), SkipReason::BrokenLink, "what matters is listed all the same");
    let last = found.skipped.last().unwrap();
    assert_eq!((&last.reason, last.path.clone()), (&SkipReason::More { count: 30 }, shown(tree.dir.path())));
    assert_eq!(found.skipped.len(), UNREMARKABLE_MAX + 2);
}

#[test]
fn entries_are_bounded_for_each_location() {
    let tree = Tree::new();
    let (full, other) = (tree.file("full/z.py").parent().unwrap().to_path_buf(), tree.file("other/z.py"));
    for index in 0..ENTRIES_MAX {
        fs::File::create(full.join(format!("_{index}"))).unwrap();
    }
    let host = Host { role: None, worker_id: 0 };
    let found = discover(&[full.clone(), other.clone()], &host, &Interpreters::default());
    assert_eq!(found.plugins, [other], "all other names come before it");
    assert_eq!(tree.reason(&found, "full"), SkipReason::TooMany);
}
