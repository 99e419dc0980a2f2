//! Round trips and agreement with simple models, on random values.

use std::borrow::Cow;

use larder_core::dtype::Dtype;
use larder_wire::device::{
    CpuShmTensor, NpuPlane, NpuTensor, TensorDescriptor, TensorMetadata, VmmCudaTensor,
};
use larder_wire::engine_driven::{EngineContext, PrepareRetrieveResult, PrepareStoreResult, Slot};
use larder_wire::events::{KvEvent, KvEventBatch, KvEventKind};
use larder_wire::ids::decode_prefix;
use larder_wire::pickle::{Piece, TensorSpec, read_tensors, write_tensors};
use larder_wire::request::Store;
use larder_wire::{CacheKey, IdBuffer, Operation, Request, Response, decode_request, encode_request};
use proptest::prelude::*;

/// Ids of every width, in runs and mixed.
fn ids() -> impl Strategy<Value = Vec<u32>> {
    let id = prop_oneof![0..0x80_u32, 0x80..0x100_u32, 0x100..0x1_0000_u32, 0x1_0000..=u32::MAX];
    let run = (id.clone(), 1..40_usize).prop_map(|(id, length)| vec![id; length]);
    let mixed = proptest::collection::vec(id, 0..60);
    proptest::collection::vec(prop_oneof![run, mixed], 0..6).prop_map(|parts| parts.concat())
}

/// Bytes around the lengths where their head changes.
fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![0..300_usize, 65_530..65_540_usize].prop_map(|length| vec![0xab; length])
}

/// Encodes an id in one of the integer forms that can hold it.
fn encode_odd(id: u32, form: u8, out: &mut Vec<u8>) {
    match form % 6 {
        0 => {
            out.push(0xcf);
            out.extend_from_slice(&u64::from(id).to_be_bytes());
        }
        1 => {
            out.push(0xd3);
            out.extend_from_slice(&i64::from(id).to_be_bytes());
        }
        2 => {
            out.push(0xce);
            out.extend_from_slice(&id.to_be_bytes());
        }
        3 if i32::try_from(id).is_ok() => {
            out.push(0xd2);
            out.extend_from_slice(&id.to_be_bytes());
        }
        _ => out.extend_from_slice(IdBuffer::new(&[id]).as_array().raw()),
    }
}

fn key<'a>(ids: &'a IdBuffer, text: &'a str, numbers: (u32, Option<u32>, u64, u64, u32)) -> CacheKey<'a> {
    let (world_size, worker_id, start, end, num_kv_readers) = numbers;
    CacheKey {
        model_name: text,
        world_size,
        worker_id,
        token_ids: ids.as_array(),
        start,
        end,
        request_id: text,
        cache_salt: "salt",
        request_configs: None,
        num_kv_readers,
    }
}

