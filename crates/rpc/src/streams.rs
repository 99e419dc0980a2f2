//! Subscribers to KV events: one batch per credit (`spec/mp-protocol.md` 1.3).

use bytes::Bytes;
use hashbrown::HashMap;
use larder_core::kv_events::{KvEvent, KvEventKind, KvEventPage};
use larder_wire::events::{KvEvent as WireEvent, KvEventBatch, KvEventKind as WireKind};
use larder_wire::reply::StreamControl;
use larder_wire::{IdBuffer, Response};
use larder_zmtp::{Peer, PeerId};

use super::answer::Ticket;
use super::outcome::Subscription;
use larder_engine::Requests;

/// Most streams at a time, and most of one connection; a subscriber needs one.
const STREAMS_MAX: usize = 4_096;
const STREAMS_PER_CONNECTION_MAX: usize = 64;

/// Where L1 objects are, as event consumers call it.
const MEDIUM: &str = "CPU";

struct Stream {
    peer: Peer,
    ticket: Ticket,
    subscription: Subscription,
    /// Whether the subscriber has asked for another batch.
    credit: bool,
}

/// Open streams by connection and request uid.
#[derive(Default)]
pub(super) struct Streams {
    open: HashMap<(PeerId, Bytes), Stream>,
}

impl Streams {
    /// Whether there is room for another stream of `peer`; why not if there is none.
    pub(super) fn check_room(&self, peer: PeerId) -> Result<(), String> {
        if self.open.len() >= STREAMS_MAX {
            return Err(format!("{STREAMS_MAX} streams are open already"));
        }
        let own = self.open.keys().filter(|(owner, _)| *owner == peer).count();
        if own >= STREAMS_PER_CONNECTION_MAX {
            return Err(format!("the connection has {STREAMS_PER_CONNECTION_MAX} streams already"));
        }
        Ok(())
    }

    /// Opens a stream and sends its first batch, even an empty one. A stream of the same instance ends.
    pub(super) fn open(&mut self, engine: &Requests, peer: Peer, ticket: Ticket, subscription: Subscription) {
        let instance_id = subscription.instance_id;
        for (_, replaced) in self.open.extract_if(|_, other| other.subscription.instance_id == instance_id) {
            replaced.end();
        }
        engine.record_events(true);
        let key = (peer.id(), ticket.uid.clone());
        let mut stream = Stream { peer, ticket, subscription, credit: true };
        if stream.send_batch(engine, true) {
            self.open.insert(key, stream);
        }
        self.settle(engine);
    }

    /// Takes a word of a subscriber; unknown words and streams are ignored.
    pub(super) fn control(&mut self, engine: &Requests, peer: PeerId, uid: &Bytes, words: &[Bytes]) {
        let key = (peer, uid.clone());
        let Some(stream) = self.open.get_mut(&key) else { return };
        let [word] = words else { return };
        let alive = if **word == *StreamControl::Ack.word() {
            stream.credit = true;
            stream.send_batch(engine, false)
        } else if **word == *StreamControl::Cancel.word() {
            stream.end();
            false
        } else {
            true
        };
        if !alive {
            self.open.remove(&key);
            self.settle(engine);
        }
    }

    /// Sends what is new to everybody who has credit.
    pub(super) fn pump(&mut self, engine: &Requests) {
        self.open.retain(|_, stream| stream.send_batch(engine, false));
        self.settle(engine);
    }

    /// Forgets the streams of a closed connection.
    pub(super) fn forget(&mut self, engine: &Requests, peer: PeerId) {
        if !self.open.is_empty() {
            self.open.retain(|(owner, _), _| *owner != peer);
            self.settle(engine);
        }
    }

    fn settle(&self, engine: &Requests) {
        if self.open.is_empty() {
            engine.record_events(false);
        }
    }
}

impl Stream {
    /// Sends a batch if there is credit and something to say; false when the stream is over.
    fn send_batch(&mut self, engine: &Requests, even_if_empty: bool) -> bool {
        if !self.credit {
            return true;
        }
        let Subscription { model_name, cursor, max_events, .. } = &mut self.subscription;
        let page = engine.read_events(model_name, *cursor, *max_events);
        *cursor = page.next_cursor;
        if page.events.is_empty() && !page.lost && !even_if_empty {
            return true;
        }
        self.credit = false;
        let Some(body) = encode(engine, &page) else { return false };
        let Ticket { uid, operation } = self.ticket.clone();
        self.peer.send([uid, operation, body]).is_ok()
    }

    /// Tells the subscriber that the stream has ended.
    fn end(&self) {
        let Ticket { uid, operation } = self.ticket.clone();
        _ = self.peer.send([uid, operation]);
    }
}

fn encode(engine: &Requests, page: &KvEventPage) -> Option<Bytes> {
    let tokens: Vec<IdBuffer> = page.events.iter().map(|event| IdBuffer::new(tokens_of(event))).collect();
    let events = page.events.iter().zip(&tokens).map(|(event, tokens)| WireEvent {
        seq: event.seq,
        kind: match event.kind {
            KvEventKind::Stored { .. } => WireKind::Stored,
            KvEventKind::Removed => WireKind::Removed,
        },
        medium: MEDIUM,
        model_name: &event.model_name,
        block_hashes: event.hashes.iter().map(|hash| &hash.0[..]).collect(),
        parent_block_hash: match &event.kind {
            KvEventKind::Stored { parent, .. } => parent.as_ref().map(|hash| &hash.0[..]),
            KvEventKind::Removed => None,
        },
        token_ids: tokens.as_array(),
    });
    let (enabled, incarnation) = engine.event_log();
    let batch = KvEventBatch {
        enabled,
        incarnation,
        next_cursor: page.next_cursor,
        lost: page.lost,
        events: events.collect(),
    };
    Response::KvEvents(batch).encode().ok().flatten().map(Bytes::from)
}

fn tokens_of(event: &KvEvent) -> &[u32] {
    match &event.kind {
        KvEventKind::Stored { tokens, .. } => tokens,
        KvEventKind::Removed => &[],
    }
}
