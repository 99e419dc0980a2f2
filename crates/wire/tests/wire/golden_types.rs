//! Single types, descriptors and the decoder's policy against what was recorded from the peer.

use larder_core::dtype::Dtype;
use larder_wire::device::TensorDescriptor;
use larder_wire::{CacheKey, Operation, decode_request, encode_request};

use crate::support::{frames, hex, unhex, vectors};
use serde_json::Value;

/// The recorded payloads of an operation, with one replaced.
fn payloads_with(operation: &str, index: usize, payload: Vec<u8>) -> (Operation, Vec<Vec<u8>>) {
    let file = vectors("operations.json");
    let entry = file["operations"].as_array().unwrap().iter().find(|entry| entry["operation"] == operation);
    let mut payloads = frames(&entry.expect("operation")["request_frames_hex"]).split_off(2);
    payloads[index] = payload;
    (
        Operation::from_frame(&[&[0xd9, operation.len() as u8][..], operation.as_bytes()].concat()).unwrap(),
        payloads,
    )
}

/// What our decoder says about `payload` in that place: its encoding, or the error.
fn taken(operation: &str, index: usize, payload: Vec<u8>) -> Result<String, String> {
    let (operation, payloads) = payloads_with(operation, index, payload);
    let request = decode_request(operation, &payloads).map_err(|error| error.to_string())?;
    Ok(hex(&encode_request(&request).unwrap()[index]))
}

#[test]
fn types_decode_and_encode_to_the_same_bytes() {
    let file = vectors("types.json");
    for (name, operation, index) in
        [("IPCCacheServerKey_full", "lookup", 0), ("dict_int_MemoryLayoutDesc", "p2p_lookup_and_lock", 1)]
    {
        let payload = unhex(&file[name]["hex"]);
        assert_eq!(taken(operation, index, payload.clone()), Ok(hex(&payload)), "{name}");
    }
    for name in ["EngineGroupInfo_full", "EngineGroupInfo_minimal"] {
        let payload = [&[0x91], unhex(&file[name]["hex"]).as_slice()].concat();
        assert_eq!(taken("register_kv_cache", 6, payload.clone()), Ok(hex(&payload)), "{name}");
    }
    for (_, engine) in file["EngineType"].as_object().unwrap() {
        let payload = unhex(&engine["hex"]);
        assert_eq!(taken("register_kv_cache", 4, payload.clone()), Ok(hex(&payload)));
    }
    let layout = [&[0x81, 0x07], unhex(&file["MemoryLayoutDesc"]["hex"]).as_slice()].concat();
    assert_eq!(taken("p2p_lookup_and_lock", 1, layout.clone()), Ok(hex(&layout)));
    let addresses = unhex(&file["TransferChannelAddress"]["hex"]);
    let response = larder_wire::Response::decode(Operation::P2pQueryLookupResults, Some(&addresses)).unwrap();
    assert_eq!(response.encode().unwrap(), Some(addresses.clone()));
}

#[test]
fn a_full_key_has_the_recorded_fields() {
    let file = vectors("types.json");
    let frame = unhex(&file["IPCCacheServerKey_full"]["hex"]);
    let key = CacheKey::decode(&frame).unwrap();
    assert_eq!(key.model_name, "meta-llama/Llama-3.1-8B");
    assert_eq!((key.world_size, key.worker_id), (2, Some(1)));
    assert_eq!(key.token_ids.to_vec().unwrap(), [1, 2, 128_000, 65_536]);
    assert_eq!((key.start, key.end, key.request_id), (0, 256, "cmpl-1"));
    assert_eq!((key.cache_salt, key.num_kv_readers), ("tenantA", 1));
    assert_eq!(key.request_configs.unwrap()[0], 0x82);
    assert_eq!(hex(&key.encode().unwrap()), hex(&frame));
}

#[test]
fn descriptors_of_every_tag_decode_and_encode_to_the_same_bytes() {
    let file = vectors("ipc_descriptors.json");
    let descriptors = file["descriptors"].as_object().unwrap();
    assert_eq!(descriptors.len(), 7);
    for (name, entry) in descriptors {
        let data = unhex(&entry["descriptor_hex"]);
        let descriptor = TensorDescriptor::decode(&data).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(entry["descriptor"]["type"], descriptor.tag());
        assert_eq!(hex(&descriptor.encode().unwrap()), hex(&data), "{name}");
        let list = unhex(&entry["list_wrapped_hex"]);
        assert_eq!(taken("register_kv_cache", 1, list.clone()), Ok(hex(&list)), "{name}");
    }
}

#[test]
fn descriptors_the_peer_refuses_are_refused_with_a_reason() {
    let file = vectors("ipc_descriptors.json");
    let expected = [
        ("unknown_field", "unknown field `foo`"),
        ("version2", "field `version`: descriptor version `2`, expected 1"),
        ("bad_tag", "field `type`: unknown descriptor tag `xxx`"),
        ("no_tag", "missing field `type`"),
        ("nbytes_too_small", "tensor ends at byte `4096` but only `10` bytes are shared"),
        ("neg_nbytes", "field `nbytes`: `-1` is out of range, expected an unsigned 64-bit integer"),
        ("bad_dtype", "field `metadata.dtype`: unknown element type `float1`"),
        ("rank_mismatch", "field `metadata`: shape has `5` dimensions but stride has `1`"),
        ("metadata_unknown_field", "field `metadata`: unknown field `extra`"),
        // The peer looks no further than the empty map it sees in the pickle protocol byte.
        ("pickle_legacy", "missing field `type`"),
    ];
    let cases = file["decode_behaviour"].as_object().unwrap();
    assert_eq!(cases.len(), expected.len() + 1);
    for (name, reason) in expected {
        let data = unhex(&cases[name]["hex"]);
        assert_eq!(TensorDescriptor::decode(&data).unwrap_err().to_string(), reason, "{name}");
    }
    let reordered = unhex(&cases["reordered_type_last"]["hex"]);
    assert!(TensorDescriptor::decode(&reordered).is_ok());
}

