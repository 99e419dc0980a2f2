//! Bytes meant to break the decoder: cut, damaged, bottomless and exaggerating ones.

use crate::support::{frames, hex, unhex, vectors};
use larder_wire::reply::{ERROR_OPERATION_FRAME, StreamControl, decode_reply, error_reply};
use larder_wire::{CacheKey, Fault, Incoming, Operation, Response, WireError, decode_request};

/// A recorded exchange: operation, payloads and result.
type Exchange = (Operation, Vec<Vec<u8>>, Option<Vec<u8>>);

fn exchanges() -> Vec<Exchange> {
    let file = vectors("operations.json");
    let entries = file["operations"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            let request = frames(&entry["request_frames_hex"]);
            let operation = Operation::from_frame(&request[1]).unwrap();
            (operation, request[2..].to_vec(), frames(&entry["response_frames_hex"]).get(2).cloned())
        })
        .collect()
}

#[test]
fn every_cut_of_every_payload_is_a_clean_error() {
    for (operation, payloads, _) in exchanges() {
        for index in 0..payloads.len() {
            for cut in 0..payloads[index].len() {
                let mut cut_payloads = payloads.clone();
                cut_payloads[index].truncate(cut);
                let error = decode_request(operation, &cut_payloads).expect_err("a cut payload");
                assert!(
                    matches!(error, WireError::Payload { index: at, .. } if at == index),
                    "{operation}: {error}"
                );
            }
            let mut longer = payloads.clone();
            longer[index].push(0xc0);
            let error = decode_request(operation, &longer).expect_err("a payload with a byte more");
            assert_eq!(error.fault(), Some(&Fault::TrailingBytes { count: 1 }), "{operation}");
        }
        let mut more = payloads.clone();
        more.push(vec![0xc0]);
        let (expected, got) = (payloads.len(), payloads.len() + 1);
        let error = decode_request(operation, &more).expect_err("a payload more");
        assert_eq!(error, WireError::PayloadCount { operation, expected, got });
    }
}

#[test]
fn every_cut_of_every_result_is_a_clean_error() {
    for (operation, _, body) in exchanges() {
        let Some(body) = body else { continue };
        for cut in 0..body.len() {
            assert!(
                matches!(Response::decode(operation, Some(&body[..cut])), Err(WireError::Result { .. })),
                "{operation} cut at {cut}"
            );
        }
    }
    let store = Response::decode(Operation::Store, Some(&[0x93, 0xc4, 0, 0xc3, 1])).unwrap_err();
    assert_eq!(store.to_string(), "store: result: expected array of length 2, got 3");
    let missing = Response::decode(Operation::GetChunkSize, None).unwrap_err();
    assert_eq!(missing.to_string(), "get_chunk_size: result: expected a result, got none");
    let extra = Response::decode(Operation::Lookup, Some(&[0xc3])).unwrap_err();
    assert_eq!(extra.to_string(), "lookup: result: expected no result, got one");
}

#[test]
fn damaged_payloads_never_panic() {
    for (operation, payloads, body) in exchanges() {
        for index in 0..payloads.len() {
            for at in 0..payloads[index].len() {
                for tag in [
                    0x00, 0x7f, 0x80, 0x8f, 0x9f, 0xbf, 0xc0, 0xc1, 0xc4, 0xc9, 0xcb, 0xcf, 0xd3, 0xdb, 0xdd,
                    0xdf, 0xff,
                ] {
                    let mut damaged = payloads.clone();
                    damaged[index][at] = tag;
                    _ = decode_request(operation, &damaged);
                }
            }
        }
        for at in 0..body.as_ref().map_or(0, Vec::len) {
            for tag in [0x00, 0x8f, 0xc1, 0xdd, 0xdf, 0xff] {
                let mut damaged = body.clone().unwrap();
                damaged[at] = tag;
                _ = Response::decode(operation, Some(&damaged));
            }
        }
    }
}

