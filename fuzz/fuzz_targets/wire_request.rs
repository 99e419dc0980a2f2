//! Any frames, under any operation, decode or are refused; what decodes can be encoded and decoded again.

#![no_main]

use larder_wire::{Incoming, Operation, Response, decode_request, encode_request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Frames are separated by a tag MessagePack never uses, so that the fuzzer can move their borders.
    let frames: Vec<&[u8]> = data.split(|byte| *byte == 0xc1).collect();
    let Ok(Incoming::Request { operation_frame, payloads, .. }) = Incoming::parse(&frames) else { return };
    let Ok(operation) = Operation::from_frame(operation_frame) else { return };
    if let Ok(request) = decode_request(operation, payloads) {
        let encoded = encode_request(&request).expect("decoded requests fit messages");
        decode_request(operation, &encoded).expect("encoded requests decode");
    }
    if let Some(Ok(response)) = payloads.first().map(|body| Response::decode(operation, Some(body))) {
        let encoded = response.encode().expect("decoded results fit messages");
        assert_eq!(Response::decode(operation, encoded.as_deref()), Ok(response));
    }
});
