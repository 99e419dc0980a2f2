//! The decoder against the encoder, under every chunking, and against hostile headers.

use std::io::IoSlice;

use bytes::{BufMut, Bytes};
use proptest::collection::vec;
use proptest::prelude::*;

use super::encoder::FRAME_COPY_BYTES_MAX;
use super::{Decoder, Encoder, Event, FrameLimits};
use crate::error::{Error, LimitKind, Violation};

const LIMITS: FrameLimits = FrameLimits {
    frame_bytes_max: 1 << 20,
    message_bytes_max: 1 << 21,
    dropped_bytes_max: 0,
    parts_max: 8,
    command_bytes_max: 64,
};

#[derive(Clone, Debug)]
enum Item {
    Message(Vec<Vec<u8>>),
    Command(Vec<u8>),
}

fn item() -> impl Strategy<Value = Item> {
    // Around the lengths where a form changes: short and long header, copied and separate payload.
    let len = prop_oneof![
        0usize..4,
        253usize..258,
        1000usize..1001,
        FRAME_COPY_BYTES_MAX - 1..FRAME_COPY_BYTES_MAX + 3,
        66_000usize..66_001
    ];
    let part = (len, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]);
    prop_oneof![
        4 => vec(part, 1..8).prop_map(Item::Message),
        1 => vec(any::<u8>(), 0..64).prop_map(Item::Command),
    ]
}

/// What the encoder writes when every write takes at most `step` bytes.
fn written(items: &[Item], step: usize) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut stream = Vec::new();
    let mut expected = 0;
    for item in items {
        expected += match item.clone() {
            Item::Message(parts) => encoder.message(parts.into_iter().map(Bytes::from)),
            Item::Command(body) => encoder.command(body),
        };
        drain(&mut encoder, &mut stream, step, 1);
    }
    drain(&mut encoder, &mut stream, step, usize::MAX);
    assert_eq!(stream.len(), expected);
    stream
}

fn drain(encoder: &mut Encoder, stream: &mut Vec<u8>, step: usize, writes_max: usize) {
    let mut writes = 0;
    while !encoder.is_empty() && writes < writes_max {
        let mut slices = [IoSlice::new(&[]); 3];
        let used = encoder.slices(&mut slices);
        let next: Vec<u8> =
            slices[..used].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
        stream.extend_from_slice(&next);
        encoder.advance(next.len());
        writes += 1;
    }
}

fn matches(event: &Event, item: &Item) -> bool {
    match (event, item) {
        (Event::Message { parts, .. }, Item::Message(expected)) => parts == expected,
        (Event::Command(body), Item::Command(expected)) => body == expected,
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_chunking_decodes_to_what_was_encoded(
        items in vec(item(), 1..6),
        write_step in 1usize..100_000,
        chunk_len in prop_oneof![1usize..12, 1000usize..100_000],
        in_place in any::<bool>(),
    ) {
        let stream = written(&items, write_step);
        let mut decoder = Decoder::new(LIMITS);
        let mut events = Vec::new();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let taken = match decoder.payload_mut().filter(|_| in_place) {
                Some(mut payload) => {
                    let take = payload.remaining_mut().min(chunk_len).min(rest.len());
                    payload.put_slice(&rest[..take]);
                    take
                }
                None => 0,
            };
            let mut chunk = &rest[taken..rest.len().min(taken.max(chunk_len))];
            rest = &rest[taken + chunk.len()..];
            while let Some(event) = decoder.decode(&mut chunk).unwrap() {
                events.push(event);
            }
            prop_assert!(chunk.is_empty());
            prop_assert!(decoder.pending_bytes() as usize <= stream.len() - rest.len() + 64 * LIMITS.parts_max);
        }
        prop_assert!(!decoder.in_message());
        prop_assert_eq!(decoder.pending_bytes(), 0);
        prop_assert_eq!(events.len(), items.len());
        for (event, item) in events.iter().zip(&items) {
            prop_assert!(matches(event, item));
        }
    }

    /// Whatever the limits, no message is lost: its first frames come as they are, and the rest of it is
    /// counted.
    #[test]
    fn what_is_too_large_to_keep_is_read_past_and_counted(
        items in vec(item(), 1..6),
        frame_bytes_max in 0u64..3000,
        message_bytes_max in 0u64..5000,
        chunk_len in prop_oneof![1usize..12, 1000usize..100_000],
    ) {
        let stream = written(&items, 100_000);
        let limits = FrameLimits { frame_bytes_max, message_bytes_max, dropped_bytes_max: u64::MAX, ..LIMITS };
        let mut decoder = Decoder::new(limits);
        let mut events = Vec::new();
        for mut chunk in stream.chunks(chunk_len) {
            while let Some(event) = decoder.decode(&mut chunk).unwrap() {
                events.push(event);
            }
            let kept_max = message_bytes_max + LIMITS.command_bytes_max + 64 * LIMITS.parts_max as u64;
            prop_assert!(decoder.pending_bytes() <= kept_max);
        }
        prop_assert!(!decoder.in_message());
        prop_assert_eq!(events.len(), items.len());
        for (event, item) in events.iter().zip(&items) {
            let (Event::Message { parts, dropped_bytes, .. }, Item::Message(expected)) = (event, item) else {
                prop_assert!(matches(event, item));
                continue;
            };
            let fits = |kept: usize| {
                let bytes = expected[..kept].iter().map(|part| part.len() as u64).sum::<u64>();
                bytes <= message_bytes_max && expected[..kept].iter().all(|part| part.len() as u64 <= frame_bytes_max)
            };
            let kept = (0..=expected.len()).rfind(|kept| fits(*kept)).unwrap();
            prop_assert_eq!(&parts[..], &expected[..kept]);
            let lost = expected[kept..].iter().map(|part| part.len().max(1) as u64).sum::<u64>();
            prop_assert_eq!(*dropped_bytes, lost);
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_take_memory(stream in vec(any::<u8>(), 0..4000), step in 1usize..64) {
        let mut decoder = Decoder::new(LIMITS);
        let mut arrived = 0;
        'stream: for mut chunk in stream.chunks(step) {
            arrived += chunk.len();
            loop {
                match decoder.decode(&mut chunk) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
            let overhead = 64 * LIMITS.parts_max;
            prop_assert!(decoder.pending_bytes() as usize <= arrived + overhead);
            if let Some(payload) = decoder.payload_mut() {
                prop_assert!(payload.remaining_mut() <= arrived.max(64 << 10));
            }
        }
    }
}

fn error(limits: FrameLimits, mut input: &[u8]) -> Error {
    let mut decoder = Decoder::new(limits);
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("accepted"),
            Err(error) => return error,
        }
    }
}

