//! A stored name that is read as a key is the name of that key, and no other text is; a seal comes back from
//! its bytes.

#![no_main]

use larder_storage::{FILE_NAME_BYTES_MAX, KeyDecoder, Seal, conformance};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let key = conformance::object_key(0);
    if let Some(seal) = Seal::decode(data, &key) {
        assert_eq!(Seal::decode(&seal.encode(&key), &key), Some(seal));
    }
    let Ok(name) = std::str::from_utf8(data) else { return };
    let decoder = KeyDecoder::default();
    if let Some(key) = decoder.wire_name(name) {
        assert_eq!(key.wire_name(), name);
        if let Ok(file_name) = key.file_name() {
            assert!(decoder.file_name(&file_name).is_some(), "{file_name:?} of {key:?}");
        }
    }
    if let Some(key) = decoder.file_name(name).filter(|_| name.len() <= FILE_NAME_BYTES_MAX) {
        assert_eq!(key.file_name().as_deref(), Ok(name));
        assert_eq!(decoder.wire_name(&key.wire_name()), Some(key));
    }
});
