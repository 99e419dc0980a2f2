//! Any JSON is a configuration or a list of mistakes that name their keys.

#![no_main]

use larder_storage::AdapterConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // An environment that has everything, each value the text itself.
    for env in [None, Some(text)] {
        match AdapterConfig::parse(text, &|_| env.map(str::to_owned)) {
            Ok(config) => assert!(config.warnings.iter().all(|warning| !warning.is_empty())),
            Err(error) => {
                assert!(!error.problems.is_empty());
                _ = error.to_string();
            }
        }
    }
});
