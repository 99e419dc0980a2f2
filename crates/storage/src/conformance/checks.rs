//! The checks, one behaviour each.
#![expect(clippy::panic, reason = "a check reports by panicking")]

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use larder_core::key::ObjectKey;

use super::fixtures::{load_items, object_bytes, object_key, store_items};
use crate::adapter::{Adapter, DeleteMode, ListRequest, LoadItem, Seal, StoreItem};
use crate::buffer::{HeapBuffer, LentBuffer as _};
use crate::error::{Busy, Error, FailureKind};
use crate::report::HealthState;

const LEN: usize = 10_000;

pub(super) async fn objects_come_back(adapter: &dyn Adapter) {
    for (index, len) in [1, 4095, 4096, 65_536, 1 << 20, 3_000_001].into_iter().enumerate() {
        let buffer = HeapBuffer::copy_of(&object_bytes(index, len));
        let Ok(checksum) = buffer.checksum() else { panic!("a heap buffer is readable") };
        let seal = Seal { checksum, layout: 7 };
        let item = StoreItem { key: object_key(index), buffer, seal: Some(seal) };
        let stored = adapter.store(vec![item]).await;
        assert_eq!(stored.len(), 1, "one answer per key");
        assert!(stored[0].is_ok(), "object of {len} bytes is stored: {stored:?}");
        let found = adapter.lookup_and_lock(vec![object_key(index)]).await;
        match &found[0] {
            Ok(found) => {
                assert!(found.bytes.is_none_or(|bytes| bytes == len as u64), "size of {len} bytes: {found:?}")
            }
            Err(error) => panic!("object of {len} bytes is found: {error}"),
        }
        let (items, buffers) = load_items(index..index + 1, len);
        let loaded = adapter.load(items).await;
        match &loaded[0] {
            Ok(loaded) => {
                assert!(loaded.seal.is_none_or(|kept| kept == seal), "seal is the one stored: {loaded:?}")
            }
            Err(error) => panic!("object of {len} bytes is loaded: {error}"),
        }
        assert!(
            buffers[0].to_vec() == object_bytes(index, len),
            "bytes of an object of {len} bytes are those stored"
        );
        adapter.unlock(&[object_key(index)]);
    }
}

pub(super) async fn what_is_not_held_is_absent(adapter: &dyn Adapter) {
    let key = object_key(0);
    assert_eq!(adapter.lookup_and_lock(vec![key.clone()]).await, [Err(Error::Absent)], "lookup");
    assert_eq!(adapter.load(load_items(0..1, LEN).0).await, [Err(Error::Absent)], "load");
    assert_eq!(
        adapter.delete(vec![key.clone()], DeleteMode::IfUnlocked).await,
        [Err(Error::Absent)],
        "delete"
    );
    adapter.unlock(&[key]);
    assert_eq!(adapter.usage().objects_locked, 0, "nothing absent is locked");
    // One field of a name differs at a time: each makes another object.
    adapter.store(store_items(0..1, LEN)).await;
    let key = object_key(0);
    let other =
        |model: &str, rank, group, salt: &str| ObjectKey::new(key.chunk_hash, model, rank, group, salt);
    let (model, rank, salt) =
        (&**key.namespace.model_name(), key.namespace.kv_rank(), &**key.namespace.cache_salt());
    let others = [
        other(model, rank + 1, 0, salt),
        other(model, rank, 1, salt),
        other(model, rank, 0, "other"),
        other("org/model2", rank, 0, salt),
        Ok(key.namespace.key([0xff; 32].into())),
    ];
    for other in others.into_iter().flatten() {
        let found = adapter.lookup_and_lock(vec![other.clone()]).await;
        assert_eq!(found, [Err(Error::Absent)], "{other:?} is another object");
    }
}