#[test]
fn bottomless_values_are_refused_everywhere() {
    for tag in [&[0x91][..], &[0x81, 0x01], &[0x81, 0xa1, b'a'], &[0xdc, 0, 1]] {
        let bomb = tag.repeat(300_000);
        for (operation, payloads, _) in exchanges() {
            for index in 0..payloads.len() {
                let mut payloads = payloads.clone();
                payloads[index].clone_from(&bomb);
                assert!(decode_request(operation, &payloads).is_err(), "{operation}");
            }
        }
        // As the value of a field that is ignored, and of one that is kept as it is.
        for name in [&b"\xa3zzz"[..], b"\xafrequest_configs\x81\xa1a"] {
            let frame = [&[0x81], name, bomb.as_slice()].concat();
            let error = CacheKey::decode(&frame).unwrap_err();
            assert_eq!(error.fault(), &Fault::TooDeep { limit: 64 });
        }
    }
}

#[test]
fn nesting_below_the_limit_is_kept() {
    let file = vectors("types.json");
    let frame = unhex(&file["IPCCacheServerKey_full"]["hex"]);
    let key = CacheKey::decode(&frame).unwrap();
    let configs = [&[0x81, 0xa1, b'a'][..], &[0x91; 60], &[0xc0]].concat();
    let deep = CacheKey { request_configs: Some(&configs), ..key }.encode().unwrap();
    assert_eq!(CacheKey::decode(&deep).unwrap().request_configs, Some(configs.as_slice()));
    let with_ext =
        CacheKey { request_configs: Some(&[0x81, 0xa1, b'a', 0xd4, 1, 0]), ..key }.encode().unwrap();
    assert_eq!(
        CacheKey::decode(&with_ext).unwrap_err().to_string(),
        "field `request_configs.a`: expected a plain value, got ext"
    );
}

#[test]
fn exaggerated_lengths_are_refused_at_once() {
    for head in [
        &b"\xdd\xff\xff\xff\xff"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91\xdd\xff\xff\xff\xff",
        b"\x91\xc9\xff\xff\xff\xff\x01",
    ] {
        for (operation, payloads, _) in exchanges() {
            for index in 0..payloads.len() {
                let mut payloads = payloads.clone();
                payloads[index] = head.to_vec();
                assert!(decode_request(operation, &payloads).is_err(), "{operation} {}", hex(head));
            }
        }
    }
}

#[test]
fn lists_longer_than_their_limit_are_refused() {
    let key = unhex(&vectors("types.json")["IPCCacheServerKey_full"]["hex"]);
    let lists = [&[0xdd, 0, 0, 0x10, 0x01][..], &[0x90; 4097]].concat();
    let payloads = [key, vec![1], lists, vec![0xc4, 0]];
    let error = decode_request(Operation::Store, &payloads).unwrap_err();
    assert_eq!(error.to_string(), "store: payload 2: more than 4096 elements");
}

