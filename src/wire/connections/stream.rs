//! The bytes of a connection for HTTP: first those that were read to find out which protocol it is. A connection that
//! takes none of what is written to it for a while ends.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use crate::{limits::WRITE_WAIT_MILLIS, wire::layers::budget::Share};

const WRITE_WAIT: Duration = Duration::from_millis(WRITE_WAIT_MILLIS);

/// See the module.
#[derive(Debug)]
pub(super) struct Stream<S> {
    of: S,
    /// What is to be read before the rest.
    first: Bytes,
    /// What counts the heads that are read, of HTTP/1.1.
    heads: Option<Share>,
    /// When it ends, if nothing more of what is written is taken until then.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Stream<S> {
    pub(super) fn new(stream: S, first: Bytes, heads: Option<Share>) -> Self {
        Self {
            of: stream,
            first,
            heads,
            stalled: None,
        }
    }

    /// The result of an attempt to write, or an error where none has succeeded for too long.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(WRITE_WAIT)));
        stalled.as_mut().poll(context).map(|()| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer takes nothing of what is sent to it",
            ))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.of).poll_read(context, buffer))?;
            if let Some(heads) = &self.heads {
                let read = heads.read(buffer.filled().len() - before);
                read.map_err(|status| io::Error::other(status.message().to_owned()))?;
            }
            return Poll::Ready(Ok(()));
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..count]);
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.of).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.of).poll_write_vectored(context, buffers);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.of.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.of).poll_flush(context);
        self.written(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.of).poll_shutdown(context);
        self.written(context, ended)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::{Instant, advance},
    };

    use super::*;
    use crate::{limits::REQUEST_BYTES_UNCOUNTED, wire::layers::budget::Budget};

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"defghi").await.expect("room");
        let mut stream = Stream::new(server, Bytes::from_static(b"abc"), None);
        let mut read = [0; 9];
        stream.read_exact(&mut read[..2]).await.expect("bytes");
        stream.read_exact(&mut read[2..]).await.expect("bytes");
        assert_eq!(&read, b"abcdefghi");
    }

    #[tokio::test]
    async fn heads_for_which_there_is_no_room_end_the_connection() {
        let share = Budget::new(0, usize::MAX).connection();
        let (mut client, server) = tokio::io::duplex(2 * REQUEST_BYTES_UNCOUNTED);
        let mut stream = Stream::new(server, Bytes::new(), Some(share));
        let head = vec![b'a'; REQUEST_BYTES_UNCOUNTED + 1];
        client.write_all(&head).await.expect("room");
        let mut read = vec![0; head.len()];
        let error = stream.read_exact(&mut read).await.expect_err("no room");
        assert!(error.to_string().contains("holds"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (mut client, server) = tokio::io::duplex(1);
        let mut stream = Stream::new(server, Bytes::new(), None);
        let began = Instant::now();
        let writing = tokio::spawn(async move { stream.write_all(b"abcd").await });
        for _ in 0..2 {
            tokio::task::yield_now().await;
            advance(Duration::from_millis(WRITE_WAIT_MILLIS - 1)).await;
            assert!(!writing.is_finished());
            client.read_u8().await.expect("a byte");
        }
        let error = writing
            .await
            .expect("it ends")
            .expect_err("it was given up");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 3 * WRITE_WAIT.as_secs() - 1);
    }
}
