//! The table of sessions: whose they are, what they take, and whose go first when there is no room.

use std::sync::Arc;

use larder_core::hash::ChunkHash;
use larder_core::lease::LeaseSet;
use proptest::prelude::*;

use super::*;
use crate::state::sessions::{Found, Session, Sessions};

/// Bytes of hashes a session is said to have; those of one test are shared by all its sessions.
const LARGE_CHUNKS: usize = 1 << 20;

fn found(hashes: &Arc<[ChunkHash]>) -> Found {
    Found {
        hit_chunks: 0,
        pending: None,
        collected: false,
        rows: Arc::new([]),
        leases: LeaseSet::new(1),
        hashes: Arc::clone(hashes),
    }
}

fn no_hashes() -> Arc<[ChunkHash]> {
    Arc::new([])
}

fn large() -> Arc<[ChunkHash]> {
    (0..LARGE_CHUNKS).map(|_| ChunkHash([0; 32])).collect()
}

fn open(sessions: &mut Sessions, request: u64, owner: u64, now_ms: u64, found: Found) -> Vec<u64> {
    let request = request.to_string();
    let (superseded, given_up) = sessions.open(&key(&request, &[], None), owner, now_ms, found);
    assert!(superseded.is_empty());
    given_up.iter().map(|session: &Session| session.used_ms).collect()
}

#[test]
fn a_connection_whose_sessions_take_many_bytes_loses_its_oldest() {
    let (mut sessions, hashes) = (Sessions::default(), large());
    for request in 0..15 {
        assert!(open(&mut sessions, request, 1, 1 + request, found(&hashes)).is_empty());
    }
    open(&mut sessions, 100, 2, 0, found(&hashes));
    assert_eq!(open(&mut sessions, 101, 1, 99, found(&hashes)), [1], "half a GiB is the most");
    assert_eq!(open(&mut sessions, 102, 1, 99, found(&hashes)), [2]);
    assert!(sessions.iter().any(|(request, _)| request == "100"), "another's stays, though it is older");
    assert!(sessions.is_balanced());
}

#[test]
fn when_all_sessions_take_too_much_whoever_has_most_gives_way() {
    let (mut sessions, hashes) = (Sessions::default(), large());
    // Many sessions are not many bytes.
    for request in 0..20 {
        open(&mut sessions, 1000 + request, 4, 0, found(&no_hashes()));
    }
    for (owner, count) in [(1, 10), (2, 14), (3, 7)] {
        for request in 0..count {
            let given_up = open(&mut sessions, owner * 100 + request, owner, 10 + request, found(&hashes));
            assert!(given_up.is_empty(), "a GiB is not reached");
        }
    }
    assert_eq!(open(&mut sessions, 399, 3, 50, found(&hashes)), [10], "the second one's oldest");
    assert!(!sessions.iter().any(|(request, _)| request == "200"));
    assert!(sessions.is_balanced());
}

#[test]
fn a_session_is_named_by_model_world_size_and_salt_as_well() {
    let (mut sessions, hashes) = (Sessions::default(), no_hashes());
    let base = key("r", &[], None);
    let keys = [
        base.clone(),
        PromptKey { model_name: "other", ..base.clone() },
        PromptKey { world_size: 2, ..base.clone() },
        PromptKey { cache_salt: "salt", ..base },
    ];
    for (now_ms, key) in keys.iter().enumerate() {
        let (superseded, _) = sessions.open(key, 1, now_ms as u64, found(&hashes));
        assert!(superseded.is_empty());
    }
    for (now_ms, key) in keys.iter().enumerate() {
        let lenders: Vec<u64> = sessions.lenders(key).map(|session| session.used_ms).collect();
        assert_eq!(lenders, [now_ms as u64]);
    }
    let closed = keys.iter().flat_map(|key| sessions.close(key, 1)).map(|session| session.used_ms);
    assert_eq!(closed.collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(sessions.len() == 0 && sessions.is_balanced());
}

#[derive(Clone, Debug)]
enum Step {
    Open { request: u64, owner: usize, salt: bool },
    Close { request: u64, owner: usize },
    Claim { request: u64, owner: usize },
    End { request: u64, owner: usize },
    EndAll { request: u64 },
    Orphan { owner: usize },
    Expire { from_ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let (request, owner) = (|| 0..4u64, || 0..4usize);
    prop_oneof![
        6 => (request(), owner(), any::<bool>())
            .prop_map(|(request, owner, salt)| Step::Open { request, owner, salt }),
        1 => (request(), owner()).prop_map(|(request, owner)| Step::Close { request, owner }),
        2 => (request(), owner()).prop_map(|(request, owner)| Step::Claim { request, owner }),
        1 => (request(), owner()).prop_map(|(request, owner)| Step::End { request, owner }),
        1 => request().prop_map(|request| Step::EndAll { request }),
        2 => owner().prop_map(|owner| Step::Orphan { owner }),
        1 => (0..60u64).prop_map(|from_ms| Step::Expire { from_ms }),
    ]
}

/// A session as the model has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Modelled {
    request: u64,
    owner: u64,
    salt: bool,
    used_ms: u64,
    is_orphaned: bool,
}

/// Which of the sessions under an id a connection speaks for: its own, or else those of connections that are
/// gone.
fn is_its(model: &[Modelled], request: u64, owner: u64) -> impl Fn(&Modelled) -> bool + use<> {
    let owns = model.iter().any(|session| (session.request, session.owner) == (request, owner));
    move |session| {
        session.request == request && if owns { session.owner == owner } else { session.is_orphaned }
    }
}

fn salted(request: &str, salt: bool) -> PromptKey<'_> {
    PromptKey { cache_salt: if salt { "s" } else { "" }, ..key(request, &[], None) }
}

