//! Any byte stream, in any chunking, either decodes or is refused: never a panic, and never more memory than
//! the bytes which arrived.

#![no_main]

use larder_zmtp::codec::{Decoder, FrameLimits};
use libfuzzer_sys::fuzz_target;

const LIMITS: FrameLimits = FrameLimits {
    frame_bytes_max: 1 << 16,
    message_bytes_max: 1 << 17,
    dropped_bytes_max: 1 << 18,
    parts_max: 64,
    command_bytes_max: 512,
};

/// A whole message and its parts' fixed cost, with a command in between.
const PENDING_BYTES_MAX: u64 =
    LIMITS.message_bytes_max + LIMITS.command_bytes_max + 64 * LIMITS.parts_max as u64;

fuzz_target!(|data: &[u8]| {
    let Some((&step, stream)) = data.split_first() else { return };
    let mut decoder = Decoder::new(LIMITS);
    for mut chunk in stream.chunks(usize::from(step).max(1)) {
        loop {
            match decoder.decode(&mut chunk) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(chunk.is_empty());
        assert!(decoder.pending_bytes() <= PENDING_BYTES_MAX);
    }
});
