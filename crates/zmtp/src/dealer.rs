//! A DEALER client: one connection, for tests, benchmarks and tools.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::timeout;

use crate::codec::{Command, Decoder, Encoder, Event, Handshake, Ready, SocketType};
use crate::endpoint::Endpoint;
use crate::error::{Error, LimitKind, Result};
use crate::limits::Limits;
use crate::net::{Scratch, Stream, connect};

/// A connected DEALER socket. It does not connect again: an error ends it.
#[derive(Debug)]
pub struct Dealer {
    stream: Stream,
    decoder: Decoder,
    encoder: Encoder,
    /// Received and not yet asked for.
    inbox: VecDeque<Vec<Bytes>>,
    inbox_bytes: usize,
    limits: Limits,
}

impl Dealer {
    /// Connects with default limits and no identity, and waits for the end of the handshake.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be reached, or its server does not speak our protocol or refuses us.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self> {
        Self::connect_with(endpoint, &[], Limits::default()).await
    }

    /// As [`Dealer::connect`], giving an identity (at most 255 bytes) and limits.
    ///
    /// # Errors
    ///
    /// As [`Dealer::connect`]; also when the handshake takes longer than `Limits::handshake_timeout`.
    pub async fn connect_with(endpoint: &Endpoint, identity: &[u8], limits: Limits) -> Result<Self> {
        let after = limits.handshake_timeout;
        let connected = timeout(after, Self::open(endpoint, identity, limits)).await;
        connected.unwrap_or(Err(Error::Timeout { limit: LimitKind::HandshakeTimeout, after }))
    }

    async fn open(endpoint: &Endpoint, identity: &[u8], limits: Limits) -> Result<Self> {
        let mut encoder = Encoder::default();
        let local = Ready { socket_type: SocketType::Dealer, identity: identity.to_vec() };
        let mut handshake = Handshake::start(local, limits.command_bytes_max, &mut encoder);
        let mut dealer = Self {
            stream: connect(endpoint).await?,
            decoder: Decoder::new(limits.frames()),
            encoder,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            limits,
        };
        poll_fn(|cx| dealer.poll_handshake(cx, &mut handshake)).await?;
        dealer.flush().await?;
        Ok(dealer)
    }

    /// Sends a message; returns when it is written. Messages that arrive meanwhile are kept for
    /// [`Dealer::recv`].
    ///
    /// # Errors
    ///
    /// The connection broke, or the peer violated the protocol or a limit.
    pub async fn send(&mut self, parts: impl IntoIterator<Item = Bytes>) -> Result<()> {
        self.queue(parts);
        self.flush().await
    }

    /// Queues a message for the next [`Dealer::flush`], [`Dealer::send`] or [`Dealer::recv`].
    pub fn queue(&mut self, parts: impl IntoIterator<Item = Bytes>) {
        self.encoder.message(parts);
    }

    /// Writes what is queued.
    ///
    /// # Errors
    ///
    /// As [`Dealer::send`].
    pub async fn flush(&mut self) -> Result<()> {
        poll_fn(|cx| {
            if let Poll::Ready(flushed) = self.poll_flush(cx) {
                return Poll::Ready(flushed);
            }
            // A server may stop reading until its replies are read.
            while self.inbox_bytes < self.limits.connection_budget_bytes {
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next message.
    ///
    /// # Errors
    ///
    /// The connection ended, or the peer violated the protocol or a limit.
    pub async fn recv(&mut self) -> Result<Vec<Bytes>> {
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            loop {
                if let Some(parts) = self.inbox.pop_front() {
                    self.inbox_bytes -= parts.iter().map(Bytes::len).sum::<usize>();
                    return Poll::Ready(Ok(parts));
                }
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>, handshake: &mut Handshake) -> Poll<Result<()>> {
        loop {
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            let mut scratch = Scratch::borrow();
            let read = match self.stream.poll_read_scratch(cx, &mut scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Error::Closed { partial_bytes: 0 })),
                Poll::Ready(read) => read?,
            };
            let mut input = &scratch.bytes()[..read];
            if handshake.advance(&mut input, &mut self.encoder)?.is_some() {
                return Poll::Ready(self.process(input));
            }
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.encoder.is_empty() {
            match self.stream.poll_write(cx, &mut self.encoder) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(written) => written?,
            };
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once into the inbox.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let closed = |decoder: &Decoder| Err(Error::Closed { partial_bytes: decoder.pending_bytes() });
        if let Some(read) = self.stream.poll_read_payload(cx, &mut self.decoder) {
            return match read {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(0)) => Poll::Ready(closed(&self.decoder)),
                Poll::Ready(Ok(_)) => Poll::Ready(self.process(&[])),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            };
        }
        let mut scratch = Scratch::borrow();
        match self.stream.poll_read_scratch(cx, &mut scratch) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(closed(&self.decoder)),
            Poll::Ready(Ok(read)) => Poll::Ready(self.process(&scratch.bytes()[..read])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
        }
    }

    fn process(&mut self, mut input: &[u8]) -> Result<()> {
        while let Some(event) = self.decoder.decode(&mut input)? {
            match event {
                Event::Message { dropped_bytes, .. } if dropped_bytes > 0 => {
                    let max = self.limits.message_bytes_max;
                    return Err(Error::Limit { limit: LimitKind::MessageBytes, value: dropped_bytes, max });
                }
                Event::Message { parts, .. } => {
                    self.inbox_bytes += parts.iter().map(Bytes::len).sum::<usize>();
                    self.inbox.push_back(parts);
                }
                Event::Command(body) => match Command::parse(&body)? {
                    Command::Ping { context, .. } => {
                        self.encoder.command(Command::pong(context));
                    }
                    Command::Error(reason) => {
                        return Err(Error::Refused { reason: reason.escape_ascii().to_string() });
                    }
                    Command::Ready(_) | Command::Pong(_) | Command::Other(_) => {}
                },
            }
        }
        Ok(())
    }
}
