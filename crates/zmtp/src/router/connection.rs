//! One connection as one future: read, decode, hand over, write.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::deadlines::{Contested, Deadlines};
use super::outgoing::Outgoing;
use super::peer::{Charge, Message, Peer, Permit};
use super::serve::{Handler, Shared};
use crate::codec::{Command, Decoder, Event, Handshake, Ready, SocketType};
use crate::error::{Error, Result};
use crate::net::{SCRATCH_BYTES, Scratch, Stream};

/// Reads of one connection before the others get their turn.
const ROUNDS_MAX: usize = 8;
/// Bytes of those reads; what has come beyond them is read in the next turn.
const TURN_BYTES_MAX: usize = 512 << 10;
/// Time spent on its messages, of which one of a few bytes may take a hundred times as long as another; the
/// rest of them has its time in the next turn.
const TURN_TIME_MAX: Duration = Duration::from_micros(500);

/// Frames lacking at least this much are read into place, smaller rests through the scratch buffer.
const IN_PLACE_BYTES_MIN: usize = SCRATCH_BYTES / 4;

/// Why a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Disconnect {
    /// The peer closed it between two messages.
    Closed,
    /// It broke, or the peer violated the protocol or a limit.
    Failed(Error),
    /// [`Peer::disconnect`] was called.
    Kicked,
    /// The handler panicked in one of its calls.
    Panicked,
    /// The router stopped.
    Shutdown,
}

impl Disconnect {
    /// Whether it was the peer that ended the connection, or its host that was lost; else its process lives
    /// on and may not know yet.
    #[must_use]
    pub fn is_by_peer(&self) -> bool {
        matches!(self, Self::Closed | Self::Failed(Error::Io(_) | Error::Closed { .. }))
    }
}

impl std::fmt::Display for Disconnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the peer"),
            Self::Failed(error) => error.fmt(f),
            Self::Kicked => f.write_str("disconnected by the server"),
            Self::Panicked => f.write_str("the server failed while handling a message"),
            Self::Shutdown => f.write_str("the server stopped"),
        }
    }
}

/// The task of a connection. Dropping it at any point ends the connection in order.
pub(super) struct Connection<H: Handler> {
    stream: Stream,
    shared: Arc<Shared>,
    handler: Arc<H>,
    peer: Peer,
    /// `None` when the handshake is over.
    handshake: Option<Handshake>,
    decoder: Decoder,
    /// Bytes read and, from `carry_start`, not decoded, because the budget or the turn ran out between two
    /// messages.
    carry: Vec<u8>,
    carry_start: usize,
    /// For the message being received.
    charge: Option<Charge>,
    /// Output being written; what handlers queue meanwhile is in the peer.
    outgoing: Outgoing,
    deadlines: Deadlines,
    blocked: bool,
    turn: Turn,
    ended: Disconnect,
}

/// What a connection may do before the others get their turn.
struct Turn {
    bytes: usize,
    began: Instant,
}

impl Turn {
    fn new() -> Self {
        Self { bytes: 0, began: Instant::now() }
    }

    fn is_over(&self) -> bool {
        self.bytes > TURN_BYTES_MAX || self.began.elapsed() > TURN_TIME_MAX
    }
}

/// What came of an attempt to receive.
enum Received {
    Some,
    /// The socket has nothing.
    Nothing,
    /// The budget does not allow reading.
    Blocked,
}

