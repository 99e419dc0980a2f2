//! `cargo xtask conformance`: our server against the real client, next to the reference server.
//!
//! Everything under tests/ is black box: it starts the release binary and talks to its sockets.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::mutants;
use crate::peer_env::PeerEnv;
use crate::shell::{self, Steps};

/// The stages in the order they run: cheap and telling first.
const STAGES: [&str; 7] =
    ["scenarios", "replay", "bench-server", "drills", "mutants", "smoke", "quick-start"];

/// The stages that run vLLM.
const VLLM_STAGES: [&str; 2] = ["smoke", "quick-start"];

/// How long mutants of the files that changed are tried.
const MUTANTS_MINUTES: &str = "20";

struct Options {
    vllm: bool,
    peer: bool,
    build: bool,
    fuzz_seconds: u32,
    only: Option<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { vllm: true, peer: true, build: true, fuzz_seconds: 20, only: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("`{arg}` needs a value"));
            match arg.as_str() {
                "--vllm" => options.vllm = true,
                "--no-vllm" => options.vllm = false,
                "--no-peer" => options.peer = false,
                "--no-build" => options.build = false,
                "--fuzz-seconds" => {
                    let text = value()?;
                    options.fuzz_seconds = text.parse().with_context(|| format!("`{text}` is no number"))?;
                }
                "--only" => options.only = Some(value()?.clone()),
                other => bail!("unknown option `{other}` of `conformance`"),
            }
        }
        if let Some(only) = options.only.as_deref().filter(|only| !STAGES.contains(only)) {
            bail!("unknown stage `{only}`: expected one of {}", STAGES.join(", "));
        }
        Ok(options)
    }

    fn runs(&self, stage: &str) -> bool {
        match &self.only {
            Some(only) => only == stage,
            None => self.vllm || !VLLM_STAGES.contains(&stage),
        }
    }
}

/// Builds, installs, and runs the stages that were asked for.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    if options.build {
        shell::run(shell::cargo().args(["build", "--release", "--package", "larder"]))?;
    }
    let ours = binary()?;
    let peer = PeerEnv::ready(VLLM_STAGES.iter().any(|stage| options.runs(stage)))?;
    let mut steps = Steps::default();
    if options.runs("scenarios") {
        steps.step("scenarios", || {
            let mut command = pytest(&peer, &ours);
            command.arg("tests/python/scenarios");
            if options.peer {
                command.arg(format!("--server=peer={} server", peer.tool("lmcache").display()));
            }
            shell::run(&mut command)
        });
    }
    if options.runs("replay") {
        steps.step("trace replay", || shell::run(pytest(&peer, &ours).arg("tests/python/replay")));
    }
    if options.runs("bench-server") {
        steps.step("bench server", || shell::run(pytest(&peer, &ours).arg("tests/python/tools")));
    }
    if options.runs("drills") {
        steps.step("drills", || {
            let seconds = format!("--fuzz-seconds={}", options.fuzz_seconds);
            shell::run(pytest(&peer, &ours).arg(seconds).arg("tests/python/drills"))
        });
    }
    if options.runs("mutants") {
        let args = ["--changed", "--minutes", MUTANTS_MINUTES].map(str::to_owned);
        steps.step("mutants of what changed", || mutants::run(&args));
    }
    if options.runs("smoke") {
        steps.step("vLLM smoke run", || shell::run(pytest(&peer, &ours).arg("tests/e2e/test_vllm.py")));
    }
    if options.runs("quick-start") {
        steps.step("quick start without a GPU", || {
            shell::run(pytest(&peer, &ours).arg("tests/e2e/test_quickstart.py"))
        });
    }
    steps.finish()
}

fn pytest(peer: &PeerEnv, ours: &std::path::Path) -> Command {
    let mut command = peer.python();
    command.args(["-m", "pytest", "-c", "tests/pytest.ini", "--rootdir", "tests"]);
    command.arg(format!("--server=larder={} server", ours.display()));
    command
}

/// The release binary, wherever the target directory is.
fn binary() -> Result<PathBuf> {
    let text = shell::output(shell::cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("reading `cargo metadata`")?;
    let target =
        metadata["target_directory"].as_str().context("`cargo metadata` names no target directory")?;
    let path = PathBuf::from(target).join("release/larder");
    if !path.exists() {
        bail!("`{}` is missing: run without --no-build", path.display());
    }
    Ok(path)
}
