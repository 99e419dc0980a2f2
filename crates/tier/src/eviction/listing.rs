//! Learning what an adapter held before this server used it, and what others put there since.

use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_storage::{Failure, ListRequest};

use super::evictor::Evictor;

/// Objects asked for at a time.
const PAGE_ENTRIES: usize = 1_000;

/// First pause before an adapter is listed again; it doubles each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Pause before a listing for the sake of a store that was given up: it has to end first.
const UNSURE_PAUSE: Duration = Duration::from_secs(60);

impl Evictor {
    /// Lists the adapter until a listing was complete, and again after a store whose end is not known. Where
    /// others write, too, no listing is complete, and it is listed again and again, ever more rarely.
    pub(super) async fn keep_listed(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            // To be asked before: what it does not know at the start may be missing from the first pages.
            let is_complete = self.adapter.usage().is_complete;
            match self.list().await {
                Ok(()) => {
                    self.is_indexed.store(true, Ordering::Relaxed);
                    if is_complete {
                        self.is_unsure.notified().await;
                        pause = UNSURE_PAUSE;
                    }
                }
                Err(failure) => tracing::debug!("listing of `{}`: {failure}", self.adapter.kind()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn list(&self) -> Result<(), Failure> {
        let mut page_token = None;
        loop {
            let request = ListRequest { model_name: None, page_token, entries_max: PAGE_ENTRIES };
            let page = self.adapter.list(request).await?;
            let held: Vec<_> = page.entries.into_iter().map(|entry| (entry.key, entry.bytes)).collect();
            self.enter(&held, false);
            page_token = page.next_page_token;
            if page_token.is_none() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }
}
