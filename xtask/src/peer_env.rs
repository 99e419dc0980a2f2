//! The Python environment with the real client and the reference server, made once from PyPI.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::shell;

/// Names an environment that is there already; without it `.peer-venv` in the repository is used and made.
const VENV_VARIABLE: &str = "LARDER_PEER_VENV";

/// A virtual environment that has what was asked for.
pub(crate) struct PeerEnv {
    folder: PathBuf,
}

impl PeerEnv {
    /// Installs what is missing; `with_vllm` also wants the CPU build of vLLM.
    pub(crate) fn ready(with_vllm: bool) -> Result<Self> {
        let folder =
            std::env::var_os(VENV_VARIABLE).map_or_else(|| shell::root().join(".peer-venv"), PathBuf::from);
        let mut setup = shell::program("python3");
        setup.arg("tests/python/setup.py").arg(&folder);
        if with_vllm {
            setup.arg("--vllm");
        }
        shell::run(&mut setup)?;
        Ok(Self { folder })
    }

    /// The environment's interpreter, with usage reports of everything in it switched off.
    pub(crate) fn python(&self) -> Command {
        let mut command = shell::program(self.folder.join("bin/python"));
        command.env("LMCACHE_TRACK_USAGE", "false").env("DO_NOT_TRACK", "1").env("VLLM_NO_USAGE_STATS", "1");
        command
    }

    /// A program installed in the environment.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }
}