fn long_header(flags: u8, len: u64) -> Vec<u8> {
    [&[flags][..], &len.to_be_bytes()].concat()
}

#[test]
fn lengths_over_the_limit_are_refused_by_name_at_the_header() {
    for len in [LIMITS.frame_bytes_max + 1, 1 << 40, 1 << 62, 1 << 63, u64::MAX] {
        match error(LIMITS, &long_header(2, len)) {
            Error::Limit { limit: LimitKind::FrameBytes, value, max } => {
                assert_eq!((value, max), (len, LIMITS.frame_bytes_max));
            }
            other => panic!("{other}"),
        }
        assert!(matches!(
            error(LIMITS, &long_header(6, len)),
            Error::Limit { limit: LimitKind::CommandBytes, value, .. } if value == len
        ));
    }
}

#[test]
fn sums_that_overflow_are_refused() {
    let limits = FrameLimits { frame_bytes_max: u64::MAX, ..LIMITS };
    let stream = [&[1, 1, 0][..], &long_header(2, u64::MAX)].concat();
    assert!(matches!(
        error(limits, &stream),
        Error::Limit { limit: LimitKind::MessageBytes, value: u64::MAX, .. }
    ));
}

#[test]
fn one_part_too_many_is_refused() {
    let stream = [1, 0].repeat(LIMITS.parts_max + 1);
    assert!(matches!(error(LIMITS, &stream), Error::Limit { limit: LimitKind::Parts, value: 9, max: 8 }));
    let allowed = [[1, 0].repeat(LIMITS.parts_max - 1), vec![0, 0]].concat();
    let event = Decoder::new(LIMITS).decode(&mut &allowed[..]).unwrap();
    assert!(matches!(event, Some(Event::Message { parts, .. }) if parts.len() == LIMITS.parts_max));
}

#[test]
fn a_claim_takes_no_memory() {
    let limits = FrameLimits { frame_bytes_max: 1 << 40, message_bytes_max: 1 << 40, ..LIMITS };
    let mut decoder = Decoder::new(limits);
    assert_eq!(decoder.decode(&mut &long_header(2, 1 << 40)[..]).unwrap(), None);
    assert_eq!(decoder.pending_bytes(), 0);
    assert_eq!(decoder.payload_mut().unwrap().remaining_mut(), 64 << 10);
}

#[test]
fn a_frame_of_which_much_has_come_is_not_moved_again() {
    let len = 64 << 20;
    let limits = FrameLimits { frame_bytes_max: 1 << 30, message_bytes_max: 1 << 30, ..LIMITS };
    let mut decoder = Decoder::new(limits);
    assert_eq!(decoder.decode(&mut &long_header(2, len)[..]).unwrap(), None);
    let (step, mut places) = (vec![7; 128 << 10], Vec::new());
    while decoder.missing_bytes() > 0 {
        if decoder.pending_bytes() > 2 << 20 {
            places.push(decoder.payload_mut().unwrap().get_ref().as_ptr());
        }
        assert_eq!(decoder.decode(&mut &step[..]).unwrap().is_some(), decoder.missing_bytes() == 0);
    }
    places.dedup();
    assert_eq!(places.len(), 1);
}

#[test]
fn a_large_frame_ends_in_exactly_its_own_memory() {
    let len = 200_001;
    let mut stream = long_header(2, len as u64);
    stream.extend(vec![9; len]);
    let mut decoder = Decoder::new(LIMITS);
    for mut chunk in stream.chunks(1000) {
        if let Some(Event::Message { parts, cost_bytes, .. }) = decoder.decode(&mut chunk).unwrap() {
            assert_eq!(cost_bytes, len + 64);
            let part = parts.into_iter().next().unwrap();
            // A buffer with room to spare would be exchanged for a smaller copy, or keep the room.
            assert_eq!(Vec::from(part).capacity(), len);
            return;
        }
    }
    panic!("the frame is not complete");
}

#[test]
fn commands_between_parts_do_not_end_a_message() {
    let mut stream = &[1, 1, b'a', 4, 1, b'c', 0, 1, b'b'][..];
    let mut decoder = Decoder::new(LIMITS);
    assert_eq!(decoder.decode(&mut stream).unwrap(), Some(Event::Command(Bytes::from_static(b"c"))));
    let Some(Event::Message { parts, .. }) = decoder.decode(&mut stream).unwrap() else {
        panic!("no message")
    };
    assert_eq!(parts, ["a", "b"]);
}

#[test]
fn reserved_flags_are_refused() {
    assert!(matches!(error(LIMITS, &[8]), Error::Protocol(Violation::Flags(8))));
    assert!(matches!(error(LIMITS, &[5, 0]), Error::Protocol(Violation::Flags(5))));
}
