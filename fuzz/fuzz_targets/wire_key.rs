//! A key decodes the same with and without a hint, and its ids are those a plain reader finds.

#![no_main]

use larder_wire::CacheKey;
use larder_wire::ids::decode_prefix;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&lie, frame)) = data.split_first() else { return };
    let mut seen = Vec::new();
    let mut hint = |count, rest: &[u8]| {
        seen.clear();
        decode_prefix(count, rest, &mut seen).ok()
    };
    let hinted = CacheKey::decode_with(frame, &mut hint);
    match (CacheKey::decode(frame), hinted) {
        (Ok(plain), Ok(hinted)) => {
            assert!(plain.same_identity(&hinted));
            assert_eq!(plain.token_ids.to_vec().expect("scanned ids decode"), seen);
            let encoded = plain.encode().expect("decoded keys fit messages");
            assert!(CacheKey::decode(&encoded).expect("encoded keys decode").same_identity(&plain));
        }
        (Err(plain), Err(hinted)) => assert_eq!(plain, hinted),
        (plain, hinted) => panic!("{plain:?} but with a hint {hinted:?}"),
    }
    if let Ok(key) = CacheKey::decode_with(frame, &mut |_, _| Some(usize::from(lie))) {
        _ = key.token_ids.to_vec();
    }
});
