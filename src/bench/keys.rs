//! Ordering keys of a run's messages.
//!
//! Each publisher has keys of its own, as it has one request in flight: so what it publishes of a key is in the order of
//! its numbers.

/// Ordering keys of all publishers together.
const ALL: usize = 10_000;
/// Keys of a publisher whose messages have one each, as many as there is room for beside 10,000 publishers.
const OWN: u64 = 1_000_000;
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
    /// Each message its own.
    Own,
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
            Self::None | Self::Own | Self::One => 1,
            Self::Many(each) => each,
        }
    }

    /// Whether messages have to come in an order.
    pub(super) const fn are_shared(self) -> bool {
        matches!(self, Self::Many(_) | Self::One)
    }

    /// The key of a message.
    pub(super) fn key(self, publisher: u32, sequence: u64) -> [u8; KEY_BYTES] {
        if self == Self::One {
            return *b"blocked-10";
        }
        let (of_publisher, own) = match self {
            Self::Own => (OWN, sequence % OWN),
            _ => (ALL as u64, sequence % self.series()),
        };
        let (mut key, mut number) = ([b'0'; KEY_BYTES], u64::from(publisher) * of_publisher + own);
        for digit in key.iter_mut().rev() {
            *digit += (number % 10) as u8;
            number /= 10;
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_messages_share_a_key_of_their_own() {
        let of = |publisher| (0..20_000).map(move |sequence| Keys::Own.key(publisher, sequence));
        let keys: BTreeSet<_> = (0..3).chain([9_999]).flat_map(of).collect();
        assert_eq!(keys.len(), 80_000);
    }
}
