//! `cargo xtask bench`: the macro benchmarks, with the release binary and the reference server in one run.

use anyhow::Result;

use crate::peer_env::PeerEnv;
use crate::shell;

/// Builds the release binary and hands the remaining arguments to bench/run.py.
pub(crate) fn run(args: &[String]) -> Result<()> {
    shell::run(shell::cargo().args(["build", "--release", "--package", "larder"]))?;
    let peer = PeerEnv::ready(false)?;
    shell::run(peer.python().arg("bench/run.py").args(args))
}
