//! Reads an encoded message that lies in several pieces.

use prost::encoding;

/// The pieces have ended.
pub(super) struct Ended;

/// A place in the pieces.
pub(super) struct Cursor<'a, I> {
    piece: &'a [u8],
    later: I,
    /// Bytes before `piece`, and in it as it was at first.
    end: usize,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Cursor<'a, I> {
    pub(super) fn new(mut pieces: I) -> Self {
        let piece = pieces.next().unwrap_or_default();
        Self {
            piece,
            later: pieces,
            end: piece.len(),
        }
    }

    /// Bytes that were read.
    pub(super) fn position(&self) -> usize {
        self.end - self.piece.len()
    }

    fn next_piece(&mut self) -> Result<(), Ended> {
        self.piece = self.later.next().ok_or(Ended)?;
        self.end += self.piece.len();
        Ok(())
    }

    /// The next number. One that the decoder refuses is as bad as the end.
    pub(super) fn varint(&mut self) -> Result<u64, Ended> {
        // One byte, nearly always.
        if let Some((&byte, rest)) = self.piece.split_first()
            && byte < 0x80
        {
            self.piece = rest;
            return Ok(byte.into());
        }
        let mut bytes = [0; 10];
        for at in 0..bytes.len() {
            bytes[at] = self.byte()?;
            if bytes[at] < 0x80 {
                return encoding::decode_varint(&mut &bytes[..=at]).map_err(|_| Ended);
            }
        }
        Err(Ended)
    }

    fn byte(&mut self) -> Result<u8, Ended> {
        loop {
            if let Some((&byte, rest)) = self.piece.split_first() {
                self.piece = rest;
                return Ok(byte);
            }
            self.next_piece()?;
        }
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), Ended> {
        self.pass(bytes, |_| {})
    }

    /// Skips so many bytes and returns how many numbers end in them.
    pub(super) fn count_varints(&mut self, bytes: usize) -> Result<usize, Ended> {
        let mut count = 0;
        self.pass(bytes, |piece| {
            count += piece.iter().filter(|byte| **byte < 0x80).count();
        })?;
        Ok(count)
    }

    fn pass(&mut self, mut bytes: usize, mut each: impl FnMut(&[u8])) -> Result<(), Ended> {
        loop {
            if let Some((passed, rest)) = self.piece.split_at_checked(bytes) {
                each(passed);
                self.piece = rest;
                return Ok(());
            }
            each(self.piece);
            bytes -= self.piece.len();
            self.next_piece()?;
        }
    }
}
