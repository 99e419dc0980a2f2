//! A connected socket of either kind.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::scratch::Scratch;
use crate::codec::{Decoder, Encoder};

/// Pieces handed to one vectored write.
const WRITE_SLICES_MAX: usize = 64;

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Reads once into `scratch`; 0 is the end of the stream.
    pub(crate) fn poll_read_scratch(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch.bytes_mut());
        let read = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buffer),
        };
        read.map_ok(|()| buffer.filled().len())
    }

    /// Reads once into the place of the frame which `decoder` is in the middle of; `None` if it is in none.
    pub(crate) fn poll_read_payload(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder,
    ) -> Option<Poll<io::Result<usize>>> {
        let mut payload = decoder.payload_mut()?;
        // The futures hold nothing between polls, so making one for each poll loses nothing.
        Some(match self {
            Self::Tcp(stream) => std::pin::pin!(stream.read_buf(&mut payload)).poll(cx),
            Self::Unix(stream) => std::pin::pin!(stream.read_buf(&mut payload)).poll(cx),
        })
    }

    /// Writes once from what `encoder` holds, and takes what was written off it.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        encoder: &mut Encoder,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
        let used = encoder.slices(&mut slices);
        let written = match (self, &slices[..used]) {
            (Self::Tcp(stream), [slice]) => Pin::new(stream).poll_write(cx, slice),
            (Self::Tcp(stream), slices) => Pin::new(stream).poll_write_vectored(cx, slices),
            (Self::Unix(stream), [slice]) => Pin::new(stream).poll_write(cx, slice),
            (Self::Unix(stream), slices) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        match written {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => {
                encoder.advance(written);
                Poll::Ready(Ok(written))
            }
            other => other,
        }
    }
}
