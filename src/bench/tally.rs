//! What arrived: each message once, twice, out of its order, or not at all.

use super::payload::Mark;

/// The messages of one subscription that arrived.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// By publisher.
    publishers: Vec<Arrived>,
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
    /// First arrivals after a later message of the same publisher.
    pub(super) reordered: u64,
    /// Messages that this run did not publish.
    pub(super) foreign: u64,
}

#[derive(Debug, Default)]
struct Arrived {
    /// One bit per sequence number.
    bits: Vec<u64>,
    /// One more than the highest sequence number so far.
    end: u64,
}

impl Tally {
    /// Counts an arrival; false if the message had arrived before.
    pub(super) fn arrived(&mut self, run: u32, mark: Option<Mark>) -> bool {
        let Some(mark) = mark.filter(|mark| mark.run == run) else {
            self.counts.foreign += 1;
            return true;
        };
        let publisher = mark.publisher as usize;
        if publisher >= self.publishers.len() {
            self.publishers.resize_with(publisher + 1, Arrived::default);
        }
        let arrived = &mut self.publishers[publisher];
        let (word, bit) = ((mark.sequence / 64) as usize, 1 << (mark.sequence % 64));
        if word >= arrived.bits.len() {
            arrived.bits.resize(word + 1, 0);
        }
        if arrived.bits[word] & bit != 0 {
            self.counts.duplicates += 1;
            return false;
        }
        arrived.bits[word] |= bit;
        if mark.sequence < arrived.end {
            self.counts.reordered += 1;
        } else {
            arrived.end = mark.sequence + 1;
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
        let mut tally = Tally::default();
        for arrival in [
            mark(0, 0),
            mark(0, 70),
            mark(0, 1),
            mark(1, 0),
            mark(0, 70),
            None,
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
                foreign: 2
            }
        );
    }
}