#[test]
fn element_types_are_the_ones_the_peer_knows() {
    let file = vectors("ipc_descriptors.json");
    let names: Vec<&str> = file["dtypes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(Dtype::ALL.iter().map(|dtype| dtype.name()).collect::<Vec<_>>(), names);
}

/// Where each recorded decoder input is tried: an operation and the payload declared with its type.
fn place(case: &str, entry: &Value) -> Option<(&'static str, usize)> {
    let of_type = match entry["type"].as_str().unwrap() {
        "<class 'int'>" => ("unregister_kv_cache", 0),
        "<class 'bool'>" => ("clear", 0),
        "int | None" => ("ping", 0),
        "<class 'float'>" => ("wait_prefetch_status", 1),
        "<class 'str'>" => ("end_session", 0),
        "<class 'bytes'>" => ("commit_store", 2),
        "list[list[int]]" => ("store", 2),
        "<enum 'EngineType'>" => ("register_kv_cache", 4),
        "<class 'lmcache.v1.gpu_connector.kv_format.types.LayoutHints'>" => ("register_kv_cache", 5),
        "list[lmcache.v1.multiprocess.group_view.EngineGroupInfo]" => ("register_kv_cache", 6),
        "<class 'lmcache.v1.multiprocess.custom_types.IPCCacheServerKey'>" => ("lookup", 0),
        "<class 'lmcache.v1.multiprocess.custom_types.RegisterEngineDrivenContextPayload'>" => {
            ("register_kv_cache_engine_driven_context", 0)
        }
        // A result, not a payload.
        "tuple[bytes, bool]" => return None,
        other => panic!("{case}: no place for {other}"),
    };
    Some(of_type)
}

#[test]
fn the_decoder_takes_and_refuses_what_the_peer_does() {
    // Inputs the peer takes and we refuse, on purpose.
    let deviations = [
        ("int_from_str", "a string is not a number; no known client sends one"),
        ("int_from_float", "3.9 silently becoming 3 hides a client's bug; integral floats are taken"),
        ("bool_from_str", "the peer reads the string `false` as true, which no client can mean"),
    ];
    let file = vectors("decode_policy.json");
    let mut tried = 0;
    for (case, entry) in file.as_object().unwrap() {
        let Some((operation, index)) = place(case, entry) else { continue };
        let ours = taken(operation, index, unhex(&entry["hex"]));
        let peer_takes = entry.get("result").is_some();
        let deviates = deviations.iter().any(|(name, _)| name == case);
        assert_eq!(ours.is_ok(), peer_takes != deviates, "{case}: ours {ours:?}, peer {entry}");
        tried += 1;
    }
    assert_eq!(tried, file.as_object().unwrap().len() - 2);
}

#[test]
fn accepted_odd_inputs_have_the_peers_value() {
    for (operation, index, payload, encoded) in [
        ("unregister_kv_cache", 0, "c3", "01"),
        ("unregister_kv_cache", 0, "cb4008000000000000", "03"),
        ("clear", 0, "02", "c3"),
        ("clear", 0, "c0", "c2"),
        ("ping", 0, "c0", "c0"),
        ("wait_prefetch_status", 1, "02", "cb4000000000000000"),
        (
            "register_kv_cache",
            5,
            "82a3666f6f01a96b765f6c61796f7574a3484e44",
            "81a96b765f6c61796f7574a3484e44",
        ),
        ("store", 2, "90", "90"),
    ] {
        let payload = unhex(&Value::from(payload));
        assert_eq!(taken(operation, index, payload), Ok(encoded.to_owned()), "{operation}");
    }
}

#[test]
fn errors_name_the_place() {
    let file = vectors("decode_policy.json");
    for (case, text) in [
        ("key_str_int", "lookup: payload 0: field `start`: expected int, got str"),
        ("key_missing_worker_id", "lookup: payload 0: missing field `worker_id`"),
        ("key_as_array", "lookup: payload 0: expected map, got array"),
        ("key_bad_salt", "lookup: payload 0: field `cache_salt`: cache salt `a/b` must not contain `/`"),
        (
            "key_long_salt",
            "lookup: payload 0: field `cache_salt`: cache salt has `129` characters, expected at most 128",
        ),
        ("block_ids_flat", "store: payload 2: field `[0]`: expected array, got int"),
        ("trailing_bytes", "ping: payload 0: `1` bytes follow the value"),
        ("hints_bad_layout", "register_kv_cache: payload 5: field `kv_layout`: unknown KV layout `XYZ`"),
    ] {
        let (operation, index) = place(case, &file[case]).unwrap();
        assert_eq!(taken(operation, index, unhex(&file[case]["hex"])), Err(text.to_owned()), "{case}");
    }
    let error = decode_request::<Vec<u8>>(Operation::Clear, &[]).unwrap_err();
    assert_eq!(error.to_string(), "clear: expected 1 payload frames, got 0");
}