pub(super) async fn answers_are_in_order(adapter: &dyn Adapter) {
    let even: Vec<StoreItem> =
        (0..300).step_by(2).flat_map(|index| store_items(index..index + 1, 100)).collect();
    assert!(adapter.store(even).await.iter().all(Result::is_ok));
    let keys: Vec<ObjectKey> = (0..300).map(object_key).collect();
    let (items, buffers) = load_items(0..300, 100);
    let found = adapter.lookup_and_lock(keys.clone()).await;
    let loaded = adapter.load(items).await;
    assert_eq!((found.len(), loaded.len()), (300, 300), "one answer per key");
    for index in 0..300 {
        assert_eq!(found[index].is_ok(), index % 2 == 0, "lookup of key {index}: {:?}", found[index]);
        assert_eq!(loaded[index].is_ok(), index % 2 == 0, "load of key {index}: {:?}", loaded[index]);
        if index % 2 == 0 {
            assert_eq!(buffers[index].to_vec(), object_bytes(index, 100), "bytes of key {index}");
        }
    }
    adapter.unlock(&keys);
}

pub(super) async fn storing_again_moves_nothing(adapter: &dyn Adapter) {
    let first = adapter.store(store_items(0..1, LEN)).await;
    assert!(matches!(&first[0], Ok(stored) if stored.bytes_written == LEN as u64), "first: {first:?}");
    let again = adapter.store(store_items(0..1, LEN)).await;
    assert!(matches!(&again[0], Ok(stored) if stored.bytes_written == 0), "again: {again:?}");
}

pub(super) async fn locks_keep_deletes_away(adapter: &dyn Adapter) {
    adapter.store(store_items(0..1, LEN)).await;
    let key = vec![object_key(0)];
    for _ in 0..2 {
        assert!(adapter.lookup_and_lock(key.clone()).await[0].is_ok());
    }
    for locks in [2, 1] {
        let refused = adapter.delete(key.clone(), DeleteMode::IfUnlocked).await;
        assert_eq!(refused, [Err(Error::Busy(Busy::Locked))], "delete with {locks} locks held");
        adapter.unlock(&key);
    }
    let deleted = adapter.delete(key.clone(), DeleteMode::IfUnlocked).await;
    assert!(deleted[0].is_ok(), "delete with no lock held: {deleted:?}");
    assert_eq!(
        adapter.lookup_and_lock(key.clone()).await,
        [Err(Error::Absent)],
        "deleted objects are absent"
    );
    assert!(adapter.store(store_items(0..1, LEN)).await[0].is_ok(), "a deleted object can be stored again");
    assert!(adapter.lookup_and_lock(key).await[0].is_ok(), "and is found");
}

pub(super) async fn forced_deletes_take_locked_objects(adapter: &dyn Adapter) {
    adapter.store(store_items(0..2, LEN)).await;
    for (index, mode) in [DeleteMode::Forced, DeleteMode::Quarantine].into_iter().enumerate() {
        let key = vec![object_key(index)];
        assert!(adapter.lookup_and_lock(key.clone()).await[0].is_ok());
        let deleted = adapter.delete(key.clone(), mode).await;
        assert!(deleted[0].is_ok(), "{mode:?} of a locked object: {deleted:?}");
        assert_eq!(
            adapter.load(load_items(index..index + 1, LEN).0).await,
            [Err(Error::Absent)],
            "load after {mode:?}"
        );
        adapter.unlock(&key);
        assert_eq!(adapter.lookup_and_lock(key).await, [Err(Error::Absent)], "lookup after {mode:?}");
    }
}

pub(super) async fn an_abandoned_lookup_locks_nothing(adapter: &dyn Adapter) {
    adapter.store(store_items(0..4, LEN)).await;
    let keys: Vec<ObjectKey> = (0..4).map(object_key).collect();
    drop(adapter.lookup_and_lock(keys.clone()));
    let is_answered = {
        let mut lookup = pin!(adapter.lookup_and_lock(keys.clone()));
        poll_fn(|context| Poll::Ready(lookup.as_mut().poll(context).is_ready())).await
    };
    if is_answered {
        adapter.unlock(&keys);
    }
    let deleted = adapter.delete(keys, DeleteMode::IfUnlocked).await;
    assert!(deleted.iter().all(Result::is_ok), "nothing is locked: {deleted:?}");
}

