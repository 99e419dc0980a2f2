//! The built binary from outside: exit codes, `config show`, `config check`, and the committed reference
//! pages.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::Path;
use std::process::{Command, Output};

fn larder(words: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_larder"))
        .args(words)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn exit_codes_are_as_documented() {
    for (words, code) in [
        (&["version"][..], 0),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["server", "--help"], 0),
        (&[], 2),
        (&["nonsense"], 2),
        (&["server", "--no-such-flag"], 2),
        (&["server", "--port"], 2),
        (&["server", "--port", "abc", "--l1-size-gb", "1", "--eviction-policy", "LRU"], 2),
        (&["server"], 1),
        (&["server", "--l1-size-gb", "1", "--eviction-policy", "MRU"], 2),
        (&["server", "--l1-size-gb", "1", "--eviction-policy", "LRU", "--quota", "alice"], 1),
        (
            &[
                "config",
                "check",
                "--l1-size-gb",
                "1",
                "--eviction-policy",
                "IsolatedLRU",
                "--quota",
                "a=1",
                "b=0",
            ],
            0,
        ),
        (&["config", "check", "--l1-size-gb", "1", "--eviction-policy", "LRU"], 0),
        (&["config", "check", "--chunk-size", "0"], 1),
        (&["bench", "policy", "--requests", "50", "--capacity", "10%", "--capacity", "9"], 0),
        (&["bench", "policy", "--capacity", "-1%"], 2),
        (&["bench", "policy", "--policies", "LRU,MRU"], 2),
        (&["bench", "policy", "--trace", "no/such/trace"], 1),
    ] {
        let output = larder(words, &[]);
        assert_eq!(output.status.code(), Some(code), "{words:?}\n{}", stderr(&output));
    }
}

#[test]
fn a_server_without_its_two_required_flags_says_what_to_add() {
    let text = stderr(&larder(&["server"], &[]));
    assert!(text.starts_with("error: invalid configuration: 2 mistakes\n"), "{text}");
    assert!(
        text.contains("hint: add `--l1-size-gb 10`") && text.contains("hint: add `--eviction-policy LRU`")
    );
}

#[test]
fn help_lists_flags_under_their_headings() {
    let text = stdout(&larder(&["server", "--help"], &[]));
    let places: Vec<Option<usize>> = [
        "\nLarder:",
        "\nCache server:",
        "\nRuntime plugins:",
        "\nL1 memory:",
        "\nAdmin HTTP:",
        "\nCoordinator:",
    ]
    .iter()
    .map(|heading| text.find(heading))
    .collect();
    assert!(places.iter().all(Option::is_some), "{places:?}");
    assert!(places.is_sorted(), "{places:?}");
    assert!(!text.contains("coordinator-l2-event-reporting"));
}

#[test]
fn help_shows_what_works_and_the_rest_on_request() {
    let text = stdout(&larder(&["server", "--help"], &[]));
    assert!(!text.contains("Not available yet") && !text.contains("No effect"), "{text}");
    assert!(text.contains("--l1-size-gb") && text.contains("--help-all"), "{text}");
    let all = stdout(&larder(&["server", "--help-all"], &[]));
    assert!(all.contains("Not available yet") && all.contains("No effect"), "{all}");
    assert!(all.contains("larder server --l1-size-gb GIB"), "{all}");
    for command in ["show", "check"] {
        let text = stdout(&larder(&["config", command, "--help"], &[]));
        assert!(text.lines().count() < 30 && text.contains("--help-all"), "{text}");
        let all = stdout(&larder(&["config", command, "--help-all"], &[]));
        assert!(all.contains("--l1-size-gb") && all.contains(&format!("larder config {command}")), "{all}");
    }
}

#[test]
fn a_short_flag_that_could_be_several_is_called_ambiguous() {
    for (word, meant) in [
        ("--l1-use", &["--l1-use-lazy", "--l1-use-hugepages"][..]),
        ("--ev", &["--eviction-policy", "--event-bus-queue-size"]),
        ("--no-l1-use", &["--no-l1-use-lazy", "--no-l1-use-hugepages"]),
    ] {
        let output = larder(&["server", word, "1"], &[]);
        assert_eq!(output.status.code(), Some(2));
        let text = stderr(&output);
        assert!(text.starts_with(&format!("error: ambiguous flag `{word}`: could be ")), "{text}");
        assert!(meant.iter().all(|flag| text.contains(flag)), "{text}");
    }
    assert!(!stderr(&larder(&["server", "--nonsense"], &[])).contains("ambiguous"));
}

