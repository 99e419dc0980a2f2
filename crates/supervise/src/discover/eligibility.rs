//! Which files run in which process, decided from the file name alone.
//!
//! Owns the naming rule `<ROLE>[_<WORKER_ID>][_<DESCRIPTION>].<EXTENSION>`. A process without a role (the
//! multiprocess server) runs every file; a process with a role runs the files meant for it, those meant for
//! `all`, and those whose first word is no role at all. Knows nothing of the file system.

use serde::Serialize;

/// The word that means "in every process", whatever its role.
const EVERYWHERE: &str = "all";

/// Role names that are understood as a prefix even where the process itself has another role.
pub(super) const KNOWN_ROLES: [&str; 2] = ["scheduler", "worker"];

/// The part a process plays, as used in plugin file names and in `LMCACHE_RUNTIME_PLUGIN_ROLE`.
///
/// Compared without regard to case; the environment shows it as given.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Role(String);

impl Role {
    /// Takes a role name such as `SCHEDULER` or `worker`.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The process that plugins run beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `None` switches the name filter off (spec/runtime-plugins.md 3.1: multiprocess mode).
    pub role: Option<Role>,
    /// Position among the workers; `-1` where the process is no worker.
    pub worker_id: i64,
}

/// Why a file name keeps a file from running in this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ineligible {
    /// The name asks for another role.
    Role {
        /// The role asked for, in upper case.
        requires: String,
    },
    /// The name asks for another worker of the right role.
    Worker {
        /// The worker asked for.
        requires: i64,
    },
}

/// Decides whether a file with this stem (the name without its last extension) runs beside `host`.
pub(super) fn eligible(stem: &str, host: &Host) -> Result<(), Ineligible> {
    let Some(role) = &host.role else { return Ok(()) };
    let stem = stem.to_lowercase();
    let own = role.as_str().to_lowercase();
    let mut parts = stem.split('_');
    let first = parts.next().unwrap_or_default();

    let names_a_role = first == EVERYWHERE || first == own || KNOWN_ROLES.contains(&first);
    if !names_a_role {
        return Ok(());
    }
    if first != EVERYWHERE && first != own {
        return Err(Ineligible::Role { requires: first.to_uppercase() });
    }
    // A worker is named only by the middle one of three parts: `worker_0.sh` is a description that happens to
    // be a number.
    let second = parts.next();
    let has_third = parts.next().is_some();
    match second.filter(|_| has_third).and_then(decimal) {
        Some(id) if id != host.worker_id => Err(Ineligible::Worker { requires: id }),
        _ => Ok(()),
    }
}

/// Digits only, as the peer's `isdigit`: no sign, no spaces.
fn decimal(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().unwrap_or(i64::MAX))
}

impl std::fmt::Display for Ineligible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role { requires } => write!(f, "requires role {requires}"),
            Self::Worker { requires } => write!(f, "requires worker {requires}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(role: &str, worker_id: i64) -> Host {
        Host { role: Some(Role::new(role)), worker_id }
    }

    #[test]
    fn names_from_the_documentation() {
        let other_role = |r: &str| Err(Ineligible::Role { requires: r.into() });
        let other_worker = |id| Err(Ineligible::Worker { requires: id });
        let table = [
            ("scheduler_foo_plugin", "SCHEDULER", -1, Ok(())),
            ("scheduler_foo_plugin", "WORKER", 0, other_role("SCHEDULER")),
            ("worker_0_test", "WORKER", 0, Ok(())),
            ("worker_0_test", "WORKER", 1, other_worker(0)),
            ("worker_0_test", "SCHEDULER", 0, other_role("WORKER")),
            ("all_plugin", "WORKER", 3, Ok(())),
            ("all_plugin", "SCHEDULER", -1, Ok(())),
            ("worker_metrics", "WORKER", 7, Ok(())),
            ("worker_metrics", "SCHEDULER", -1, other_role("WORKER")),
            ("my_plugin", "WORKER", 0, Ok(())),
            ("my_plugin", "SCHEDULER", -1, Ok(())),
            ("plugin", "WORKER", 0, Ok(())),
        ];
        for (stem, role, id, expected) in table {
            assert_eq!(eligible(stem, &host(role, id)), expected, "{stem} in {role} {id}");
        }
    }

    #[test]
    fn edges_of_the_rule() {
        assert_eq!(eligible("WORKER_0_Test", &host("worker", 0)), Ok(()), "case does not matter");
        assert_eq!(eligible("worker_0", &host("worker", 5)), Ok(()), "two parts never name a worker");
        assert_eq!(eligible("worker_x_test", &host("worker", 5)), Ok(()), "an id is digits");
        assert_eq!(eligible("worker_-1_test", &host("worker", 5)), Ok(()), "an id has no sign");
        assert_eq!(eligible("my_3_plugin", &host("worker", 5)), Ok(()), "no role, so no worker either");
        assert_eq!(eligible("all_3_plugin", &host("worker", 5)), Err(Ineligible::Worker { requires: 3 }));
        assert_eq!(eligible("", &host("worker", 5)), Ok(()));
        assert_eq!(eligible("_", &host("worker", 5)), Ok(()));
        assert_eq!(
            eligible("worker_99999999999999999999_x", &host("worker", 5)),
            Err(Ineligible::Worker { requires: i64::MAX })
        );
        assert_eq!(
            eligible("scheduler", &host("worker", 5)),
            Err(Ineligible::Role { requires: "SCHEDULER".into() })
        );
        assert_eq!(eligible("coordinator_x", &host("coordinator", 0)), Ok(()), "a role of one's own");
    }

    #[test]
    fn without_a_role_everything_runs() {
        let host = Host { role: None, worker_id: 0 };
        for stem in ["scheduler_foo", "worker_9_x", "server_3_name", "all_x", "x"] {
            assert_eq!(eligible(stem, &host), Ok(()), "{stem}");
        }
    }
}
