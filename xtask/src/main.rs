//! The checks, tests and generators of this repository: `cargo xtask <command>`.
//!
//! One file a command. This crate knows no crate of the product: it drives `cargo`, `python3` and the built
//! binary from outside, so that a check can never be weakened by the code it checks.

// Tests count small things and may cast them.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_lossless,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod bench;
mod check;
mod conformance;
mod deviations;
mod gen_docs;
mod mutants;
mod peer_env;
mod shell;
mod tables;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask <command> [options]

  test          every check and every Rust test: format, clippy, tidy, generated docs, tests, doc tests, licences
  check         the checks alone, without running tests
  tidy          the repository's own invariants (dependency edges, unsafe, file length, texts)
  conformance   the server against the real client and the reference server (installs both from PyPI)
                  --no-vllm        leave the vLLM smoke run out (and do not install vLLM)
                  --no-peer        run against our server only
                  --no-build       use the release binary that is there
                  --fuzz-seconds N length of the fuzzed-frames drill (default 20)
                  --only NAME      one stage: scenarios, replay, bench-server, drills, mutants, smoke or quick-start
  mutants       changes the code in small ways and sees whether the tests notice (installs cargo-mutants from crates.io)
                  --changed [BASE] only files that differ from BASE (default: where the branch left main)
                  --package NAME   only this crate; may be repeated
                  --file PATH      only files whose path begins so; may be repeated
                  --jobs N         so many builds at a time
                  --minutes N      a random choice, for so long
                  --list           what would be changed
  bench         the macro benchmarks, ours and the reference server in one run; arguments go to bench/run.py
  gen           write every generated page of docs/reference; --check compares only
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let outcome = match command.as_str() {
        "test" => test::run(rest),
        "check" => check::run(rest),
        "tidy" => tidy::run(rest),
        "conformance" => conformance::run(rest),
        "mutants" => mutants::run(rest),
        "bench" => bench::run(rest),
        "gen" => gen_docs::run(rest),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(anyhow::anyhow!("unknown command `{other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
