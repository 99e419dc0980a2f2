//! The audit trail: who commanded what, and how it ended.

use std::collections::VecDeque;

use jiff::Timestamp;
use larder_admin_api::plugins::{AuditEntry, AuditTrail};

/// Entries kept; older ones are counted and dropped. The log has them all.
pub(super) const AUDIT_ENTRIES_MAX: usize = 256;

/// Characters of a plugin's name that an entry keeps. Real names fit; the caller of a route can send
/// anything.
const NAME_CHARS_MAX: usize = 200;

/// The latest commands, oldest first.
#[derive(Debug, Default)]
pub(super) struct Audit {
    entries: VecDeque<AuditEntry>,
    total: u64,
}

impl Audit {
    /// Adds an entry and writes it to the log.
    pub(super) fn record(
        &mut self,
        caller: String,
        action: &'static str,
        plugin: Option<&str>,
        outcome: Result<String, String>,
    ) {
        self.total += 1;
        let plugin = plugin.map(|name| name.escape_debug().take(NAME_CHARS_MAX).collect::<String>());
        let done = outcome.is_ok();
        let outcome = outcome.unwrap_or_else(|error| error);
        let target = plugin.as_deref().map(|name| format!(" of `{name}`")).unwrap_or_default();
        tracing::info!("plugin {action}{target} for {caller}: {outcome}");
        if self.entries.len() == AUDIT_ENTRIES_MAX {
            self.entries.pop_front();
        }
        let time = Timestamp::now().to_string();
        self.entries.push_back(AuditEntry {
            sequence: self.total,
            time,
            caller,
            action: action.into(),
            plugin,
            done,
            outcome,
        });
    }

    /// The entries kept, oldest first.
    pub(super) fn trail(&self) -> AuditTrail {
        AuditTrail { total: self.total, entries: self.entries.iter().cloned().collect() }
    }

    /// Commands since the server started.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_counts_on() {
        let mut audit = Audit::default();
        let caller = "127.0.0.1:9".to_owned();
        for _ in 0..AUDIT_ENTRIES_MAX + 3 {
            audit.record(caller.clone(), "stop", Some("a"), Ok("stopped".into()));
        }
        let entries = audit.trail().entries;
        assert_eq!((entries.len(), audit.total()), (AUDIT_ENTRIES_MAX, AUDIT_ENTRIES_MAX as u64 + 3));
        assert_eq!((entries[0].sequence, entries.last().unwrap().sequence), (4, audit.total()));
    }

    #[test]
    fn a_name_from_outside_stays_on_its_line_and_short() {
        let mut audit = Audit::default();
        let name = format!("a\nforged{}", "x".repeat(10_000));
        audit.record("SIGHUP".into(), "stop", Some(&name), Err("no".into()));
        let entry = &audit.trail().entries[0];
        let kept = entry.plugin.as_deref().unwrap();
        assert!(kept.starts_with("a\\nforged") && kept.len() == NAME_CHARS_MAX && !entry.done, "{kept}");
    }
}