/// Flags of a server that any machine would run.
const SMALL: [&str; 8] =
    ["--l1-size-gb", "0.01", "--eviction-policy", "LRU", "--port", "0", "--http-port", "0"];

/// As [`SMALL`], with a pool that no machine has the memory for.
const HUGE: [&str; 8] =
    ["--l1-size-gb", "1048576", "--eviction-policy", "LRU", "--port", "0", "--http-port", "0"];

#[test]
fn a_pool_beyond_the_memory_of_the_machine_is_refused_before_it_is_touched() {
    let output = larder(&[&["server"], &HUGE[..]].concat(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("a pool of `1048576 GiB` does not fit in memory"), "{text}");
    assert!(text.contains("are free on this machine") || text.contains("control group"), "{text}");
    assert!(text.contains("hint: lower --l1-size-gb"), "{text}");

    let checked = larder(&[&["config", "check"], &HUGE[..]].concat(), &[]);
    assert_eq!(checked.status.code(), Some(0), "it may be meant for another machine");
    assert!(stderr(&checked).contains("does not fit in memory"), "{}", stderr(&checked));
    let tried = larder(&[&["config", "check", "--environment"], &HUGE[..]].concat(), &[]);
    assert_eq!(tried.status.code(), Some(1), "{}", stderr(&tried));
}

#[test]
fn a_check_prints_what_a_start_would_warn_of_and_can_be_told_to_fail() {
    let adapter = r#"{"type": "fs", "base_path": "/tmp/x", "max_capacity_gib": 5}"#;
    let words = [&["config", "check", "--l2-adapter", adapter], &SMALL[..]].concat();
    let output = larder(&words, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("did you mean `max_capacity_gb`?"), "{}", stderr(&output));
    assert_eq!(stdout(&output), "the configuration is valid, with 1 warning\n");
    let strict = larder(&[&["config", "check", "--deny-warnings"], &words[2..]].concat(), &[]);
    assert_eq!(strict.status.code(), Some(1));
    let clean = larder(&[&["config", "check", "--deny-warnings"], &SMALL[..]].concat(), &[]);
    assert!(clean.status.success(), "{}", stderr(&clean));
}

#[test]
fn a_check_of_the_environment_tries_ports_and_directories() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let adapter = format!(r#"{{"type": "fs", "base_path": "{}/below"}}"#, file.display());
    let words = [
        &["config", "check", "--environment", "--l2-adapter", &adapter][..],
        &SMALL[..],
        &["--port", &port, "--host", "127.0.0.1"],
    ]
    .concat();
    let output = larder(&words, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.starts_with("error: invalid configuration: 2 mistakes\n"), "{text}");
    assert!(text.contains("--port (command line)") && text.contains("can't be listened on"), "{text}");
    assert!(text.contains("--l2-adapter[0].base_path (command line)"), "{text}");
    let fine = larder(&[&["config", "check", "--environment"], &SMALL[..]].concat(), &[]);
    assert!(fine.status.success(), "{}", stderr(&fine));
}

#[test]
fn a_taken_port_is_found_before_the_pool_is_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (flag, hint) in
        [("--http-port", "--http-port"), ("--port", "another with --port; is another server running?")]
    {
        let output = larder(&[&["server"], &SMALL[..], &["--host", "127.0.0.1", flag, &port]].concat(), &[]);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        let text = stderr(&output);
        assert!(text.contains(hint) && !text.contains("L1: ") && !text.contains("is running"), "{text}");
    }
}

#[test]
fn a_start_that_fails_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let adapter = format!(r#"{{"type": "fs", "base_path": "{}"}}"#, file.display());
    for (flags, code, told, hint) in [
        (
            ["--host", "no.such.host.invalid"],
            3,
            "RPC: bind",
            "hint: --host takes an address or name of this machine",
        ),
        (["--http-host", "192.0.2.1"], 3, "HTTP: can't listen", "hint: --http-host takes an address"),
        (
            ["--l2-adapter", &adapter],
            1,
            "L2: adapter 0: create directory",
            "hint: `larder config check --environment`",
        ),
    ] {
        let output = larder(&[&["server"], &SMALL[..], &flags[..]].concat(), &[]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(told) && stderr(&output).contains(hint), "{}", stderr(&output));
    }
}

#[test]
fn the_version_names_its_commit() {
    let text = stdout(&larder(&["version"], &[]));
    let commit = text.strip_prefix("larder 0.1.0 (").and_then(|rest| rest.strip_suffix(")\n"));
    assert!(commit.is_some_and(|commit| !commit.is_empty()), "{text}");
    assert_eq!(stdout(&larder(&["--version"], &[])), text);
}

