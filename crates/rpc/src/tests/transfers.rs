//! What a worker stores and reads back, by either way its bytes may take.

use larder_core::dtype::Dtype;
use larder_wire::engine_driven::{PoolLocation, PrepareRetrieveResult, PrepareStoreResult};
use larder_wire::pickle::{Piece, TensorSpec, read_tensors, write_tensors};

use super::*;
use larder_core::modes::ChecksumMode;
use larder_engine::fixtures::{WORKER, prompt};
use larder_engine::{CheckPoint, EngineConfig};

/// The chunk of the worker's layers as a tensor.
const SHAPE: &[u64] = &[1, CHUNK as u64, 256];

pub(super) const CONTEXT: EngineContext<'_> = EngineContext {
    instance_id: WORKER,
    model_name: "m",
    world_size: 1,
    block_size: CHUNK,
    num_layers: 1,
    hidden_dim_size: 256,
    dtype: "uint8",
    use_mla: true,
    num_physical_slots: None,
};

pub(super) fn shared() -> FrontConfig {
    FrontConfig { shm_name: "pool".into(), ..front_config() }
}

fn engine_that_checks(checksum: ChecksumMode) -> Arc<Engine> {
    bare_engine(16, EngineConfig { checksum, ..config() })
}

/// The bytes of a chunk: no two of one prompt, and no two halves of one, are the same.
pub(super) fn bytes(seed: u64) -> Vec<u8> {
    (0..PAGE).map(|at| (at.wrapping_mul(seed + 3) >> 4) as u8 ^ at as u8).collect()
}

/// A key as workers have it, for the tokens from `start` to `end`.
pub(super) fn worker_key<'a>(ids: &'a IdBuffer, request_id: &'a str, start: u64, end: u64) -> CacheKey<'a> {
    CacheKey { worker_id: Some(0), start, end, ..key(ids, request_id) }
}

impl Client {
    pub(super) async fn register(&mut self) -> (String, u64) {
        assert_eq!(self.call(&Request::GetChunkSize).await, Ok(Some("Int(16)".into())));
        let register = Request::RegisterKvCacheEngineDrivenContext(CONTEXT);
        self.ask(&register, |response| match response {
            Response::Pool(PoolLocation { shm_name, pool_size }) => (shm_name.to_owned(), pool_size),
            other => panic!("{other:?}"),
        })
        .await
    }

    /// Where to write which chunks of the key's range; none when their bytes are to be sent.
    pub(super) async fn prepare_store(&mut self, key: CacheKey<'_>) -> Option<Vec<(u32, u64)>> {
        self.ask(&Request::PrepareStore { key, instance_id: WORKER }, |response| match response {
            Response::PrepareStore(PrepareStoreResult::InMessage) => None,
            Response::PrepareStore(PrepareStoreResult::Slots { slots, chunk_indices }) => {
                assert!(slots.iter().all(|slot| (&*slot.shape, slot.dtype) == (SHAPE, "uint8")));
                assert!(slots.iter().all(|slot| slot.length == PAGE));
                let offsets = slots.iter().map(|slot| slot.offset);
                Some(chunk_indices.iter().copied().zip(offsets).collect())
            }
            other => panic!("{other:?}"),
        })
        .await
    }

    async fn commit_store(&mut self, key: CacheKey<'_>, data: &[u8]) -> Result<Option<String>, String> {
        self.call(&Request::CommitStore { key, instance_id: WORKER, data }).await
    }

    /// Stores the chunks of a range whose bytes are `bytes(position)`, and returns where the pool has them.
    pub(super) async fn store(&mut self, engine: &Arc<Engine>, key: CacheKey<'_>) -> Vec<u64> {
        let slots = self.prepare_store(key).await.expect("a pool that is shared");
        for (index, offset) in &slots {
            engine.pool().write_at(*offset, &bytes(u64::from(*index))).unwrap();
        }
        assert_eq!(self.commit_store(key, &[]).await, Ok(Some("Bool(true)".into())));
        slots.into_iter().map(|(_, offset)| offset).collect()
    }

    /// Chunks that a lookup of the whole prompt finds.
    pub(super) async fn look_up(&mut self, ids: &IdBuffer, request_id: &str) -> i64 {
        let lookup = Request::Lookup { key: key(ids, request_id), tp_size: 1 };
        assert_eq!(self.call(&lookup).await, Ok(None));
        self.ask(&Request::QueryPrefetchStatus { request_id }, |response| match response {
            Response::Int(chunks) => chunks,
            other => panic!("{other:?}"),
        })
        .await
    }

