//! `/metrics` of a server with every part there is, read strictly and held against its page in the reference.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails fails its test")]

mod plugin_rig;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use larder_testkit::exposition::{self, Family};
use plugin_rig::{Place, Server};

const PAGE: &str = "docs/reference/metrics.md";
const BEGIN: &str = "<!-- the table is held against a scrape by crates/larder/tests/metrics.rs -->\n";

/// A server with a tier that evicts and a plugin.
fn server(place: &Place) -> Server {
    place.plugin("quiet.sh", "#!/bin/sh\nwhile :; do sleep 1; done\n");
    let adapter = format!(
        r#"{{"type": "fs", "base_path": "{}", "max_capacity_gb": 0.01,
            "eviction": {{"eviction_policy": "LRU", "trigger_watermark": 0.8, "eviction_ratio": 0.2}}}}"#,
        place.path("tier").display()
    );
    let server = Server::start_with(place, &["--l2-adapter", &adapter], &[]);
    server.process.line("Launched runtime plugin");
    server
}

fn scrape(server: &Server) -> Vec<Family> {
    let (status, body) = server.request("GET", "/metrics", &[]);
    assert_eq!(status, 200);
    exposition::parse(&body).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// The table as it should be.
fn table(families: &[Family]) -> String {
    let rows: BTreeMap<&str, String> = families
        .iter()
        .map(|family| {
            let kind = family.kind.as_deref().unwrap_or_default();
            let help = family.help.as_deref().unwrap_or_default();
            (family.name.as_str(), format!("| `{}` | {kind} | {help} |", family.name))
        })
        .collect();
    let mut table = String::from("\n| family | type | meaning |\n|---|---|---|\n");
    for row in rows.values() {
        writeln!(table, "{row}").unwrap();
    }
    table
}

#[test]
fn a_scrape_is_valid_and_every_family_stands_in_the_reference() {
    let place = Place::new();
    let server = server(&place);
    let families = scrape(&server);
    for family in &families {
        assert!(family.help.as_deref().is_some_and(|help| !help.is_empty()), "{} says nothing", family.name);
        let counts = family.kind.as_deref() == Some("counter");
        assert_eq!(counts, family.name.ends_with("_total"), "{} is a {:?}", family.name, family.kind);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, kept) = page.split_once(BEGIN).unwrap();
    let fresh = table(&families);
    if std::env::var_os("LARDER_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{fresh}")).unwrap();
        return;
    }
    let only_in = |here: &str, there: &str| -> Vec<String> {
        here.lines().filter(|line| !there.lines().any(|other| other == *line)).map(str::to_owned).collect()
    };
    let (stale, missing) = (only_in(kept, &fresh), only_in(&fresh, kept));
    assert!(
        stale.is_empty() && missing.is_empty(),
        "run `cargo xtask gen`: {PAGE} has {stale:#?} and lacks {missing:#?}"
    );
}

#[test]
fn a_build_and_a_process_can_be_told_from_a_scrape() {
    let place = Place::new();
    let server = server(&place);
    let families = scrape(&server);
    let value = |name: &str| families.iter().find(|family| family.name == name).unwrap().samples[0].clone();
    let build = value("larder_build_info");
    assert_eq!((build.value, build.labels["version"].as_str()), (1.0, env!("CARGO_PKG_VERSION")));
    assert!(!build.labels["commit"].is_empty());
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
        assert!(value(name).value > 0.0, "{name}");
    }
}
