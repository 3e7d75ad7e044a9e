//! Decompresses one message, within the limit that holds for messages as they are without compression.

use std::{
    collections::VecDeque,
    io::{self, BufRead, Read},
};

use bytes::{Buf, Bytes};
use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

/// Why a compressed message was refused.
#[derive(Debug, Error)]
pub enum InflateError {
    /// It is larger than allowed. Not more than the limit was decompressed to find out.
    #[error("the message is larger than {limit_bytes} bytes when it is decompressed")]
    TooLarge {
        /// The limit, bytes.
        limit_bytes: usize,
    },
    /// It is not gzip, damaged, or cut off.
    #[error(transparent)]
    Broken(#[from] io::Error),
}

/// A message on its way out of its compression.
#[derive(Debug)]
pub struct Inflating {
    gzip: MultiGzDecoder<Chunks>,
    message: Vec<u8>,
    prefix_bytes: usize,
    limit_bytes: usize,
}

impl Inflating {
    /// The message that `compressed` holds, behind `prefix_bytes` zero bytes of room for a header.
    pub fn new(compressed: VecDeque<Bytes>, prefix_bytes: usize, limit_bytes: usize) -> Self {
        let claimed: usize = compressed.iter().map(Bytes::len).sum();
        // Room follows what has arrived, never what a trailer of gzip claims.
        let room = claimed.saturating_mul(2).min(limit_bytes);
        let mut message = Vec::with_capacity(prefix_bytes + room);
        message.resize(prefix_bytes, 0);
        Self {
            gzip: MultiGzDecoder::new(Chunks(compressed)),
            message,
            prefix_bytes,
            limit_bytes,
        }
    }

    /// Unpacks until there are `bytes` of the message, or all of it. Returns whether that is all.
    ///
    /// # Errors
    /// It is larger than its limit, or no gzip.
    pub fn unpack_to(&mut self, bytes: usize) -> Result<bool, InflateError> {
        let limit_bytes = self.limit_bytes;
        let missing = bytes
            .min(limit_bytes + 1)
            .saturating_sub(self.unpacked().len());
        let longest = u64::try_from(missing).unwrap_or(u64::MAX);
        let gzip = &mut self.gzip;
        let inflated = gzip.take(longest).read_to_end(&mut self.message)?;
        if self.unpacked().len() > limit_bytes {
            return Err(InflateError::TooLarge { limit_bytes });
        }
        Ok(inflated < missing)
    }

    /// Unpacks the rest.
    ///
    /// # Errors
    /// As of [`Inflating::unpack_to`].
    pub fn unpack(&mut self) -> Result<(), InflateError> {
        // Memory that is not written to costs nothing; growing step by step would take it twice.
        let room = self.prefix_bytes + self.limit_bytes + 1;
        self.message.reserve_exact(room - self.message.len());
        self.unpack_to(usize::MAX).map(|_| ())
    }

    /// What there is of the message.
    pub fn unpacked(&self) -> &[u8] {
        &self.message[self.prefix_bytes..]
    }

    /// The message with its prefix.
    pub fn finish(self) -> Vec<u8> {
        self.message
    }
}

/// Reads chunks one after another.
#[derive(Debug)]
struct Chunks(VecDeque<Bytes>);

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.len().min(buffer.len());
        if let Some(chunk) = self.0.front_mut() {
            chunk.copy_to_slice(&mut buffer[..count]);
        }
        Ok(count)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        Ok(self.0.front().map_or(&[], |chunk| &chunk[..]))
    }

    fn consume(&mut self, count: usize) {
        if let Some(chunk) = self.0.front_mut() {
            chunk.advance(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn inflate(
        compressed: VecDeque<Bytes>,
        prefix_bytes: usize,
        limit_bytes: usize,
    ) -> Result<Vec<u8>, InflateError> {
        let mut inflating = Inflating::new(compressed, prefix_bytes, limit_bytes);
        inflating.unpack()?;
        Ok(inflating.finish())
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(message).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn pieces(compressed: &[u8], bytes: usize) -> VecDeque<Bytes> {
        compressed
            .chunks(bytes)
            .map(Bytes::copy_from_slice)
            .collect()
    }

    #[test]
    fn a_message_is_the_same_however_its_gzip_was_cut() {
        let message: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        let compressed = gzip(&message);
        for bytes in [1, 7, 1000, compressed.len()] {
            let inflated = inflate(pieces(&compressed, bytes), 5, message.len()).expect("fits");
            assert_eq!(&inflated[..5], &[0; 5]);
            assert_eq!(&inflated[5..], &message[..]);
        }
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let compressed = gzip(&vec![0; 8 * 1024 * 1024]);
        let refused = inflate(pieces(&compressed, 4096), 5, 1000).expect_err("too large");
        assert!(matches!(
            refused,
            InflateError::TooLarge { limit_bytes: 1000 }
        ));
    }

    #[test]
    fn a_message_is_unpacked_in_steps() {
        let message: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut inflating = Inflating::new(pieces(&gzip(&message), 100), 5, message.len());
        for bytes in [1000, 1000, 30_000] {
            assert!(!inflating.unpack_to(bytes).expect("it fits"));
            assert_eq!(inflating.unpacked(), &message[..bytes]);
        }
        assert!(inflating.unpack_to(message.len() + 1).expect("it fits"));
        assert_eq!(inflating.finish()[5..], message);
    }

    #[test]
    fn cut_or_damaged_gzip_is_refused() {
        let compressed = gzip(b"a message");
        for length in 0..compressed.len() {
            let cut = inflate(pieces(&compressed[..length], 4), 0, 1000);
            assert!(
                matches!(cut, Err(InflateError::Broken(_))),
                "{length} bytes were taken for whole"
            );
        }
        let mut damaged = compressed;
        let checksum = damaged.len() - 5;
        damaged[checksum] ^= 1;
        assert!(matches!(
            inflate(pieces(&damaged, 4), 0, 1000),
            Err(InflateError::Broken(_))
        ));
    }
}
