//! The pool that outlives its server: what a server that fails, dies or stops leaves in `/dev/shm`.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod plugin_rig;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use plugin_rig::{Place, Running, larder};

/// A name of this test's own; nothing of it is left when the test ends.
struct Name(String);

impl Name {
    fn new(test: &str) -> Self {
        Self(format!("larder-{test}-{}", std::process::id()))
    }

    fn files(&self) -> [PathBuf; 2] {
        ["lmcache_l1_pool_", "larder_l1_slots_"]
            .map(|prefix| PathBuf::from("/dev/shm").join(format!("{prefix}{}", self.0)))
    }

    /// Which files there are now.
    fn inodes(&self) -> [Option<u64>; 2] {
        self.files().map(|path| fs::metadata(path).ok().map(|metadata| metadata.ino()))
    }

    /// A server of this name; a flag given later wins.
    fn server(&self, flags: &[&str]) -> Running {
        let mut command = larder(["server", "--eviction-policy", "LRU", "--shm-name", &self.0]);
        let given = |flag: &str| flags.contains(&flag);
        for (flag, value) in [("--l1-size-gb", "0.01"), ("--port", "0"), ("--http-port", "0")] {
            if !given(flag) {
                command.args([flag, value]);
            }
        }
        Running::start({
            command.args(flags).stdin(Stdio::null()).stdout(Stdio::null());
            command
        })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        for path in self.files() {
            _ = fs::remove_file(path);
        }
    }
}

const WARM: &str = "--l1-warm-restart";

#[test]
fn a_start_that_fails_leaves_the_pool_for_the_next_one() {
    let (name, place) = (Name::new("failed-start"), Place::new());
    let mut first = name.server(&[WARM]);
    first.line("HTTP on");
    first.signal("KILL");
    first.wait();
    let left = name.inodes();
    assert!(left.iter().all(Option::is_some), "{left:?}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    fs::write(place.path("file"), b"").unwrap();
    let adapter = format!(r#"{{"type": "fs", "base_path": "{}"}}"#, place.path("file").join("x").display());
    for (flags, code) in [
        (["--host", "127.0.0.1", "--port", &port], 3),
        (["--http-host", "127.0.0.1", "--http-port", &port], 3),
        (["--chunk-size", "256", "--l2-adapter", &adapter], 1),
        (["--chunk-size", "256", "--l1-size-gb", "1000000"], 1),
    ] {
        let mut failed = name.server(&[&[WARM], &flags[..]].concat());
        assert_eq!(failed.wait().code(), Some(code), "{flags:?}\n{}", failed.log());
        assert_eq!(name.inodes(), left, "{flags:?}");
    }

    let mut second = name.server(&[WARM]);
    second.line("warm restart: 0 objects taken over");
    second.line("HTTP on");
    assert!(!second.log().contains("starting cold"), "{}", second.log());
    assert_eq!(name.inodes()[0], left[0]);
    second.signal("TERM");
    second.wait();
    assert_eq!(name.inodes()[0], left[0], "an orderly stop leaves it, too");

    let mut cold = name.server(&[]);
    cold.line("HTTP on");
    cold.signal("TERM");
    cold.wait();
    assert_eq!(name.inodes(), [None, None], "without the flag nothing stays");
}
