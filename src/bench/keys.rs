//! Ordering keys of a run's messages.
//!
//! Each publisher has keys of its own, as it has one request in flight: so what it publishes of a key is in the order of
//! its numbers.

/// Ordering keys of all publishers together.
const ALL: usize = 10_000;
/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 10;

/// Which ordering keys messages have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Keys {
    /// None.
    #[default]
    None,
    /// So many for each publisher, one after the other.
    Many(u64),
    /// All the same, of no publisher.
    One,
}

impl Keys {
    /// [`ALL`] of them for so many publishers.
    pub(super) fn among(publishers: usize) -> Self {
        Self::Many((ALL / publishers.max(1)).max(1) as u64)
    }

    /// Of how many series the messages of a publisher are, each of which has an order.
    pub(super) const fn series(self) -> u64 {
        match self {
            Self::None | Self::One => 1,
            Self::Many(each) => each,
        }
    }

    /// The key of a message.
    pub(super) fn key(self, publisher: u32, sequence: u64) -> [u8; KEY_BYTES] {
        if self == Self::One {
            return *b"blocked-10";
        }
        let (mut key, mut number) = (
            [b'0'; KEY_BYTES],
            u64::from(publisher) * ALL as u64 + sequence % self.series(),
        );
        for digit in key.iter_mut().rev() {
            *digit += (number % 10) as u8;
            number /= 10;
        }
        key
    }
}
