//! Whatever a peer opens with, in any chunking, the handshake ends in an answer or an error, never in a
//! panic.

#![no_main]

use larder_zmtp::codec::{Encoder, GREETING, Handshake, Ready, SocketType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&step, opening)) = data.split_first() else { return };
    // Half of the inputs start behind a good greeting, which is hard to guess.
    let opening = if step % 2 == 0 { [&GREETING[..], opening].concat() } else { opening.to_vec() };
    let mut out = Encoder::default();
    let local = Ready { socket_type: SocketType::Router, identity: Vec::new() };
    let mut handshake = Handshake::start(local, 512, &mut out);
    for mut chunk in opening.chunks(usize::from(step).max(1)) {
        match handshake.advance(&mut chunk, &mut out) {
            Ok(Some(ready)) => return assert!(ready.identity.len() <= 255),
            Ok(None) => assert!(chunk.is_empty()),
            Err(_) => break,
        }
    }
    assert!(out.len() < 512);
});
