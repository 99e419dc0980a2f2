//! The built binary from outside: exit codes, `config show`, `config check`, and the committed reference pages.

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
        assert!(
            fresh == kept,
            "docs/reference/{name} is out of date: run `larder config docs docs/reference`"
        );
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
