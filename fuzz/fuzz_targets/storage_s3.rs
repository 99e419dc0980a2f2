//! Whatever an object store answers is read or refused: heads, bodies, listings and the seals in headers.

#![no_main]

use larder_storage::adapters::s3::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    fuzz::responses(data, false);
    fuzz::responses(data, true);
    let Ok(text) = std::str::from_utf8(data) else { return };
    fuzz::listing(text);
    _ = fuzz::seal(text);
});