proptest! {
    /// Whoever opens, ends, leaves and comes back under whatever ids: each connection speaks for its own
    /// sessions and for those of connections that are gone, and the accounts balance.
    #[test]
    fn a_connection_speaks_for_its_own_sessions_and_for_orphans(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let (mut sessions, hashes) = (Sessions::default(), no_hashes());
        let mut model: Vec<Modelled> = Vec::new();
        let mut connections: [u64; 4] = [0, 1, 2, 3];
        for (now_ms, step) in steps.into_iter().enumerate() {
            let now_ms = now_ms as u64;
            match step {
                Step::Open { request, owner, salt } => {
                    let owner = connections[owner];
                    let its = is_its(&model, request, owner);
                    let closed = model.extract_if(.., |known| its(known) && known.salt == salt).count();
                    let (closed_too, given_up) =
                        sessions.open(&salted(&request.to_string(), salt), owner, now_ms, found(&hashes));
                    prop_assert_eq!((closed_too.len(), given_up.len()), (closed, 0));
                    model.push(Modelled { request, owner, salt, used_ms: now_ms, is_orphaned: false });
                }
                Step::Close { request, owner } => {
                    let owner = connections[owner];
                    let its = is_its(&model, request, owner);
                    let closed = model.extract_if(.., |known| its(known) && !known.salt).count();
                    let closed_too = sessions.close(&salted(&request.to_string(), false), owner);
                    prop_assert_eq!(closed_too.len(), closed);
                }
                Step::Claim { request, owner } => {
                    let owner = connections[owner];
                    let its = is_its(&model, request, owner);
                    let mut latest = None;
                    for session in model.iter_mut().filter(|session| its(session)) {
                        (session.owner, session.used_ms, session.is_orphaned) = (owner, now_ms, false);
                        latest = Some(session.salt);
                    }
                    let found = sessions.latest(&request.to_string(), owner, now_ms);
                    prop_assert_eq!(found.map(|session| &*session.cache_salt == "s"), latest);
                }
                Step::End { request, owner } => {
                    let owner = connections[owner];
                    let its = is_its(&model, request, owner);
                    let ended = model.extract_if(.., |known| its(known)).count();
                    prop_assert_eq!(sessions.end(&request.to_string(), owner).len(), ended);
                }
                Step::EndAll { request } => {
                    let ended = model.extract_if(.., |known| known.request == request).count();
                    prop_assert_eq!(sessions.end_all(&request.to_string()).len(), ended);
                }
                Step::Orphan { owner } => {
                    let gone = std::mem::replace(&mut connections[owner], 100 + now_ms);
                    sessions.orphan(gone, now_ms);
                    model
                        .iter_mut()
                        .filter(|session| session.owner == gone)
                        .for_each(|session| session.is_orphaned = true);
                }
                Step::Expire { from_ms } => {
                    let over = model.extract_if(.., |known| known.used_ms >= from_ms).count();
                    prop_assert_eq!(sessions.take_expired(|session, _| session.used_ms >= from_ms).len(), over);
                }
            }
            let mut kept: Vec<Modelled> = sessions
                .iter()
                .map(|(request, session)| Modelled {
                    request: request.parse().unwrap(),
                    owner: session.owner,
                    salt: &*session.cache_salt == "s",
                    used_ms: session.used_ms,
                    is_orphaned: sessions.is_orphaned(session),
                })
                .collect();
            kept.sort();
            let mut expected = model.clone();
            expected.sort();
            prop_assert_eq!(kept, expected);
            prop_assert!(sessions.is_balanced());
            prop_assert_eq!(sessions.len(), model.len());
        }
    }
}
