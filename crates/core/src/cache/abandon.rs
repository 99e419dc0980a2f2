//! Giving up on a writer that may still write.

use super::parts::{EntryRef, State};
use super::table::Cache;

impl Cache {
    /// Stops counting on a staging object: others may write its chunk at once, instead of waiting until it is
    /// stale. Its memory stays as it is for whoever may still write to it, who commits or aborts it as ever.
    pub fn abandon(&mut self, entry: EntryRef, now_ms: u32) {
        let stale_since = now_ms.wrapping_sub(self.config.staging_fresh_ms);
        if let Some(found) = self.entries.get_mut(entry).filter(|found| found.state == State::Staging) {
            found.staged_ms = stale_since;
        }
    }
}