#[test]
fn settings_shown_with_their_secrets_can_be_used_and_those_without_cannot() {
    let adapter = r#"{"type": "resp", "host": "h", "port": 1, "password": "t0k3n"}"#;
    let words = [&["config", "show", "--l2-adapter", adapter], &SMALL[..]].concat();
    let folder = tempfile::tempdir().unwrap();
    let checked = |name: &str, more: &[&str]| {
        let file = folder.path().join(name);
        std::fs::write(&file, stdout(&larder(&[&words[..], more].concat(), &[]))).unwrap();
        larder(&["config", "check", "--config", file.to_str().unwrap()], &[])
    };
    let hidden = checked("hidden.toml", &[]);
    assert_eq!(hidden.status.code(), Some(1));
    assert!(stderr(&hidden).contains("`<redacted>` stands for a credential"), "{}", stderr(&hidden));
    let shown = checked("shown.toml", &["--show-secrets"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
}

#[test]
fn the_reference_lists_every_command() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/command-line.md");
    let page = std::fs::read_to_string(page).unwrap();
    for command in ["larder server", "larder adapters ls", "larder bench policy", "larder config docs"] {
        assert!(page.contains(&format!("| `{command}` |")), "{command}");
    }
}

#[test]
fn shown_settings_can_be_read_back() {
    let words = [
        "--l1-size-gb",
        "2",
        "--eviction-policy",
        "noop",
        "--no-l1-use-lazy",
        "--runtime-plugin-locations",
        "a b",
        "it's",
        "--runtime-plugin-config",
        r#"{"n": 1, "s": "it's \"é\""}"#,
    ];
    let first = larder(&[&["config", "show"], &words[..]].concat(), &[("LARDER_PORT", "7")]);
    assert!(first.status.success(), "{}", stderr(&first));
    assert!(stdout(&first).contains("\nport = 7  # environment LARDER_PORT\n"), "{}", stdout(&first));
    assert!(stdout(&first).contains("\nl1_use_lazy = false  # command line\n"));
    assert!(stdout(&first).contains("\nchunk_size = 256  # default\n"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("larder.toml");
    std::fs::write(&file, stdout(&first)).unwrap();
    let second = larder(&["config", "show", "--config", file.to_str().unwrap()], &[]);
    assert!(second.status.success(), "{}", stderr(&second));
    let values = |output: &Output| -> Vec<String> {
        let text = stdout(output);
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once("  # ").map_or(line, |(value, _)| value).to_owned())
            .collect()
    };
    assert_eq!(values(&first), values(&second));
}

#[test]
fn shown_settings_hide_credentials_in_both_formats() {
    let extra = r#"{"api_token": "t0k3n", "url": "http://me:t0k3n@host/"}"#;
    for format in ["toml", "json"] {
        let words = [
            "config",
            "show",
            "--format",
            format,
            "--l1-size-gb",
            "1",
            "--eviction-policy",
            "LRU",
            "--runtime-plugin-config",
            extra,
            "--l2-adapter",
            r#"{"type": "s3", "aws_secret_access_key": "t0k3n"}"#,
        ];
        let output = larder(&words, &[]);
        assert_eq!(output.status.code(), Some(1), "the adapter is refused");
        assert!(stdout(&output).contains("<redacted>"));
        assert!(!stdout(&output).contains("t0k3n") && !stderr(&output).contains("t0k3n"));
    }
}

#[test]
fn json_output_carries_values_sources_and_mistakes() {
    let output =
        larder(&["config", "show", "--format", "json", "--chunk-size", "0"], &[("LARDER_HOST", "h")]);
    let document: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        document["settings"]["host"],
        serde_json::json!({"value": "h", "source": "environment LARDER_HOST"})
    );
    assert_eq!(document["mistakes"].as_array().unwrap().len(), 3);
}

#[test]
fn the_committed_reference_is_current() {
    let folder = tempfile::tempdir().unwrap();
    let output = larder(&["config", "docs", folder.path().to_str().unwrap()], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    for name in ["command-line.md", "configuration.md"] {
        let fresh = std::fs::read_to_string(folder.path().join(name)).unwrap();
        let kept = std::fs::read_to_string(committed.join(name)).unwrap_or_default();
        assert!(fresh == kept, "docs/reference/{name} is out of date: run `cargo xtask gen`");
    }
}

#[test]
fn the_example_of_the_reference_is_valid() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/configuration.md");
    let page = std::fs::read_to_string(page).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("larder.toml");
    std::fs::write(&file, example).unwrap();
    let output = larder(&["config", "check", "--config", file.to_str().unwrap()], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
}
