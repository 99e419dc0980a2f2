//! Whatever a Valkey or Redis server answers is read or refused.

#![no_main]

use larder_storage::adapters::resp::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    fuzz::replies(data);
    fuzz::objects(data);
});
