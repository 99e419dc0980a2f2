//! The suite: every check on a fresh, empty adapter.

use std::future::Future;
use std::sync::Arc;

use super::checks;
use crate::adapter::Adapter;

/// Runs every check.
///
/// `make_adapter` gives an adapter that holds nothing and has room for at least 64 MiB; it is called once per
/// check.
///
/// # Panics
///
/// When a check fails, with what was expected.
pub async fn run<F, Fut>(make_adapter: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Adapter>>,
{
    checks::objects_come_back(&*make_adapter().await).await;
    checks::what_is_not_held_is_absent(&*make_adapter().await).await;
    checks::answers_are_in_order(&*make_adapter().await).await;
    checks::storing_again_moves_nothing(&*make_adapter().await).await;
    checks::locks_keep_deletes_away(&*make_adapter().await).await;
    checks::forced_deletes_take_locked_objects(&*make_adapter().await).await;
    checks::an_abandoned_lookup_locks_nothing(&*make_adapter().await).await;
    checks::a_buffer_of_another_length_is_not_filled_silently(&*make_adapter().await).await;
    checks::buffers_are_given_back(&*make_adapter().await).await;
    checks::listing_reaches_everything(&*make_adapter().await).await;
    checks::usage_follows(&*make_adapter().await).await;
    checks::empty_batches_are_answered(&*make_adapter().await).await;
    checks::a_probe_leaves_nothing(&*make_adapter().await).await;
    checks::concurrent_callers_see_whole_objects(make_adapter().await).await;
    checks::a_closed_adapter_says_so(&*make_adapter().await).await;
}
