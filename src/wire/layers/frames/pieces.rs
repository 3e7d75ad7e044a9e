//! The bytes of a request that has not been read yet.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::HEADER_BYTES;

/// Pieces smaller than this are put together: each costs about 100 bytes to keep, and keeps what was read from the
/// connection with it.
const PIECE_BYTES_MIN: usize = 4 * 1024;

/// Bytes in the pieces in which they came.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pub(super) whole: VecDeque<Bytes>,
    /// Small pieces behind `whole`, put together.
    small: BytesMut,
    /// Of both.
    pub(super) bytes: usize,
}

impl Pieces {
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        let first = self.bytes == 0;
        self.bytes += piece.len();
        // The usual request is one small piece, which need not be copied.
        if !first && piece.len() < PIECE_BYTES_MIN {
            self.small.extend_from_slice(&piece);
        } else {
            self.seal();
            self.whole.push_back(piece);
        }
    }

    /// Copies a small beginning, for which the rest is waited for.
    pub(super) fn settle(&mut self) {
        if self.small.is_empty()
            && self.whole.len() == 1
            && self.bytes < PIECE_BYTES_MIN
            && let Some(first) = self.whole.pop_front()
        {
            self.small.extend_from_slice(&first);
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.whole.push_back(self.small.split().freeze());
        }
    }

    /// The first five bytes, if they are there.
    pub(super) fn header(&self) -> Option<[u8; HEADER_BYTES]> {
        if self.bytes < HEADER_BYTES {
            return None;
        }
        if let Some(header) = self.whole.front().and_then(|piece| piece.first_chunk()) {
            return Some(*header);
        }
        let mut header = [0; HEADER_BYTES];
        let bytes = self.whole.iter().flatten().chain(&self.small);
        for (to, from) in header.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(header)
    }

    /// Moves the first `count` bytes, which are there, to `out`.
    pub(super) fn take(&mut self, count: usize, out: &mut VecDeque<Bytes>) {
        self.seal();
        self.bytes -= count;
        let mut missing = count;
        while missing > 0 {
            let piece = self
                .whole
                .front_mut()
                .expect("the pieces together have as many bytes as were counted");
            if piece.len() <= missing {
                missing -= piece.len();
                out.extend(self.whole.pop_front());
            } else {
                out.push_back(piece.split_to(missing));
                missing = 0;
            }
        }
    }
}
