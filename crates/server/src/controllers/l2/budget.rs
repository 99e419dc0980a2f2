//! How much memory loads may take at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the budget is counted in.
const UNIT_BYTES: u64 = 64 << 10;

/// Longest a lookup waits for others' loads to end. Then it loads as much as there is room for, even if that is nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that may be loading, handed out in the order in which they are asked for.
#[derive(Debug)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    units_max: u32,
    shortened_chunks: AtomicU64,
}

/// Leave to load so many chunks, as long as it is held.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) chunks: usize,
    _units: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// A budget of at least one unit.
    pub(super) fn new(bytes: u64) -> Self {
        let units_max = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        let units = Arc::new(Semaphore::new(units_max as usize));
        Self { units, units_max, shortened_chunks: AtomicU64::new(0) }
    }

    /// Asks to load chunks of these sizes: all of them, or as many of the first ones as the budget ever or, after a wait, now allows.
    pub(super) async fn take(&self, chunk_bytes: &[u64]) -> Grant {
        let mut chunks = fitting(chunk_bytes, self.units_max);
        let mut wanted = units(&chunk_bytes[..chunks]);
        let waiting = Arc::clone(&self.units).acquire_many_owned(wanted);
        let mut granted = tokio::time::timeout(PATIENCE, waiting).await.ok().and_then(Result::ok);
        if granted.is_none() {
            let available = u32::try_from(self.units.available_permits()).unwrap_or(u32::MAX);
            chunks = fitting(&chunk_bytes[..chunks], available);
            wanted = units(&chunk_bytes[..chunks]);
            granted = Arc::clone(&self.units).try_acquire_many_owned(wanted).ok();
            chunks = if granted.is_some() { chunks } else { 0 };
        }
        self.shortened_chunks.fetch_add((chunk_bytes.len() - chunks) as u64, Ordering::Relaxed);
        Grant { chunks, _units: granted }
    }

    /// The most that may be loading.
    pub(super) fn bytes_max(&self) -> u64 {
        u64::from(self.units_max) * UNIT_BYTES
    }

    /// What is loading.
    pub(super) fn bytes_taken(&self) -> u64 {
        self.bytes_max().saturating_sub(self.units.available_permits() as u64 * UNIT_BYTES)
    }

    /// Chunks that lookups did without, because there was no room to load them.
    pub(super) fn shortened_chunks(&self) -> u64 {
        self.shortened_chunks.load(Ordering::Relaxed)
    }
}

/// How many of the first chunks fit into so many units.
fn fitting(chunk_bytes: &[u64], units_max: u32) -> usize {
    let most = u64::from(units_max) * UNIT_BYTES;
    let mut total = 0_u64;
    let fits = |bytes: &&u64| {
        total = total.saturating_add(**bytes);
        total <= most
    };
    chunk_bytes.iter().take_while(fits).count()
}

fn units(chunk_bytes: &[u64]) -> u32 {
    let bytes = chunk_bytes.iter().fold(0_u64, |total, bytes| total.saturating_add(*bytes));
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_fits_is_cut_and_the_rest_waits_its_turn() {
        let budget = Arc::new(Budget::new(4 * UNIT_BYTES));
        let first = budget.take(&[UNIT_BYTES; 6]).await;
        assert_eq!((first.chunks, budget.shortened_chunks(), budget.bytes_taken()), (4, 2, 4 * UNIT_BYTES));
        let (large, small) = (Arc::clone(&budget), Arc::clone(&budget));
        let large = tokio::spawn(async move { large.take(&[UNIT_BYTES; 3]).await });
        tokio::task::yield_now().await;
        let small = tokio::spawn(async move { small.take(&[UNIT_BYTES]).await });
        tokio::task::yield_now().await;
        assert!(!large.is_finished() && !small.is_finished());
        drop(first);
        let (large, small) = (large.await.unwrap(), small.await.unwrap());
        assert_eq!((large.chunks, small.chunks, budget.bytes_taken()), (3, 1, 4 * UNIT_BYTES));
        drop((large, small));
        assert_eq!(budget.bytes_taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_patience_a_lookup_takes_what_there_is() {
        let budget = Budget::new(4 * UNIT_BYTES);
        let held = budget.take(&[UNIT_BYTES; 3]).await;
        let late = budget.take(&[UNIT_BYTES; 2]).await;
        assert_eq!((late.chunks, budget.shortened_chunks()), (1, 1));
        let none = budget.take(&[UNIT_BYTES]).await;
        assert_eq!((none.chunks, budget.shortened_chunks()), (0, 2));
        drop((held, late, none));
        assert_eq!(budget.bytes_taken(), 0);
    }

    #[tokio::test]
    async fn nothing_to_load_waits_for_nothing() {
        let budget = Budget::new(1);
        let _all = budget.take(&[UNIT_BYTES]).await;
        assert_eq!(budget.take(&[]).await.chunks, 0);
    }
}