    /// Chunks of a range as they come: where they lie, or their bytes; none for a miss.
    async fn prepare_retrieve(&mut self, key: CacheKey<'_>) -> Option<Vec<(u64, Vec<u8>)>> {
        self.ask(&Request::PrepareRetrieve { key, instance_id: WORKER }, |response| match response {
            Response::PrepareRetrieve(PrepareRetrieveResult { success: false, data: [], .. }) => None,
            Response::PrepareRetrieve(PrepareRetrieveResult { slots: Some(slots), data: [], .. }) => {
                Some(slots.iter().map(|slot| (slot.offset, Vec::new())).collect())
            }
            Response::PrepareRetrieve(PrepareRetrieveResult { data, .. }) => {
                let tensors = read_tensors(data).unwrap();
                assert!(
                    tensors.iter().all(|tensor| (tensor.shape(), tensor.dtype()) == (SHAPE, Dtype::Uint8))
                );
                Some(tensors.iter().map(|tensor| (0, tensor.as_packed().unwrap().to_vec())).collect())
            }
            other => panic!("{other:?}"),
        })
        .await
    }
}

/// As many tensors of this shape and type as there are chunks, pickled.
fn pickled(chunks: &[Vec<u8>], shape: &[u64], dtype: Dtype) -> Vec<u8> {
    let pieces = write_tensors(&vec![TensorSpec { dtype, shape }; chunks.len()]).unwrap();
    let piece = |piece: Piece| match piece {
        Piece::Bytes(bytes) => bytes,
        Piece::Tensor { index, .. } => chunks[index].clone(),
    };
    pieces.into_iter().flat_map(piece).collect()
}

#[test]
fn workers_that_map_the_pool_read_where_others_wrote_and_the_log_tells_of_both() {
    let told = Lines::of("transfer_log", || {
        with_engine(engine(), shared(), Limits::default(), async |Rig { mut client, engine, .. }| {
            assert_eq!(client.register().await, ("pool".into(), 16 * PAGE));
            let ids = IdBuffer::new(&prompt(1, 4));
            let mut offsets = client.store(&engine, worker_key(&ids, "s", 0, 16)).await;
            offsets.extend(client.store(&engine, worker_key(&ids, "s", 16, 48)).await);
            let distinct: std::collections::BTreeSet<u64> =
                offsets.iter().map(|offset| offset / PAGE).collect();
            assert_eq!((offsets.len(), distinct.len()), (3, 3));
            assert_eq!(client.prepare_store(worker_key(&ids, "again", 16, 48)).await, Some(Vec::new()));
            assert_eq!(client.look_up(&ids, "r").await, 3);
            let range = worker_key(&ids, "r", 0, 48);
            let places = client.prepare_retrieve(range).await.unwrap();
            assert_eq!(places.iter().map(|place| place.0).collect::<Vec<_>>(), offsets);
            for (offset, seed) in offsets.iter().zip([0, 0, 1]) {
                let mut found = vec![0; PAGE as usize];
                engine.pool().read_at(*offset, &mut found).unwrap();
                assert_eq!(found, bytes(seed));
            }
            assert_eq!(engine.operator().status().cache.leases, 3);
            let commit = Request::CommitRetrieve { key: range, instance_id: WORKER };
            assert_eq!(client.call(&commit).await, Ok(Some("Bool(true)".into())));
            assert_eq!(engine.operator().status().cache.leases, 0);
        });
    });
    let told: Vec<&str> = told.iter().map(|line| line.split_once(" in ").unwrap().0).collect();
    assert_eq!(told, ["Stored 16 tokens", "Stored 32 tokens", "Retrieved 48 tokens"]);
}

#[test]
fn bytes_that_come_in_messages_are_those_that_go_out_in_messages() {
    for checksum in [ChecksumMode::Off, ChecksumMode::Full] {
        let engine = engine_that_checks(checksum);
        with_engine(engine, front_config(), Limits::default(), async |Rig { mut client, engine, .. }| {
            assert_eq!(client.register().await, (String::new(), 0));
            let ids = IdBuffer::new(&prompt(1, 3));
            let range = worker_key(&ids, "r", 0, 48);
            assert_eq!(client.prepare_store(range).await, None);
            let chunks: Vec<Vec<u8>> = (0..3).map(bytes).collect();
            let data = pickled(&chunks, SHAPE, Dtype::Uint8);
            assert_eq!(client.commit_store(range, &data).await, Ok(Some("Bool(true)".into())));
            for _ in 0..2 {
                assert_eq!(client.look_up(&ids, "r").await, 3);
                let came = client.prepare_retrieve(range).await.unwrap();
                assert_eq!(came.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), chunks);
                assert_eq!(engine.operator().status().cache.leases, 0, "nobody reads what was sent");
            }
            assert_eq!(client.prepare_retrieve(range).await, None, "every lookup is for one retrieve");
        });
    }
}

