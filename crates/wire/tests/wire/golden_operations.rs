//! Every operation, both ways, against frames recorded from the peer.

use crate::support::{frames, hex, vectors};
use larder_wire::reply::decode_reply;
use larder_wire::{Incoming, Operation, Response, decode_request, encode_request};

/// Decodes a recorded exchange and encodes it again; both must give the recorded bytes.
fn check_exchange(request: &[Vec<u8>], response: &[Vec<u8>]) -> Operation {
    let Ok(Incoming::Request { uid, operation_frame, payloads }) = Incoming::parse(request) else {
        panic!("not a request");
    };
    let operation = Operation::from_frame(operation_frame).expect("operation");
    assert_eq!(hex(&operation.to_frame()), hex(operation_frame), "{operation}: operation frame");

    let decoded = decode_request(operation, payloads).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(decoded.operation(), operation);
    let encoded = encode_request(&decoded).expect("request encodes");
    for (index, (ours, theirs)) in encoded.iter().zip(payloads).enumerate() {
        assert_eq!(hex(ours), hex(theirs), "{operation}: payload {index}");
    }
    assert_eq!(encoded.len(), payloads.len(), "{operation}: payload count");

    assert_eq!(response[0], uid);
    let body = response.get(2).map(Vec::as_slice);
    let result = decode_reply(operation, &response[1], body).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        result.encode().expect("result encodes").as_deref().map(hex),
        body.map(hex),
        "{operation}: result"
    );
    operation
}

#[test]
fn every_operation_matches_the_recorded_frames() {
    let file = vectors("operations.json");
    let mut seen = Vec::new();
    for entry in file["operations"].as_array().expect("operations") {
        let operation =
            check_exchange(&frames(&entry["request_frames_hex"]), &frames(&entry["response_frames_hex"]));
        assert_eq!(operation.name(), entry["operation"]);
        assert_eq!(operation.legacy_id().map(u64::from), entry["legacy_id"].as_u64());
        assert_eq!(operation.payload_count(), entry["params"].as_array().expect("params").len());
        seen.push(operation);
    }
    seen.sort();
    assert_eq!(seen, Operation::ALL, "the vectors cover every operation");
}

#[test]
fn a_recorded_session_decodes_and_encodes() {
    let file = vectors("session_trace_shm.json");
    let steps = file["steps"].as_array().expect("steps");
    assert!(steps.len() > 10);
    for step in steps {
        check_exchange(&frames(&step["request_hex"]), &frames(&step["response_hex"]));
    }
}

#[test]
fn operation_frames_of_any_width_and_names_are_accepted() {
    for (frame, operation) in [
        (&b"\x18"[..], Operation::Noop),
        (b"\xcc\x18", Operation::Noop),
        (b"\xcd\x00\x18", Operation::Noop),
        (b"\xce\x00\x00\x00\x18", Operation::Noop),
        (b"\xd3\x00\x00\x00\x00\x00\x00\x00\x18", Operation::Noop),
        (b"\xa4noop", Operation::Noop),
        (b"\xd9\x04noop", Operation::Noop),
        (b"\xd9\x13subscribe_kv_events", Operation::SubscribeKvEvents),
    ] {
        assert_eq!(Operation::from_frame(frame), Ok(operation), "{}", hex(frame));
    }
    let error = |frame: &[u8]| Operation::from_frame(frame).expect_err("refused").to_string();
    assert_eq!(error(b"\x63"), "unknown operation `99`");
    assert_eq!(error(b"\x0b"), "unknown operation `11`");
    assert_eq!(error(b"\xff"), "unknown operation `-1`");
    assert_eq!(error(b"\xa4nope"), "unknown operation `nope`");
    assert_eq!(error(b"\xc3"), "operation frame: expected int, got bool");
    assert_eq!(error(b"\xcb\x40\x38\x00\x00\x00\x00\x00\x00"), "operation frame: expected int, got float");
    assert_eq!(error(b"\xc1"), "operation frame: reserved tag `c1`");
    assert_eq!(error(b""), "operation frame: message ends inside a value");
    assert_eq!(error(b"\x18\x18"), "operation frame: `1` bytes follow the value");
    assert_eq!(error(&[0x91; 300_000]), "operation frame: expected int, got array");
}

#[test]
fn negative_results_have_the_type_of_their_operation() {
    for operation in Operation::ALL {
        if let Some(negative) = operation.negative_result() {
            let body = negative.encode().expect("encodes");
            assert_eq!(Response::decode(*operation, body.as_deref()), Ok(negative.clone()), "{operation}");
        }
    }
}
