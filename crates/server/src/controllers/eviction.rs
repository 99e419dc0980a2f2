//! Eviction before stores have to wait for it.

use std::sync::Arc;
use std::time::Duration;

use super::tasks::Task;
use crate::engine::Engine;

/// Pause after a pass that could not evict what it should: what is left is under lease.
const STUCK_DELAY: Duration = Duration::from_millis(100);

/// Evicts whenever the pool is above its watermark, a bounded step at a time.
pub async fn evict(engine: Arc<Engine>, task: Arc<Task>) {
    loop {
        engine.eviction_due().await;
        task.count_run();
        let quota = engine.eviction_quota();
        let mut evicted = 0;
        while evicted < quota {
            let step = engine.evict_step(quota - evicted);
            evicted += step;
            if step == 0 {
                tokio::time::sleep(STUCK_DELAY).await;
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}