/// Every operation whose payloads contain a string, with each string in turn replaced by a very long one:
/// what is kept of a request is bounded wherever it comes in.
#[test]
fn no_name_is_longer_than_its_limit() {
    const LONG: usize = 100_000;
    let mut refused = 0;
    for (operation, payloads, _) in exchanges() {
        for index in 0..payloads.len() {
            for at in 0..payloads[index].len() {
                let Some(text) = short_text(&payloads[index][at..]) else { continue };
                let mut longer = payloads.clone();
                let text_long = [&[0xdb, 0, 1, 0x86, 0xa0][..], &vec![b'a'; LONG]].concat();
                longer[index].splice(at..=at + text, text_long);
                match decode_request(operation, &longer) {
                    Err(_) => refused += 1,
                    // A field nobody knows, or bytes that are decoded later or not at all.
                    Ok(request) => {
                        let kept = format!("{request:?}");
                        let is_opaque = kept.len() < LONG || UNKEPT.contains(&operation);
                        assert!(is_opaque, "{operation} keeps a name of {LONG} bytes");
                    }
                }
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

/// Operations this server does not have yet, and one whose settings are kept encoded: nothing of them is
/// stored.
const UNKEPT: [Operation; 7] = [
    Operation::RegisterKvCache,
    Operation::RegisterQCache,
    Operation::CbRegisterRope,
    Operation::ServerModuleCall,
    Operation::P2pLookupAndLock,
    Operation::Lookup,
    Operation::CommitStore,
];

/// The length of the text that begins here in the short form, if one does.
fn short_text(bytes: &[u8]) -> Option<usize> {
    let tag = *bytes.first()?;
    let length = usize::from(tag & 0x1f);
    let text = bytes.get(1..=length)?;
    ((0xa1..=0xbf).contains(&tag) && text.iter().all(u8::is_ascii_graphic)).then_some(length)
}

#[test]
fn names_that_no_store_could_hold_are_refused() {
    let frame = unhex(&vectors("types.json")["IPCCacheServerKey_full"]["hex"]);
    let key = CacheKey::decode(&frame).unwrap();
    for (bad, reason) in [
        (
            CacheKey { model_name: "a\0b", ..key },
            "field `model_name`: model name `a\\0b` must not contain `\\0`",
        ),
        (CacheKey { model_name: "a@b", ..key }, "field `model_name`: model name `a@b` must not contain `@`"),
        (CacheKey { cache_salt: "a/b", ..key }, "field `cache_salt`: cache salt `a/b` must not contain `/`"),
        (
            CacheKey { request_id: &"r".repeat(1025), ..key },
            "field `request_id`: request id has `1025` bytes, expected at most 1024",
        ),
    ] {
        assert_eq!(CacheKey::decode(&bad.encode().unwrap()).unwrap_err().to_string(), reason);
    }
}

#[test]
fn more_token_ids_than_any_context_are_refused_before_they_are_read() {
    let count = u32::try_from(larder_wire::limits::TOKEN_IDS_MAX + 1).unwrap();
    let ids =
        [&[0x81][..], b"\xa9token_ids", &[0xdd], &count.to_be_bytes(), &vec![0; count as usize]].concat();
    let mut asked = false;
    let error = CacheKey::decode_with(&ids, &mut |_, _| {
        asked = true;
        None
    });
    assert_eq!(error.unwrap_err().to_string(), "field `token_ids`: more than 16777216 elements");
    assert!(!asked);
}

#[test]
fn messages_are_sorted_out_by_their_frames() {
    let none: [&[u8]; 0] = [];
    assert_eq!(Incoming::parse(&none).err(), Some(WireError::FrameCount { got: 0 }));
    assert_eq!(Incoming::parse(&[b"\x07"]).err(), Some(WireError::FrameCount { got: 1 }));
    let odd = [&b""[..], b"\xc1", b"x"];
    let Ok(Incoming::Request { uid, payloads, .. }) = Incoming::parse(&odd) else {
        panic!("any uid and operation frame make a request");
    };
    assert_eq!((uid, payloads), (&b""[..], &[&b"x"[..]][..]));
    for (word, control) in [(&b"ack"[..], StreamControl::Ack), (b"cancel", StreamControl::Cancel)] {
        match Incoming::parse(&[b"\x07", &b""[..], word]) {
            Ok(Incoming::Control { uid, control: got }) => assert_eq!((uid, got), (&b"\x07"[..], control)),
            other => panic!("{other:?}"),
        }
    }
    for frames in [&[&b"\x07"[..], b"", b"pause"][..], &[b"\x07", b""], &[b"\x07", b"", b"ack", b"ack"]] {
        assert_eq!(Incoming::parse(frames).err(), Some(WireError::UnknownControl));
    }
}

#[test]
fn a_refusal_is_the_reply_that_makes_an_unmodified_client_raise() {
    let [operation_frame, body] = error_reply("no such instance");
    assert_eq!(hex(&operation_frame), "a56572726f72");
    assert_eq!(operation_frame, ERROR_OPERATION_FRAME);
    let refused = decode_reply(Operation::PrepareStore, &operation_frame, Some(&body)).unwrap_err();
    assert_eq!(refused.to_string(), "prepare_store: refused by the server: no such instance");
    let [_, long] = error_reply(&"ä".repeat(4000));
    assert!(long.len() <= 1027);
    assert!(decode_reply(Operation::Noop, ERROR_OPERATION_FRAME, Some(&long)).is_err());
    let wrong = decode_reply(Operation::Noop, b"\x15", Some(b"\x10")).unwrap_err();
    assert_eq!(wrong, WireError::WrongOperation { operation: Operation::Noop });
}
