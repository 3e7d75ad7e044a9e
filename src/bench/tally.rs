//! What arrived: each message once, twice, out of its order, or not at all.

use super::{keys::Keys, payload::Mark};

/// Messages of one publisher to one topic; a mark beyond it is not one of ours.
const SEQUENCE_MAX: u64 = 1 << 30;

/// The messages of one subscription that arrived.
#[derive(Debug)]
pub(super) struct Tally {
    /// By publisher.
    publishers: Vec<Arrived>,
    keys: Keys,
    /// Counts over all publishers.
    pub(super) counts: Counts,
}

/// What a tally comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages that arrived at least once.
    pub(super) received: u64,
    /// Further arrivals of these.
    pub(super) duplicates: u64,
    /// First arrivals after a later message of the same publisher, or of the same key if messages have one.
    pub(super) reordered: u64,
    /// Messages that this run did not publish, or that came with a broken mark.
    pub(super) foreign: u64,
}

#[derive(Clone, Debug)]
struct Arrived {
    /// One bit per sequence number.
    bits: Vec<u64>,
    /// Of each series, one more than the highest sequence number so far.
    ends: Vec<u64>,
}

impl Tally {
    /// Of a run with so many publishers.
    pub(super) fn new(publishers: usize, keys: Keys) -> Self {
        let none = Arrived {
            bits: Vec::new(),
            ends: vec![0; keys.series() as usize],
        };
        Self {
            publishers: vec![none; publishers],
            keys,
            counts: Counts::default(),
        }
    }

    /// Counts an arrival; false if the message had arrived before.
    pub(super) fn arrived(&mut self, run: u32, mark: Option<Mark>) -> bool {
        let ours = mark.filter(|mark| mark.run == run && mark.sequence < SEQUENCE_MAX);
        let publishers = &mut self.publishers;
        let Some((mark, arrived)) =
            ours.and_then(|mark| Some((mark, publishers.get_mut(mark.publisher as usize)?)))
        else {
            self.counts.foreign += 1;
            return true;
        };
        let (word, bit) = ((mark.sequence / 64) as usize, 1 << (mark.sequence % 64));
        if word >= arrived.bits.len() {
            arrived.bits.resize(word + 1, 0);
        }
        if arrived.bits[word] & bit != 0 {
            self.counts.duplicates += 1;
            return false;
        }
        arrived.bits[word] |= bit;
        let end = &mut arrived.ends[(mark.sequence % self.keys.series()) as usize];
        if mark.sequence < *end {
            self.counts.reordered += 1;
        } else {
            *end = mark.sequence + 1;
        }
        self.counts.received += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_arrival_is_counted_as_what_it_is() {
        let mark = |publisher, sequence| {
            Some(Mark {
                run: 1,
                publisher,
                sequence,
                sent_micros: 0,
            })
        };
        let mut tally = Tally::new(2, Keys::None);
        for arrival in [
            mark(0, 0),
            mark(0, 70),
            mark(0, 1),
            mark(1, 0),
            mark(0, 70),
            None,
            mark(2, 0),
            mark(0, u64::MAX),
        ] {
            tally.arrived(1, arrival);
        }
        tally.arrived(2, mark(0, 5));
        assert_eq!(
            tally.counts,
            Counts {
                received: 4,
                duplicates: 1,
                reordered: 1,
                foreign: 4
            }
        );
        let mut tally = Tally::new(1, Keys::Many(10));
        for sequence in [0, 11, 1, 10, 21] {
            tally.arrived(1, mark(0, sequence));
        }
        assert_eq!((tally.counts.received, tally.counts.reordered), (5, 1));
    }
}