pub(super) async fn a_buffer_of_another_length_is_not_filled_silently(adapter: &dyn Adapter) {
    adapter.store(store_items(0..1, LEN)).await;
    let longer = adapter.load(load_items(0..1, LEN + 1).0).await;
    let is_mismatch =
        |error: &Error| matches!(error, Error::Failed(failure) if failure.kind == FailureKind::Mismatch);
    assert!(longer[0].as_ref().is_err_and(is_mismatch), "a longer buffer: {longer:?}");
}

pub(super) async fn buffers_are_given_back(adapter: &dyn Adapter) {
    let buffers: Vec<_> = (0..8).map(|index| HeapBuffer::copy_of(&object_bytes(index, LEN))).collect();
    let items = buffers.iter().enumerate().map(|(index, buffer)| StoreItem {
        key: object_key(index),
        buffer: Arc::<HeapBuffer>::clone(buffer),
        seal: None,
    });
    adapter.store(items.collect()).await;
    // Half of these are absent: a failed load gives its buffer back as well.
    let loads = buffers.iter().enumerate().map(|(index, buffer)| LoadItem {
        key: object_key(index * 2),
        buffer: Arc::<HeapBuffer>::clone(buffer),
    });
    adapter.load(loads.collect()).await;
    for (index, buffer) in buffers.iter().enumerate() {
        assert_eq!(Arc::strong_count(buffer), 1, "owners of buffer {index} after its outcome");
    }
}

pub(super) async fn listing_reaches_everything(adapter: &dyn Adapter) {
    adapter.store(store_items(0..50, 100)).await;
    let all = list_all(adapter, None).await;
    let expected: BTreeMap<ObjectKey, u64> = (0..50).map(|index| (object_key(index), 100)).collect();
    assert_eq!(all, expected, "everything is listed with its size");
    let some = list_all(adapter, Some("org/other-model")).await;
    assert!(
        some.keys().all(|key| &**key.namespace.model_name() == "org/other-model"),
        "only objects of the model asked for"
    );
    assert_eq!(some.len(), (0..50).filter(|index| index % 4 == 3).count(), "all objects of the model");
    let bad =
        ListRequest { page_token: Some("no such token \u{1}".to_owned()), entries_max: 10, model_name: None };
    let kind = adapter.list(bad).await.map_err(|failure| failure.kind);
    assert_eq!(kind.err(), Some(FailureKind::Invalid), "a foreign page token is refused");
}

async fn list_all(adapter: &dyn Adapter, model_name: Option<&str>) -> BTreeMap<ObjectKey, u64> {
    let mut request =
        ListRequest { model_name: model_name.map(str::to_owned), page_token: None, entries_max: 7 };
    let mut all = BTreeMap::new();
    // Far more pages than a listing of 50 objects can need.
    for _ in 0..1000 {
        match adapter.list(request.clone()).await {
            Ok(page) => {
                all.extend(page.entries.into_iter().map(|entry| (entry.key, entry.bytes)));
                request.page_token = page.next_page_token;
            }
            Err(failure) => panic!("list: {failure}"),
        }
        if request.page_token.is_none() {
            return all;
        }
    }
    panic!("the listing ends")
}

pub(super) async fn usage_follows(adapter: &dyn Adapter) {
    let before = adapter.usage();
    adapter.store(store_items(0..9, LEN)).await;
    let keys: Vec<ObjectKey> = (0..3).map(object_key).collect();
    adapter.lookup_and_lock(keys.clone()).await;
    let after = adapter.usage();
    assert_eq!(after.objects - before.objects, 9, "objects");
    assert_eq!(after.bytes_used - before.bytes_used, 9 * LEN as u64, "bytes");
    assert_eq!(after.bytes_by_salt.get("tenant").copied(), Some(3 * LEN as u64), "bytes of a tenant");
    assert_eq!(after.bytes_by_salt.values().sum::<u64>(), after.bytes_used, "tenants make up the whole");
    assert_eq!(after.objects_locked, 3, "locks");
    adapter.unlock(&keys);
    adapter.delete((0..9).map(object_key).collect(), DeleteMode::IfUnlocked).await;
    let end = adapter.usage();
    assert_eq!(
        (end.objects, end.bytes_used, end.objects_locked),
        (before.objects, before.bytes_used, 0),
        "all gone"
    );
}

