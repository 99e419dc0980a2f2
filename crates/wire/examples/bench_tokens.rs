//! Prints nanoseconds per token for decoding, skipping and recognising the token ids of a 128k prompt.
//!
//! Run with `cargo run --release -p larder-wire --example bench_tokens`.

use std::hint::black_box;
use std::time::Instant;

use larder_wire::{CacheKey, IdBuffer};

/// Tokens of the prompt.
const COUNT: usize = 131_072;
/// Repetitions; the fastest counts.
const ROUNDS: usize = 200;

fn main() {
    println!("{COUNT} ids, best of {ROUNDS}, ns/token");
    println!(
        "{:<24}{:>8}{:>10}{:>10}{:>10}{:>10}",
        "ids", "bytes", "decode", "big-end.", "skip key", "known key"
    );
    for (name, low, high) in [
        ("below 128", 0, 128),
        ("vocabulary 32k", 256, 32_000),
        ("vocabulary 128k (mixed)", 0, 128_256),
        ("vocabulary 152k (mixed)", 0, 151_936),
        ("vocabulary 1M", 65_536, 1 << 20),
    ] {
        row(name, &random_ids(low, high));
    }
    for count in [16, 256, 4096] {
        short_key(&random_ids(0, 128_256)[..count]);
    }
}

/// Decoding of a whole key with few ids, where everything else counts.
fn short_key(ids: &[u32]) {
    let buffer = IdBuffer::new(ids);
    let frame = key(&buffer).encode().expect("a key fits a message");
    let nanoseconds = best(|| {
        for _ in 0..COUNT / 64 {
            black_box(CacheKey::decode(black_box(&frame)).expect("the key decodes"));
        }
    });
    println!("key of {} mixed ids: {:.0} ns", ids.len(), nanoseconds * 64.0);
}

fn key(ids: &IdBuffer) -> CacheKey<'_> {
    CacheKey {
        model_name: "model",
        world_size: 1,
        worker_id: None,
        token_ids: ids.as_array(),
        start: 0,
        end: ids.as_array().len() as u64,
        request_id: "request",
        cache_salt: "",
        request_configs: None,
        num_kv_readers: 1,
    }
}

fn row(name: &str, ids: &[u32]) {
    let buffer = IdBuffer::new(ids);
    let key = key(&buffer);
    let frame = key.encode().expect("a key fits a message");
    let raw = buffer.as_array().raw();

    let mut decoded = Vec::new();
    let decode = best(|| {
        decoded.clear();
        buffer.as_array().decode_into(&mut decoded).expect("ids decode");
        black_box(&decoded);
    });
    assert_eq!(decoded, ids);
    let mut bytes = Vec::new();
    let big_endian = best(|| {
        bytes.clear();
        buffer.as_array().decode_be_into(&mut bytes).expect("ids decode");
        black_box(&bytes);
    });
    let skip = best(|| {
        black_box(CacheKey::decode(black_box(&frame)).expect("the key decodes"));
    });
    let known = best(|| {
        let mut hint = |_, rest: &[u8]| rest.starts_with(raw).then_some(raw.len());
        black_box(CacheKey::decode_with(black_box(&frame), &mut hint).expect("the key decodes"));
    });
    println!("{name:<24}{:>8}{decode:>10.3}{big_endian:>10.3}{skip:>10.3}{known:>10.3}", raw.len());
}

/// Fewest nanoseconds per token.
fn best(mut run: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_nanos() as f64 / COUNT as f64
        })
        .fold(f64::INFINITY, f64::min)
}

/// Ids spread evenly over a range (xorshift, fixed seed).
fn random_ids(low: u32, high: u32) -> Vec<u32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..COUNT)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            low + (state >> 33) as u32 % (high - low)
        })
        .collect()
}
