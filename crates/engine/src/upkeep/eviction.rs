//! Eviction before stores have to wait for it.

use std::sync::Arc;
use std::time::Duration;

use crate::Engine;
use larder_telemetry::tasks::Task;

/// Shortest time from one pass to the next, the peer's interval (`spec/cache-semantics.md` 10). In between
/// the pool may fill up: a store makes its own room then, one object at a time, and what is hot stays longer.
const INTERVAL: Duration = Duration::from_secs(1);

/// Makes passes while the pool is above its watermark, a bounded step at a time. When nothing can go any more
/// it waits for a change.
pub async fn evict(engine: Arc<Engine>, task: Arc<Task>) {
    loop {
        engine.eviction_due().await;
        task.count_run();
        loop {
            let evicted = pass(&engine).await;
            tokio::time::sleep(INTERVAL).await;
            if evicted == 0 {
                break;
            }
        }
    }
}

/// One pass; the number of objects that went. Tenants that have more than their quota give before anybody
/// else.
async fn pass(engine: &Engine) -> usize {
    let mut evicted = 0;
    loop {
        let step = engine.evict_over_quota();
        if step == 0 {
            break;
        }
        evicted += step;
        tokio::task::yield_now().await;
    }
    let quota = evicted + engine.eviction_quota();
    while evicted < quota {
        let step = engine.evict_step(quota - evicted);
        if step == 0 {
            break;
        }
        evicted += step;
        tokio::task::yield_now().await;
    }
    evicted
}