#[test]
fn tensors_that_do_not_lie_packed_are_stored_packed() {
    with_engine(engine(), front_config(), Limits::default(), async |Rig { mut client, engine, .. }| {
        client.register().await;
        let ids = IdBuffer::new(&prompt(1, 2));
        let chunks = [bytes(1), bytes(2)];
        let mut data = pickled(&chunks, SHAPE, Dtype::Uint8);
        // The strides of the last two dimensions, 256 and 1, as those of a tensor that was transposed: 1 and
        // 16.
        let strides: Vec<usize> = data
            .windows(5)
            .enumerate()
            .filter(|(_, part)| part == b"M\0\x01K\x01")
            .map(|(at, _)| at)
            .collect();
        assert_eq!(strides.len(), 2);
        for at in strides.into_iter().rev() {
            data.splice(at..at + 5, *b"K\x01K\x10");
        }
        let range = worker_key(&ids, "r", 0, 32);
        assert_eq!(client.commit_store(range, &data).await, Ok(Some("Bool(true)".into())));
        assert_eq!(client.look_up(&ids, "r").await, 2);
        let came = client.prepare_retrieve(range).await.unwrap();
        for ((_, came), chunk) in came.iter().zip(&chunks) {
            let transposed = (0..PAGE as usize).map(|at| chunk[at / 256 + at % 256 * 16]);
            assert!(transposed.eq(came.iter().copied()));
        }
        assert_eq!((came.len(), engine.operator().status().cache.resident_objects), (2, 2));
    });
}

#[test]
fn tensors_that_are_no_chunks_of_the_worker_are_not_stored() {
    with_engine(engine(), front_config(), Limits::default(), async |Rig { mut client, engine, .. }| {
        client.register().await;
        let ids = IdBuffer::new(&prompt(1, 2));
        let chunks = [bytes(1), bytes(2)];
        let other_shape = &[1, 256, u64::from(CHUNK)];
        for data in [
            pickled(&chunks, other_shape, Dtype::Uint8),
            pickled(&chunks, SHAPE, Dtype::Int8),
            pickled(&chunks[..1], SHAPE, Dtype::Uint8),
            b"no pickle".to_vec(),
        ] {
            let stored = client.commit_store(worker_key(&ids, "r", 0, 32), &data).await;
            assert_eq!(stored, Ok(Some("Bool(false)".into())));
            let cache = engine.operator().status().cache;
            assert_eq!((cache.resident_objects, cache.used_bytes), (0, 0));
        }
    });
}

#[test]
fn a_chunk_that_changed_in_memory_is_handed_out_by_neither_way() {
    for config in [shared(), front_config()] {
        let engine = engine_that_checks(ChecksumMode::Full);
        with_engine(engine, config, Limits::default(), async |Rig { mut client, engine, .. }| {
            let shares_memory = !client.register().await.0.is_empty();
            let ids = IdBuffer::new(&prompt(1, 2));
            let range = worker_key(&ids, "r", 0, 32);
            if shares_memory {
                client.store(&engine, range).await;
            } else {
                let data = pickled(&[bytes(0), bytes(1)], SHAPE, Dtype::Uint8);
                assert_eq!(client.commit_store(range, &data).await, Ok(Some("Bool(true)".into())));
            }
            let checks = &engine.counters().checksum;
            let retrieve = CheckPoint::Retrieve;
            for (verified, unverified) in [(0, 2), (2, 2)] {
                assert_eq!(client.look_up(&ids, "r").await, 2);
                assert_eq!(client.prepare_retrieve(range).await.map(|chunks| chunks.len()), Some(2));
                let commit = Request::CommitRetrieve { key: range, instance_id: WORKER };
                client.call(&commit).await.unwrap();
                assert_eq!(
                    (checks.verified(retrieve).get(), checks.unverified.get()),
                    (verified, unverified)
                );
            }
            // Both chunks of the pool's first pages, one byte of one of them.
            engine.pool().write_at(PAGE + 100, &[!bytes(1)[100]]).unwrap();
            assert_eq!(client.look_up(&ids, "r").await, 2);
            assert_eq!(client.prepare_retrieve(range).await, None);
            assert_eq!((checks.mismatches(retrieve).get(), checks.verified(retrieve).get()), (1, 3));
            let cache = engine.operator().status().cache;
            assert_eq!((cache.leases, cache.resident_objects), (0, 1));
        });
    }
}

#[test]
fn only_answers_that_carry_chunks_wait_for_room() {
    for (config, carries) in [(shared(), false), (front_config(), true)] {
        let engine = engine_that_checks(ChecksumMode::Full);
        let operations = Operations { engine: engine.requests(), config, ..operations() };
        let geometry = larder_engine::fixtures::geometry(1);
        engine.requests().connected(1);
        engine.requests().register(WORKER, "m", 1, geometry, 1).unwrap();
        let tokens = prompt(1, 2);
        larder_engine::fixtures::store(&engine, "s", &tokens);
        larder_engine::fixtures::look_up(&engine, "r", &tokens);
        let ids = IdBuffer::new(&tokens);
        let retrieve = Request::PrepareRetrieve { key: worker_key(&ids, "r", 0, 32), instance_id: WORKER };
        match operations.handle_guarded(&encoded(&retrieve, tcp("::1")), true, &mut NoMemo::default()) {
            Outcome::Job(job) => assert_eq!(job.answers_with_chunks, carries),
            _ => panic!("checking is not for the RPC thread"),
        }
    }
}