proptest! {
    #[test]
    fn ids_round_trip(ids in ids()) {
        let buffer = IdBuffer::new(&ids);
        prop_assert_eq!(buffer.as_array().to_vec().unwrap(), ids.clone());
        let mut big_endian = vec![9];
        buffer.as_array().decode_be_into(&mut big_endian).unwrap();
        let expected: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
        prop_assert_eq!(&big_endian[1..], expected.as_slice());
    }

    #[test]
    fn ids_in_any_integer_form_decode(ids in ids(), forms in proptest::collection::vec(any::<u8>(), 1..50)) {
        let mut raw = Vec::new();
        for (id, form) in ids.iter().zip(forms.iter().cycle()) {
            encode_odd(*id, *form, &mut raw);
        }
        let length = raw.len();
        raw.extend_from_slice(&[0xc1; 100]);
        let mut out = vec![7];
        prop_assert_eq!(decode_prefix(ids.len() as u32, &raw, &mut out), Ok(length));
        prop_assert_eq!(&out[1..], ids.as_slice());
    }

    #[test]
    fn a_wrong_id_is_found_where_it_is(
        ids in ids().prop_filter("some", |ids| !ids.is_empty()),
        at in any::<prop::sample::Index>(),
        wrong in prop::sample::select(vec![
            &b"\xff"[..], b"\xd0\x80", b"\xd1\x80\x00", b"\xcf\x00\x00\x00\x01\x00\x00\x00\x00",
            b"\xcb\x00\x00\x00\x00\x00\x00\x00\x00", b"\xc3", b"\xa1\x31", b"\xc0", b"\xc1",
            b"\x90", b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
        ]),
    ) {
        let at = at.index(ids.len());
        let mut raw = IdBuffer::new(&ids[..at]).as_array().raw().to_vec();
        raw.extend_from_slice(wrong);
        raw.extend_from_slice(IdBuffer::new(&ids[at + 1..]).as_array().raw());
        let mut out = vec![7];
        let error = decode_prefix(ids.len() as u32, &raw, &mut out).unwrap_err().to_string();
        prop_assert!(error.starts_with(&format!("field `[{at}]`: ")), "{}", error);
        prop_assert_eq!(out, [7]);
    }

    #[test]
    fn a_cut_id_array_is_truncated(ids in ids(), cut in any::<prop::sample::Index>()) {
        let buffer = IdBuffer::new(&ids);
        let raw = buffer.as_array().raw();
        if !raw.is_empty() {
            let cut = &raw[..cut.index(raw.len())];
            prop_assert!(decode_prefix(ids.len() as u32, cut, &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn a_known_prefix_gives_the_same_key(
        ids in ids(),
        known in any::<prop::sample::Index>(),
        text in "[a-z/.]{0,40}",
    ) {
        let buffer = IdBuffer::new(&ids);
        let frame = key(&buffer, &text, (2, Some(1), 0, 16, 1)).encode().unwrap();
        // A caller that has seen the first ids decodes only the rest.
        let seen = &ids[..known.index(ids.len() + 1)];
        let seen_buffer = IdBuffer::new(seen);
        let mut all = seen.to_vec();
        let mut hint = |count: u32, rest: &[u8]| {
            let seen_raw = seen_buffer.as_array().raw();
            let tail = rest.strip_prefix(seen_raw)?;
            Some(seen_raw.len() + decode_prefix(count - seen.len() as u32, tail, &mut all).ok()?)
        };
        let hinted = CacheKey::decode_with(&frame, &mut hint).unwrap();
        prop_assert!(hinted.same_identity(&CacheKey::decode(&frame).unwrap()));
        prop_assert_eq!(all, ids);
    }

    #[test]
    fn a_lying_hint_is_an_error_not_a_panic(ids in ids(), lie in 0..4000_usize) {
        let buffer = IdBuffer::new(&ids);
        let frame = key(&buffer, "m", (1, None, 0, 16, 1)).encode().unwrap();
        if let Ok(key) = CacheKey::decode_with(&frame, &mut |_, _| Some(lie)) {
            // Either the lie was beyond the frame and the array scanned, or it was the truth.
            prop_assert_eq!(key.token_ids.to_vec().ok(), Some(ids));
        }
    }

    #[test]
    fn keys_round_trip(
        ids in ids(),
        text in "[^@\\x00]{0,100}",
        numbers in any::<(u32, Option<u32>, u64, u64, u32)>(),
    ) {
        let buffer = IdBuffer::new(&ids);
        let key = key(&buffer, &text, numbers);
        let frame = key.encode().unwrap();
        let decoded = CacheKey::decode(&frame).unwrap();
        prop_assert!(decoded.same_identity(&key));
        prop_assert_eq!((decoded.request_id, decoded.num_kv_readers), (key.request_id, key.num_kv_readers));
        prop_assert_eq!(decoded.encode().unwrap(), frame);
    }

    #[test]
    fn requests_round_trip(
        ids in ids(),
        text in "[^@\\x00]{0,40}",
        instance_id in any::<i64>(),
        event in blob(),
        (world_size, block_size, num_layers, hidden_dim_size) in any::<(u32, u32, u32, u32)>(),
        (use_mla, num_physical_slots) in any::<(bool, Option<u32>)>(),
        timeout_s in any::<f64>().prop_filter("equal to itself", |timeout| !timeout.is_nan()),
    ) {
        let buffer = IdBuffer::new(&ids);
        let key = key(&buffer, &text, (1, Some(0), 0, 16, 1));
        let none = IdBuffer::default();
        let block_ids = vec![buffer.as_array(), none.as_array(), buffer.as_array()];
        let requests = [
            Request::Store(Store { key, instance_id, block_ids, event_handle: &event }),
            Request::CommitStore { key, instance_id, data: &event },
            Request::WaitPrefetchStatus { request_id: &text, timeout_s },
            Request::Ping { instance_id: Some(instance_id) },
            Request::RegisterKvCacheEngineDrivenContext(EngineContext {
                instance_id,
                model_name: &text,
                world_size,
                block_size,
                num_layers,
                hidden_dim_size,
                dtype: "bfloat16",
                use_mla,
                num_physical_slots,
            }),
        ];
        for request in requests {
            let payloads = encode_request(&request).unwrap();
            let decoded = decode_request(request.operation(), &payloads).unwrap();
            prop_assert_eq!(format!("{decoded:?}"), format!("{request:?}"));
            prop_assert_eq!(encode_request(&decoded).unwrap(), payloads);
        }
    }

    #[test]
    fn responses_round_trip(
        numbers in proptest::collection::vec(any::<u64>(), 0..20),
        small in any::<u32>(),
        int in any::<i64>(),
        yes in any::<bool>(),
        ids in ids(),
        bytes in blob(),
    ) {
        let shape = Cow::Borrowed(numbers.as_slice());
        let slots: Vec<_> = numbers
            .iter()
            .map(|number| Slot { offset: *number, length: number / 2, shape: shape.clone(), dtype: "uint8" })
            .collect();
        let buffer = IdBuffer::new(&ids);
        let event = KvEvent {
            seq: 1,
            kind: if yes { KvEventKind::Stored } else { KvEventKind::Removed },
            medium: "CPU",
            model_name: "m",
            block_hashes: vec![&bytes; 2],
            parent_block_hash: yes.then_some(&bytes),
            token_ids: buffer.as_array(),
        };
        let responses = [
            (Operation::GetChunkSize, Response::Int(int)),
            (Operation::Ping, Response::Bool(yes)),
            (Operation::Store, Response::Transfer { event_handle: &bytes, ok: yes }),
            (Operation::PrepareStore, Response::PrepareStore(PrepareStoreResult::Slots {
                slots: slots.clone(), chunk_indices: Cow::Owned(vec![small; numbers.len()]),
            })),
            (Operation::PrepareStore, Response::PrepareStore(PrepareStoreResult::InMessage)),
            (Operation::PrepareRetrieve, Response::PrepareRetrieve(PrepareRetrieveResult::slots(slots))),
            (Operation::PrepareRetrieve, Response::PrepareRetrieve(PrepareRetrieveResult {
                success: yes, data: &bytes, slots: None,
            })),
            (Operation::SubscribeKvEvents, Response::KvEvents(KvEventBatch {
                enabled: yes, incarnation: u64::MAX, next_cursor: 7, lost: !yes, events: vec![event; 2],
            })),
        ];
        for (operation, response) in responses {
            let body = response.encode().unwrap();
            prop_assert_eq!(Response::decode(operation, body.as_deref()).unwrap(), response);
        }
    }

    #[test]
    fn data_sent_in_pieces_is_the_same_message(data in blob()) {
        let (head, tail) = PrepareRetrieveResult::around_data(data.len()).unwrap();
        let result = PrepareRetrieveResult { success: true, data: &data, slots: None };
        let whole = Response::PrepareRetrieve(result).encode().unwrap();
        prop_assert_eq!(Some([head, data.clone(), tail].concat()), whole);
    }

    #[test]
    fn descriptors_round_trip(
        dims in proptest::collection::vec((0..9_u64, 0..1000_u64), 0..8),
        offset in 0..1000_u64,
        dtype in prop::sample::select(Dtype::ALL.to_vec()),
        spare in 0..100_u64,
        fabric in any::<bool>(),
    ) {
        let (shape, stride) = dims.into_iter().unzip();
        let metadata = TensorMetadata { dtype, shape, stride, storage_offset: offset, device_uuid: "uuid" };
        let length = u64::try_from(metadata.byte_span()).unwrap() + spare;
        let segment = |segment_length| {
            let metadata = metadata.clone();
            TensorDescriptor::CpuShm(CpuShmTensor { shm_name: "/name", segment_length, metadata })
        };
        let plane = NpuPlane { handle: &[0x91, 0xc0], metadata: metadata.clone() };
        let good = [
            segment(length),
            TensorDescriptor::CudaVmm(VmmCudaTensor {
                export_id: &[1; 16],
                fabric_handle: fabric.then_some(&[2; 64]),
                alloc_length: length + 5,
                alloc_offset: 5,
                length,
                metadata: metadata.clone(),
            }),
            TensorDescriptor::Npu(NpuTensor { bare: false, planes: vec![plane; 2] }),
        ];
        for descriptor in good {
            let data = descriptor.encode().unwrap();
            prop_assert_eq!(TensorDescriptor::decode(&data).unwrap(), descriptor);
        }
        if length > spare {
            let data = segment(length - spare - 1).encode().unwrap();
            prop_assert!(TensorDescriptor::decode(&data).is_err());
        }
    }

    #[test]
    fn random_bytes_never_panic(
        operation in prop::sample::select(Operation::ALL.to_vec()),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        _ = Operation::from_frame(&bytes);
        _ = decode_request(operation, &vec![bytes.clone(); operation.payload_count()]);
        _ = Response::decode(operation, Some(&bytes));
        _ = TensorDescriptor::decode(&bytes);
        _ = read_tensors(&bytes);
    }

    #[test]
    fn pickled_views_copy_out_like_a_model(
        dims in proptest::collection::vec((0..5_u64, 0..7_u64), 0..5),
        offset in 0..5_u64,
        length in 0..300_usize,
    ) {
        // One packed tensor is written; its shape, stride and offset are then replaced by the view's.
        let storage: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let mut data = Vec::new();
        let spec = TensorSpec { dtype: Dtype::Uint8, shape: &[length as u64] };
        for piece in write_tensors(&[spec]).unwrap() {
            match piece {
                Piece::Bytes(bytes) => data.extend_from_slice(&bytes),
                Piece::Tensor { .. } => data.extend_from_slice(&storage),
            }
        }
        let after = data.windows(5).rposition(|window| window == b"\x85RK\x00(").unwrap();
        let view = view_program(&dims, offset);
        let data = [&data[..after], &view].concat();

        let mut elements = vec![offset];
        for (count, step) in &dims {
            let along = |element: u64| (0..*count).map(move |index| element + index * step);
            elements = elements.into_iter().flat_map(along).collect();
        }
        let expected: Option<Vec<u8>> =
            elements.iter().map(|element| storage.get(*element as usize).copied()).collect();
        match (read_tensors(&data), expected) {
            (Ok(tensors), Some(expected)) => {
                let mut out = vec![0; expected.len()];
                tensors[0].copy_to(Dtype::Uint8, &mut out).unwrap();
                prop_assert_eq!(out, expected);
            }
            (Err(_), None) => {}
            (got, expected) => prop_assert!(false, "{:?} but the model says {:?}", got, expected),
        }
    }
}

/// What follows the storage in a pickle: its call, the view and the end.
fn view_program(dims: &[(u64, u64)], offset: u64) -> Vec<u8> {
    let mut program = vec![0x85, b'R', b'K', offset as u8, b'('];
    for (count, _) in dims {
        program.extend_from_slice(&[b'K', *count as u8]);
    }
    program.extend_from_slice(b"t(");
    for (_, step) in dims {
        program.extend_from_slice(&[b'K', *step as u8]);
    }
    program.extend_from_slice(b"t\x89\x8c\x0bcollections\x8c\x0bOrderedDict\x93)RtRe.");
    program
}
