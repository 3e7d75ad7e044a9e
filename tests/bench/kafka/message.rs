//! The messages: as those of `src/bench/payload.rs`, but for what only its readers need.

/// Bytes of a message's mark, so the smallest message.
pub(crate) const MARK_BYTES: usize = 32;

/// What a message says of itself, in the first bytes of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The how-manieth message of the topic.
    pub(crate) sequence: u64,
    /// Microseconds from the figure's start to the moment at which it was due.
    pub(crate) sent_micros: u64,
}

impl Mark {
    /// Of a message; none if this program did not make it.
    pub(crate) fn of(value: Option<&[u8]>) -> Option<Self> {
        let word = |at: usize| Some(u64::from_be_bytes(*value?.get(at..)?.first_chunk()?));
        Some(Self {
            sequence: word(16)?,
            sent_micros: word(24)?,
        })
    }
}

/// A message of which only the mark changes.
#[derive(Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Of `size` bytes, at least [`MARK_BYTES`].
    pub(crate) fn new(size: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[3]
        });
        Self(noise.take(size.max(MARK_BYTES)).collect())
    }

    /// Its bytes with this mark.
    pub(crate) fn marked(&mut self, mark: Mark) -> &[u8] {
        self.0[16..24].copy_from_slice(&mark.sequence.to_be_bytes());
        self.0[24..32].copy_from_slice(&mark.sent_micros.to_be_bytes());
        &self.0
    }
}