pub(super) async fn empty_batches_are_answered(adapter: &dyn Adapter) {
    assert!(adapter.store(Vec::new()).await.is_empty());
    assert!(adapter.lookup_and_lock(Vec::new()).await.is_empty());
    assert!(adapter.load(Vec::new()).await.is_empty());
    assert!(adapter.delete(Vec::new(), DeleteMode::IfUnlocked).await.is_empty());
    adapter.unlock(&[]);
}

pub(super) async fn a_probe_leaves_nothing(adapter: &dyn Adapter) {
    adapter.ready_to_store().await;
    adapter.store(store_items(0..1, LEN)).await;
    assert_eq!(adapter.probe().await, Ok(()), "an adapter that works says so");
    assert_eq!(list_all(adapter, None).await.len(), 1, "only what was stored is there");
    assert_eq!(adapter.usage().objects, 1, "and counted");
}

pub(super) async fn concurrent_callers_see_whole_objects(adapter: Arc<dyn Adapter>) {
    let mut tasks = Vec::new();
    for task in 0..8 {
        let adapter = Arc::clone(&adapter);
        tasks.push(tokio::spawn(async move {
            for round in 0..12 {
                let first = (task + round) % 6;
                adapter.store(store_items(first..first + 4, LEN)).await;
                let (items, buffers) = load_items(first..first + 4, LEN);
                for (offset, result) in adapter.load(items).await.into_iter().enumerate() {
                    match result {
                        Ok(_) => assert_eq!(
                            buffers[offset].to_vec(),
                            object_bytes(first + offset, LEN),
                            "whole object"
                        ),
                        Err(Error::Absent) => {}
                        Err(error) => panic!("a concurrent load: {error}"),
                    }
                }
                adapter.delete(vec![object_key(first)], DeleteMode::IfUnlocked).await;
            }
        }));
    }
    for task in tasks {
        assert!(task.await.is_ok(), "a concurrent caller panicked");
    }
    let usage = adapter.usage();
    let listed = list_all(&*adapter, None).await;
    assert_eq!(usage.objects, listed.len() as u64, "usage agrees with the listing");
    assert_eq!(usage.bytes_used, listed.values().sum::<u64>(), "bytes agree with the listing");
}

pub(super) async fn a_closed_adapter_says_so(adapter: &dyn Adapter) {
    adapter.store(store_items(0..1, LEN)).await;
    adapter.close().await;
    adapter.close().await;
    assert_eq!(adapter.health().state, HealthState::Closed);
    let is_closed =
        |error: &Error| matches!(error, Error::Failed(failure) if failure.kind == FailureKind::Closed);
    assert!(adapter.store(store_items(1..2, LEN)).await[0].as_ref().is_err_and(is_closed), "store");
    assert!(adapter.lookup_and_lock(vec![object_key(0)]).await[0].as_ref().is_err_and(is_closed), "lookup");
    assert!(adapter.load(load_items(0..1, LEN).0).await[0].as_ref().is_err_and(is_closed), "load");
    let deleted = adapter.delete(vec![object_key(0)], DeleteMode::IfUnlocked).await;
    assert!(deleted[0].as_ref().is_err_and(is_closed), "delete");
    adapter.unlock(&[object_key(0)]);
    assert_eq!(adapter.probe().await.map_err(|failure| failure.kind), Err(FailureKind::Closed), "probe");
    adapter.ready_to_store().await;
}
