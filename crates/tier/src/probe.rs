//! Trying whether an adapter can store at all, before anybody believes it.

use std::sync::Arc;
use std::time::Duration;

use larder_storage::{Health, HealthState};

use super::roster::Attached;

/// First pause before an adapter that can't store is tried again; it doubles each time.
const RETRY_MIN: Duration = Duration::from_secs(5);

/// Longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// How long who attaches an adapter waits to hear whether it can store.
const ATTACH_PATIENCE: Duration = Duration::from_secs(2);

impl Attached {
    /// Whether it works and, if not, why. It is not ready before it has stored something.
    pub fn health(&self) -> Health {
        let mut health = self.built().adapter.health();
        let (state, reason) = match &*self.probe().borrow() {
            Some(Ok(())) => return health,
            None => (HealthState::Degraded, "nothing was stored yet to see whether that works".to_owned()),
            Some(Err(failure)) => (HealthState::after(failure), failure.to_string()),
        };
        if matches!(health.state, HealthState::Ready | HealthState::Degraded) {
            (health.state, health.reason) = (state, Some(reason));
        }
        health
    }

    /// Waits a moment for the first word on whether it can store.
    pub async fn probed(&self) {
        let mut probe = self.probe().subscribe();
        // An error would mean that the sender is gone, and it is here.
        _ = tokio::time::timeout(ATTACH_PATIENCE, probe.wait_for(Option::is_some)).await;
    }
}

/// Tries until it works.
pub(super) async fn probe(attached: Arc<Attached>) {
    let mut pause = RETRY_MIN;
    loop {
        let outcome = attached.built().adapter.probe().await;
        let before = attached.probe().send_replace(Some(outcome.clone()));
        match outcome {
            Ok(()) if matches!(before, Some(Err(_))) => {
                return tracing::info!("adapter `{}` can be stored to now", attached.id());
            }
            Ok(()) => return,
            Err(failure) if before.is_none() => tracing::warn!(
                "adapter `{}` can't be stored to: {failure}\nhint: it is tried again; `larder adapters ls` shows how it stands",
                attached.id()
            ),
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

#[cfg(test)]
mod tests {
    use larder_storage::conformance::FailingAdapter;
    use larder_storage::{Built, Failure, FailureKind, Op};
    use serde_json::Value as Json;
    use tokio::time::Instant;

    use super::super::roster::{PendingAdapter, Roster};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_can_not_store_is_tried_again_after_growing_pauses() {
        let double = FailingAdapter::new();
        double.fail_next(Op::Store, 8, Failure::permanent(FailureKind::Io, "no bucket").into());
        let adapter = Arc::clone(&double) as _;
        let built =
            Built { adapter, is_shared: false, counters: Arc::default(), breaker: None, checksum: None };
        let new =
            PendingAdapter { built, config: Json::Null, eviction: None, evictor: None, directory: None };
        let attached = Roster::default().add(new, None).unwrap();
        assert_eq!(attached.health().state, HealthState::Degraded, "nobody knows yet");
        let start = Instant::now();
        let tries = async {
            let mut tries = Vec::new();
            for count in 1..=9 {
                double.calls_reach(Op::Store, count).await;
                tries.push(start.elapsed().as_secs());
                if count == 2 {
                    assert_eq!(attached.health().state, HealthState::Unavailable);
                }
            }
            tries
        };
        let ((), tries) = tokio::join!(probe(Arc::clone(&attached)), tries);
        assert_eq!(tries, [0, 5, 15, 35, 75, 155, 315, 615, 915], "the clock is virtual");
        assert_eq!(attached.health().state, HealthState::Ready);
    }
}
