//! A request's body, decompressed as it is read, up to the limit of its call.

use std::{
    io::{self, Write as _},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use flate2::write::MultiGzDecoder;
use http_body::Frame;

/// Compressed bytes that are taken at once: they become a thousand times as many at most.
const AT_ONCE_BYTES: usize = 1024;

/// What a gzipped body stands for. What comes behind the limit is passed on as it arrives: whoever reads so much refuses
/// it, and lets the rest arrive without a reason to decompress that, too.
pub(super) struct Unpacked {
    packed: Body,
    /// What has arrived of it and was not taken yet.
    arrived: Bytes,
    /// `None` at the end, and behind the limit.
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    bytes_left: usize,
}

impl Unpacked {
    /// Of a body that is at most so large.
    pub(super) fn new(packed: Body, bytes_max: usize) -> Self {
        Self {
            packed,
            arrived: Bytes::new(),
            decoder: Some(MultiGzDecoder::new(Vec::new())),
            bytes_left: bytes_max,
        }
    }

    /// What comes next, of what has arrived or of the end.
    fn unpack(&mut self, is_end: bool) -> io::Result<Option<Bytes>> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(None);
        };
        if is_end {
            decoder.try_finish()?;
        } else {
            let count = self.arrived.len().min(AT_ONCE_BYTES);
            decoder.write_all(&self.arrived[..count])?;
            decoder.flush()?;
            self.arrived.advance(count);
        }
        let unpacked = mem::take(decoder.get_mut());
        if is_end || unpacked.len() > self.bytes_left {
            self.decoder = None;
        }
        self.bytes_left = self.bytes_left.saturating_sub(unpacked.len());
        Ok((!unpacked.is_empty()).then(|| unpacked.into()))
    }
}

impl http_body::Body for Unpacked {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        loop {
            if self.decoder.is_none() && !self.arrived.is_empty() {
                let rest = mem::take(&mut self.arrived);
                return Poll::Ready(Some(Ok(Frame::data(rest))));
            }
            if self.arrived.is_empty() {
                match ready!(Pin::new(&mut self.packed).poll_frame(context)) {
                    Some(Ok(frame)) => {
                        // Trailers say nothing over REST.
                        self.arrived = frame.into_data().unwrap_or_default();
                        continue;
                    }
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    None if self.decoder.is_none() => return Poll::Ready(None),
                    None => {}
                }
            }
            let is_end = self.arrived.is_empty();
            match self.unpack(is_end) {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(None) if is_end => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => {
                    self.decoder = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn unpacked(packed: &[u8], piece_bytes: usize, bytes_max: usize) -> Unpacked {
        let pieces: Vec<_> = packed
            .chunks(piece_bytes)
            .map(|piece| Ok::<_, io::Error>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        Unpacked::new(Body::new(body), bytes_max)
    }

    #[tokio::test]
    async fn a_body_is_the_same_however_it_arrives() {
        let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = gzip(&content);
        for piece_bytes in [1, 7, 4096, packed.len()] {
            let body = unpacked(&packed, piece_bytes, content.len());
            let read = body.collect().await.expect("gzip").to_bytes();
            assert!(read == content, "in pieces of {piece_bytes}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_or_damaged_is_an_error() {
        let mut packed = gzip(b"{}");
        for length in 1..packed.len() {
            let cut = unpacked(&packed[..length], 4, 1000).collect().await;
            assert!(cut.is_err(), "{length} bytes were taken for whole");
        }
        let checksum = packed.len() - 5;
        packed[checksum] ^= 1;
        assert!(unpacked(&packed, 4, 1000).collect().await.is_err());
    }

    #[tokio::test]
    async fn what_is_refused_for_its_size_is_not_decompressed() {
        let packed = gzip(&vec![b' '; 8 * 1024 * 1024]);
        let read = unpacked(&packed, 4096, 100_000).collect().await;
        let bytes = read.expect("the rest is passed on").to_bytes().len();
        assert!(bytes > 100_000, "its reader sees that it is too large");
        let at_once = 1100 * AT_ONCE_BYTES;
        assert!(bytes < 100_000 + at_once + packed.len(), "{bytes}");
    }
}