impl<H: Handler> Connection<H> {
    pub(super) fn new(stream: Stream, peer: Peer, handler: Arc<H>, shared: Arc<Shared>) -> Self {
        let mut outgoing = Outgoing::default();
        let local = Ready { socket_type: SocketType::Router, identity: Vec::new() };
        let handshake = Handshake::start(local, shared.limits.command_bytes_max, &mut outgoing.encoder);
        peer.add_outgoing(outgoing.encoder.len());
        shared.opened(&peer);
        Self {
            stream,
            handler,
            peer,
            handshake: Some(handshake),
            decoder: Decoder::new(shared.limits.frames()),
            carry: Vec::new(),
            carry_start: 0,
            charge: None,
            outgoing,
            deadlines: Deadlines::new(&shared.limits),
            blocked: false,
            turn: Turn::new(),
            ended: Disconnect::Shutdown,
            shared,
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Disconnect> {
        self.turn = Turn::new();
        for round in 0..ROUNDS_MAX {
            if round > 0 && self.turn.is_over() {
                break;
            }
            if let Err(error) = self.flush(cx) {
                return Poll::Ready(Disconnect::Failed(error));
            }
            if self.peer.is_kicked() {
                return Poll::Ready(Disconnect::Kicked);
            }
            let closing = self.shared.is_closing();
            if closing && self.outgoing.is_empty() {
                return Poll::Ready(Disconnect::Shutdown);
            }
            let received = if closing { Ok(Received::Nothing) } else { self.receive(cx) };
            match received {
                Ok(Received::Some) => continue,
                Ok(Received::Nothing) => self.blocked = false,
                Ok(Received::Blocked) => {}
                Err(Error::Closed { partial_bytes: 0 }) if self.handshake.is_none() => {
                    return Poll::Ready(Disconnect::Closed);
                }
                Err(error) => {
                    // An ERROR command for the peer may be waiting; one attempt is enough.
                    _ = self.flush(cx);
                    return Poll::Ready(Disconnect::Failed(error));
                }
            }
            if !self.peer.park(cx, !self.outgoing.is_empty(), self.blocked) {
                continue;
            }
            // Closing and kicking wake a parked task; this closes the gap before parking.
            if self.peer.is_kicked() || self.shared.is_closing() != closing {
                continue;
            }
            return self.poll_deadlines(cx).map(Disconnect::Failed);
        }
        // Waking itself, it would run again before the runtime looks at what the others have sent.
        _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let (shared, peer) = (&self.shared, &self.peer);
        let reserve = shared.limits.reserve_bytes;
        let holds =
            self.charge.as_ref().is_some_and(|charge| charge.has_overdraft() || charge.bytes() > reserve);
        self.deadlines.poll(cx, &shared.limits, || Contested {
            read: holds && shared.budget.is_contested(),
            write: peer.outgoing_bytes() > reserve && shared.outgoing_budget.is_contested(),
        })
    }

    /// Writes until nothing is left or the socket takes no more.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            if self.outgoing.is_empty() && !self.peer.take_outgoing(&mut self.outgoing) {
                self.deadlines.write.end();
                return Ok(());
            }
            match self.stream.poll_write(cx, &mut self.outgoing.encoder) {
                Poll::Pending => {
                    self.deadlines.write.begin();
                    return Ok(());
                }
                Poll::Ready(written) => {
                    let written = written?;
                    self.deadlines.write.moved(written);
                    self.outgoing.note_written(written);
                    self.peer.sub_outgoing(written);
                    self.shared.stats.bytes_out(written);
                }
            }
        }
    }

    /// Reads once, if the budgets allow it, and hands over what is complete.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<Received> {
        if !self.may_receive() {
            self.deadlines.read.pause();
            return Ok(Received::Blocked);
        }
        if !self.carry.is_empty() {
            let carry = std::mem::take(&mut self.carry);
            let rest = self.process(&carry[self.carry_start..])?;
            if rest > 0 {
                self.carry_start = carry.len() - rest;
                self.carry = carry;
            }
            return Ok(Received::Some);
        }
        if self.decoder.missing_bytes() < IN_PLACE_BYTES_MIN {
            return self.receive_scratch(cx);
        }
        let Some(read) = self.stream.poll_read_payload(cx, &mut self.decoder) else {
            return self.receive_scratch(cx);
        };
        if self.check_read(read)?.is_none() {
            return Ok(Received::Nothing);
        }
        self.process(&[])?;
        Ok(Received::Some)
    }

    fn receive_scratch(&mut self, cx: &mut Context<'_>) -> Result<Received> {
        let mut scratch = Scratch::borrow();
        let read = self.stream.poll_read_scratch(cx, &mut scratch);
        let Some(read) = self.check_read(read)? else { return Ok(Received::Nothing) };
        let rest = self.process(&scratch.bytes()[..read])?;
        self.carry.extend_from_slice(&scratch.bytes()[read - rest..read]);
        self.carry_start = 0;
        Ok(Received::Some)
    }

    /// Accounts for a read; `None` if the socket has nothing.
    fn check_read(&mut self, read: Poll<std::io::Result<usize>>) -> Result<Option<usize>> {
        match read {
            Poll::Pending => {
                if self.decoder.in_message() {
                    self.deadlines.read.begin();
                } else {
                    self.deadlines.read.end();
                    // The overdraft, if it was taken, is for those who have something to say.
                    self.charge = None;
                }
                Ok(None)
            }
            Poll::Ready(Ok(0)) => Err(Error::Closed { partial_bytes: self.decoder.pending_bytes() }),
            Poll::Ready(read) => {
                let read = read?;
                self.deadlines.read.moved(read);
                self.turn.bytes += read;
                self.shared.stats.bytes_in(read);
                Ok(Some(read))
            }
        }
    }

    /// Decodes `input` and hands every message over; stops between two messages when the budget is used up or
    /// the turn is over. Returns how many bytes at the end of `input` are left.
    fn process(&mut self, mut input: &[u8]) -> Result<usize> {
        if self.handshake.is_some() && !self.shake_hands(&mut input)? {
            return Ok(0);
        }
        while let Some(event) = self.decoder.decode(&mut input)? {
            match event {
                Event::Command(body) => self.command(&body)?,
                Event::Message { parts, cost_bytes, dropped_bytes } => {
                    self.message(parts, cost_bytes, dropped_bytes);
                }
            }
            if !input.is_empty() && (self.turn.is_over() || !self.may_receive()) {
                return Ok(input.len());
            }
        }
        let pending_bytes = self.decoder.held_bytes();
        if pending_bytes > 0 {
            self.charge.get_or_insert_with(|| Charge::new(&self.peer)).raise(pending_bytes);
        }
        Ok(0)
    }

    /// True when the handshake is over.
    fn shake_hands(&mut self, input: &mut &[u8]) -> Result<bool> {
        let Some(handshake) = &mut self.handshake else { return Ok(true) };
        let before = self.outgoing.encoder.len();
        let result = handshake.advance(input, &mut self.outgoing.encoder);
        self.peer.add_outgoing(self.outgoing.encoder.len() - before);
        let Some(ready) = result? else { return Ok(false) };
        self.handshake = None;
        self.deadlines.handshake_done();
        self.peer.set_identity(ready.identity);
        self.handler.connected(&self.peer);
        Ok(true)
    }

    fn message(&mut self, parts: Vec<Bytes>, cost_bytes: usize, dropped_bytes: u64) {
        self.deadlines.read.end();
        let mut charge = self.charge.take().unwrap_or_else(|| Charge::new(&self.peer));
        charge.raise(cost_bytes);
        self.shared.stats.message_in(dropped_bytes);
        let message = Message { parts, dropped_bytes, permit: Permit::new(charge) };
        self.handler.message(&self.peer, message);
    }

    fn command(&mut self, body: &[u8]) -> Result<()> {
        match Command::parse(body)? {
            Command::Ping { context, .. } => {
                let bytes = self.outgoing.command(Command::pong(context));
                self.peer.add_outgoing(bytes);
                Ok(())
            }
            Command::Error(reason) => Err(Error::Refused { reason: reason.escape_ascii().to_string() }),
            Command::Ready(_) | Command::Pong(_) | Command::Other(_) => Ok(()),
        }
    }

    /// Whether the budgets let this connection read; a handshake is bounded in itself. If not, the task is
    /// unblocked when that may have changed.
    fn may_receive(&mut self) -> bool {
        if self.admits() {
            self.blocked = false;
            return true;
        }
        if !self.blocked {
            self.blocked = true;
            self.shared.stats.budget_wait();
        }
        self.peer.set_blocked();
        if !self.shared.budget.admits() {
            self.shared.budget.wait(&self.peer);
        }
        // A release between the question and the announcement would go unnoticed otherwise.
        if self.admits() {
            self.peer.clear_blocked();
            self.blocked = false;
            return true;
        }
        false
    }

    fn admits(&mut self) -> bool {
        if self.handshake.is_some() {
            return true;
        }
        let limits = &self.shared.limits;
        let receiving = self.charge.as_ref().map_or(0, Charge::bytes);
        let charged = self.peer.charged_bytes();
        let own = self.peer.has_room()
            && self.peer.in_flight() < limits.messages_in_flight_max.max(1)
            && (charged < limits.connection_budget_bytes || charged == receiving);
        if !own || charged < limits.reserve_bytes || self.shared.budget.admits() {
            return own;
        }
        match &mut self.charge {
            Some(charge) => charge.has_overdraft() || charge.take_overdraft(),
            None => {
                let mut charge = Charge::new(&self.peer);
                let admitted = charge.take_overdraft();
                self.charge = admitted.then_some(charge);
                admitted
            }
        }
    }
}

impl<H: Handler> Future for Connection<H> {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        // Stays in place only if the handler panics.
        connection.ended = Disconnect::Panicked;
        let driven = connection.drive(cx);
        connection.ended = Disconnect::Shutdown;
        driven.map(|ended| connection.ended = ended)
    }
}

impl<H: Handler> Drop for Connection<H> {
    fn drop(&mut self) {
        self.peer.set_gone();
        self.shared.closed(&self.peer);
        if let Disconnect::Failed(error) = &self.ended {
            self.shared.stats.error(error);
        }
        if self.handshake.is_some() {
            self.shared.stats.handshake_failed();
        } else {
            self.handler.disconnected(&self.peer, &self.ended);
        }
    }
}
