//! Bodies that come in pieces.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;

/// Pieces of a response's body.
pub(crate) struct Chunks(mpsc::Receiver<Bytes>);

impl Chunks {
    /// A body of what `chunks` receives; it ends when all senders are gone.
    pub(crate) fn new(chunks: mpsc::Receiver<Bytes>) -> Self {
        Self(chunks)
    }
}

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(Ok))
    }
}
