//! What a start would meet on this machine, found out without starting.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use larder_pool::PoolError;
use larder_storage::{AdapterConfig, Backend};
use rustix::fs::Access;

use super::pool;
use larder_config::{Environment, Mistake, Notice, ServerConfig, Settings, SharedMemory};

/// What was found.
#[derive(Debug, Default)]
pub struct Preflight {
    /// What the start would fail of.
    pub mistakes: Vec<Mistake>,
    /// What it would warn of.
    pub warnings: Vec<Notice>,
}

/// Whether this machine has the memory for the pool. A remark, because the server may be meant for another
/// machine.
#[must_use]
pub fn memory_warning(config: &ServerConfig) -> Option<Notice> {
    match pool::check_memory(config) {
        Ok(room) => room.map(|room| pool::tight_memory(config, room)),
        Err(error) => Some(about(format!("on this machine {error}"), &error)),
    }
}

/// Tries everything that a start takes from this machine: memory, `/dev/shm`, ports, directories. Leaves
/// nothing behind.
#[must_use]
pub fn preflight(settings: &Settings, environment: &Environment, config: &ServerConfig) -> Preflight {
    let mut found = Preflight::default();
    let at = |name: &str, text: String| {
        Mistake::new(name.replace('-', "_"), settings.get(name).source.clone(), text)
    };
    let of_the_pool = |name: &str, error: &PoolError| Mistake {
        hint: error.hint().map(str::to_owned),
        ..at(name, error.to_string())
    };
    match pool::check_memory(config) {
        Ok(room) => found.warnings.extend(room.map(|room| pool::tight_memory(config, room))),
        Err(error) => found.mistakes.push(of_the_pool("l1-size-gb", &error)),
    }
    match shared_memory(config) {
        Err(error) if matches!(config.l1.shared_memory, SharedMemory::Named(_)) => {
            found.mistakes.push(of_the_pool("shm-name", &error));
        }
        Err(error) => {
            let text = format!("no shared memory, engines would send their data in messages: {error}");
            found.warnings.push(about(text, &error));
        }
        Ok(()) => {}
    }
    for (flag, host, port) in [
        ("port", config.mp.host.as_str(), config.mp.port),
        ("http-port", config.http.host.as_str(), config.http.port),
    ] {
        if let Err(error) = bind(host, port) {
            found.mistakes.push(at(flag, format!("`{host}:{port}` can't be listened on: {error}")));
        }
    }
    for (index, adapter) in config.l2.adapters.iter().enumerate() {
        let parsed = AdapterConfig::from_value(adapter, &|name| environment.get(name).cloned());
        let Some(directory) = parsed.ok().and_then(|adapter| directory(adapter.backend)) else { continue };
        if let Err(problem) = can_write(&directory) {
            let text = format!("`{}` {problem}", directory.display());
            let key = format!("l2_adapter[{index}].base_path");
            found.mistakes.push(Mistake::new(key, settings.get("l2-adapter").source.clone(), text));
        }
    }
    found
}

/// A remark about an error, with what can be done about it.
fn about(text: String, error: &PoolError) -> Notice {
    Notice { text, hint: error.hint().map(str::to_owned) }
}

fn shared_memory(config: &ServerConfig) -> Result<(), PoolError> {
    larder_pool::check_shared_memory(&pool::segment_options(config, config.l1.shared_memory.name()))
}

fn bind(host: &str, port: u16) -> std::io::Result<()> {
    let host = if host == "*" { "0.0.0.0" } else { host };
    TcpListener::bind((host, port)).map(drop)
}

fn directory(backend: Backend) -> Option<PathBuf> {
    match backend {
        Backend::Fs(options) => Some(options.base_path),
        Backend::FaultInject { inner, .. } => directory(inner.backend),
        _ => None,
    }
}

/// Whether files can be made in a directory that may have to be made first.
fn can_write(directory: &Path) -> Result<(), String> {
    let present =
        directory.ancestors().map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let Some(nearest) = present.into_iter().find(|path| path.exists()) else { return Ok(()) };
    if !nearest.is_dir() {
        return Err(format!("can't be a directory: `{}` is a file", nearest.display()));
    }
    rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("can't be written to: `{}`: {error}", nearest.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_may_still_have_to_be_made() {
        let folder = tempfile::tempdir().unwrap();
        assert!(can_write(&folder.path().join("a/b")).is_ok());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(can_write(&folder.path().join("file/b")).unwrap_err().contains("is a file"));
        assert!(can_write(Path::new("relative")).is_ok());
    }
}
