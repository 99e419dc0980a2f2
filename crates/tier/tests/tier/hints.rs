//! Hints that keep objects out of the second tier.

use larder_core::cache::Selector;
use larder_engine::Hint;

use super::*;

#[tokio::test]
async fn what_a_hint_declines_is_not_written_and_the_rest_is() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(16);
    let fs = json!({ "type": "fs", "base_path": folder.path() });
    let tier = tier(&engine, vec![fs], StorePolicy::Default);
    let selector = Selector { model_name: Some("m".into()), cache_salt: None };
    let hour = Duration::from_secs(3_600);
    assert_eq!(engine.operator().hint("steer", Hint::DeclineL2(selector), hour).taken, 1);
    store(&engine, 1, 2);
    assert_eq!(engine.counters().declined_stores.get(), 2);
    engine.operator().withdraw_hints("steer");
    store(&engine, 2, 2);
    assert_eq!(engine.counters().declined_stores.get(), 2);
    while engine.operator().status().cache.leases > 0 {
        tokio::task::yield_now().await;
    }
    engine.operator().clear(false);
    assert_eq!((read_back(&engine, 1, 2).await, read_back(&engine, 2, 2).await), (0, 2));
    tier.stop();
}
