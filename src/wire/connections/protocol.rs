//! Which protocol a new connection speaks, as its first bytes say.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The bytes with which HTTP/2 begins (RFC 9113, section 3.4).
const HTTP2_BEGIN: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Reads until it is known what `stream` speaks. Returns that with all bytes that were read, or nothing where the stream
/// ends before. The caller bounds the time.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(Protocol, Bytes)>> {
    let mut first = [0; HTTP2_BEGIN.len()];
    let mut filled = 0;
    while filled < first.len() {
        let count = stream.read(&mut first[filled..]).await?;
        if count == 0 {
            return Ok(None);
        }
        filled += count;
        if first[..filled] != HTTP2_BEGIN[..filled] {
            let first = Bytes::copy_from_slice(&first[..filled]);
            return Ok(Some((Protocol::Http1, first)));
        }
    }
    Ok(Some((Protocol::Http2, Bytes::from_static(HTTP2_BEGIN))))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn of(pieces: &[&[u8]]) -> Option<(Protocol, Bytes)> {
        let (mut client, mut server) = tokio::io::duplex(64);
        let read = tokio::spawn(async move { read(&mut server).await });
        for piece in pieces {
            client.write_all(piece).await.expect("the piece is sent");
            tokio::task::yield_now().await;
        }
        drop(client);
        read.await.expect("it ends").expect("no error")
    }

    #[tokio::test]
    async fn the_first_bytes_decide_however_they_are_cut() {
        let http2 = Some((Protocol::Http2, Bytes::from_static(HTTP2_BEGIN)));
        assert_eq!(of(&[HTTP2_BEGIN]).await, http2);
        assert_eq!(
            of(&[b"PRI", b" * HTTP/2.0\r\n\r\nSM\r\n", b"\r\n"]).await,
            http2
        );
        let (protocol, first) = of(&[b"G"]).await.expect("it is known");
        assert_eq!((protocol, &first[..]), (Protocol::Http1, &b"G"[..]));
        let (protocol, first) = of(&[b"P", b"RI / HTTP/1.1\r\n"])
            .await
            .expect("it is known");
        assert_eq!(protocol, Protocol::Http1);
        assert!(b"PRI / HTTP/1.1\r\n".starts_with(&first), "{first:?}");
        assert_eq!(of(&[]).await, None);
        assert_eq!(of(&[b"PRI * HTTP/2.0"]).await, None);
    }
}
