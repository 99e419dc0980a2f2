//! A stored name that is read as a key is the name of that key, and no other text is; a seal comes back from
//! its bytes.

#![no_main]

use larder_storage::{FILE_NAME_BYTES_MAX, KeyDecoder, Seal, conformance, file_name, wire_name};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let key = conformance::object_key(0);
    if let Some(seal) = Seal::decode(data, &key) {
        assert_eq!(Seal::decode(&seal.encode(&key), &key), Some(seal));
    }
    let Ok(name) = std::str::from_utf8(data) else { return };
    let decoder = KeyDecoder::default();
    if let Some(key) = decoder.wire_name(name) {
        assert_eq!(wire_name(&key), name);
        if let Ok(written) = file_name(&key) {
            assert!(decoder.file_name(&written).is_some(), "{written:?} of {key:?}");
        }
    }
    if let Some(key) = decoder.file_name(name).filter(|_| name.len() <= FILE_NAME_BYTES_MAX) {
        assert_eq!(file_name(&key).as_deref(), Ok(name));
        assert_eq!(decoder.wire_name(&wire_name(&key)), Some(key));
    }
});
