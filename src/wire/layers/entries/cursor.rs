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

    /// Skips fields of bytes with this key of one byte, as long as they follow each other within a piece, `max` at most.
    /// Returns how many they are, and how many bytes they have without keys and lengths.
    pub(super) fn skip_alike(&mut self, key: u8, max: usize) -> (usize, usize) {
        let (mut fields, mut bytes) = (0, 0);
        while fields < max
            && let Some((length, rest)) = length_behind(key, self.piece)
            && let Some(rest) = rest.get(length..)
        {
            self.piece = rest;
            fields += 1;
            bytes += length;
        }
        (fields, bytes)
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

/// The length, of up to three bytes, behind this key, and what follows.
#[inline]
fn length_behind(key: u8, piece: &[u8]) -> Option<(usize, &[u8])> {
    const CONTINUES: u8 = 0x80;
    let part = |byte: u8| usize::from(byte & !CONTINUES);
    match *piece {
        [first, a, ref rest @ ..] if first == key && a < CONTINUES => Some((part(a), rest)),
        [first, a, b, ref rest @ ..] if first == key && b < CONTINUES => {
            Some((part(a) | part(b) << 7, rest))
        }
        [first, a, b, c, ref rest @ ..] if first == key && c < CONTINUES => {
            Some((part(a) | part(b) << 7 | part(c) << 14, rest))
        }
        _ => None,
    }
}
