//! Marks: records by which it is told whether a log is still the one whose offsets a subscription's state speaks of.
//!
//! A broker may lose the end of a log, and a topic may be made again under its name. If others are appended there
//! before anybody notices, its end alone does not tell: what lies at the offsets that the state calls done are other
//! messages. So the publish time and a checksum of the last record of each read are kept, and of some before it, at
//! distances that double. They are stored beside the cursor, and compared when a subscription is taken over. With them
//! is stored which of them the log was last found to be the same with: those above may be of another log, which was
//! read on in without anybody noticing.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{
    clock::Timestamp,
    engine::{
        change::{PartitionChange, PartitionState, RetainedRow},
        input::LoadedMessage,
        varint,
    },
    resource::message,
    store::log::KnownRecord,
};

/// Key of the retained row that holds them.
pub(super) const KEY: u64 = (u64::MAX >> 1) - 1;
/// The latest time that every store takes.
const FOREVER: Timestamp = Timestamp::from_millis(u64::MAX >> 1);
/// The form in which they are stored.
const FORM: u8 = 2;
/// Distances below this count as one.
const DISTANCE_MIN: u64 = 128;
/// Above so many they are thinned. Two of each distance are left, which are fewer.
const MARKS_MAX: usize = 64;

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: u64,
    publish_time: Timestamp,
    checksum: u32,
}

impl Mark {
    /// Of this message.
    pub(super) fn new(offset: u64, publish_time: Timestamp, message: &[u8]) -> Self {
        Self {
            offset,
            publish_time,
            checksum: message::checksum(message),
        }
    }

    /// The record, which is of this partition.
    pub(super) fn record(self, partition: u32) -> KnownRecord {
        KnownRecord {
            partition,
            offset: self.offset,
            publish_time: self.publish_time,
            checksum: self.checksum,
        }
    }
}

/// Marks of one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// By offset.
    ascending: Vec<Mark>,
    /// Whether they differ from what is stored.
    changed: bool,
    /// The one with which the log was last found to be the same, or the first that was read since.
    compared: Option<Mark>,
    /// That one, once the comparison under way has succeeded.
    comparing: Option<Mark>,
}

impl Marks {
    /// As they were stored. What cannot be read says nothing.
    pub(super) fn stored(state: &PartitionState) -> Self {
        let row = state.retained.iter().find(|row| row.key == KEY);
        row.and_then(Self::of_row).unwrap_or_default()
    }

    /// As they were stored in this row; `None` for what cannot be read.
    pub(super) fn of_row(row: &RetainedRow) -> Option<Self> {
        decode(&row.body)
    }

    /// Those that tell whether a log is the one of which all the others are: the highest, and the one with which it was
    /// last found to be the same, as those above that may be of another log already.
    pub(super) fn telling(&self) -> impl Iterator<Item = Mark> {
        let top = self.ascending.last().copied();
        let compared = top.and_then(|top| self.compared_below(top));
        top.into_iter().chain(compared)
    }

    /// Those with which a state has to be compared that speaks of the offsets below `seen`, the highest first. The one
    /// at or behind its end is of the read in which the end lies.
    pub(super) fn below(&self, seen: u64) -> impl Iterator<Item = Mark> {
        let behind = self.ascending.partition_point(|mark| mark.offset < seen);
        let count = self.ascending.len().min(behind + 1);
        self.ascending[..count].iter().rev().copied()
    }

    /// The one with which the log was last found to be the same, if it is below `top`.
    pub(super) fn compared_below(&self, top: Mark) -> Option<Mark> {
        self.compared.filter(|mark| mark.offset < top.offset)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ascending.is_empty()
    }

    /// The log was compared, and is the same below `end`; what lies there and above is void. `again`: what is left has to
    /// be stored again.
    pub(super) fn cut(&mut self, end: u64, again: bool) {
        let count = self.ascending.len();
        self.ascending.retain(|mark| mark.offset < end);
        self.changed |= again || self.ascending.len() < count;
        self.compared = self.ascending.last().copied();
    }

    /// What to compare the log with, if something was read since that was done.
    fn start_comparing(&mut self) -> Option<Mark> {
        self.comparing = self.ascending.last().copied();
        self.compared.filter(|_| self.comparing != self.compared)
    }

    /// Adds one above all others, and leaves out those that are too many.
    pub(super) fn add(&mut self, mark: Mark) {
        if self
            .ascending
            .last()
            .is_some_and(|last| last.offset >= mark.offset)
        {
            return;
        }
        self.ascending.push(mark);
        self.changed = true;
        self.compared.get_or_insert(mark);
        if self.ascending.len() > MARKS_MAX {
            self.thin(mark.offset);
        }
    }

    /// Leaves two of each distance from the top: the farthest, which is the next of the distance behind it by and by,
    /// and the nearest, which then takes its part. And the one with which the log was compared.
    fn thin(&mut self, top: u64) {
        let distance = |mark: &Mark| ((top - mark.offset) / DISTANCE_MIN).checked_ilog2();
        let mut left = Vec::new();
        for same in self.ascending.chunk_by(|a, b| distance(a) == distance(b)) {
            let last = same.len() - 1;
            let stays = |at: usize| at == 0 || at == last || self.compared == Some(same[at]);
            left.extend((0..=last).filter(|at| stays(*at)).map(|at| same[at]));
        }
        self.ascending = left;
    }

    fn row(&mut self) -> RetainedRow {
        if let Some(top) = self.ascending.last() {
            self.thin(top.offset);
        }
        RetainedRow {
            key: KEY,
            until: FOREVER,
            body: self.encode(),
        }
    }
}

/// Marks of all partitions of a subscription.
#[derive(Debug, Default)]
pub(super) struct AllMarks {
    partitions: BTreeMap<u32, Marks>,
    /// Whether anything was read since the log was compared.
    has_read: bool,
}

impl AllMarks {
    pub(super) fn insert(&mut self, partition: u32, marks: Marks) {
        self.partitions.insert(partition, marks);
    }

    /// Takes note of what was read.
    pub(super) fn read(&mut self, partition: u32, messages: &[LoadedMessage]) {
        if let Some(last) = messages.last() {
            let mark = Mark::new(last.offset, last.publish_time, &last.body);
            self.partitions.entry(partition).or_default().add(mark);
            self.has_read = true;
        }
    }

    /// Whether anything was read since [`Self::start_comparing`].
    pub(super) fn has_read(&self) -> bool {
        self.has_read
    }

    /// A record of each partition of which something was read since the log was last compared: of before that.
    pub(super) fn start_comparing(&mut self) -> Vec<KnownRecord> {
        self.has_read = false;
        let each = self.partitions.iter_mut();
        each.filter_map(|(partition, marks)| Some(marks.start_comparing()?.record(*partition)))
            .collect()
    }

    /// The log has these records. If that could not be asked, it is with the next ones.
    pub(super) fn ended_comparing(&mut self, is_same: bool) {
        for marks in self.partitions.values_mut() {
            let compared = marks.comparing.take();
            if is_same && compared.is_some() {
                marks.compared = compared;
            }
        }
        self.has_read |= !is_same;
    }

    /// Adds those that have to be stored to the changes of their partitions.
    pub(super) fn add_to(&mut self, changes: &mut [PartitionChange]) {
        for change in changes {
            let marks = self.partitions.get_mut(&change.partition);
            if let Some(marks) = marks.filter(|marks| marks.changed) {
                marks.changed = false;
                change.retain.push(marks.row());
            }
        }
    }

    /// What was added last was not stored.
    pub(super) fn were_not_stored(&mut self) {
        for marks in self.partitions.values_mut() {
            marks.changed |= !marks.is_empty();
        }
    }
}

impl Marks {
    /// The index of the one with which the log was compared, and each by how far offset and publish time are from those
    /// of the one before, and its checksum.
    fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        body.put_u8(FORM);
        let is_compared = |mark: &Mark| self.compared == Some(*mark);
        let compared = self.ascending.iter().position(is_compared);
        varint::put(&mut body, compared.unwrap_or(0) as u64);
        let (mut offset, mut time) = (0, 0);
        for mark in &self.ascending {
            varint::put(&mut body, mark.offset - offset);
            let later = mark
                .publish_time
                .as_millis()
                .wrapping_sub(time)
                .cast_signed();
            // Small numbers for small differences, whichever of the two is later.
            varint::put(&mut body, ((later << 1) ^ (later >> 63)).cast_unsigned());
            body.put_u32(mark.checksum);
            (offset, time) = (mark.offset, mark.publish_time.as_millis());
        }
        body.freeze()
    }
}

/// `None` for what no release up to this one has written.
fn decode(body: &[u8]) -> Option<Marks> {
    let (&form, mut rest) = body.split_first()?;
    if form != FORM {
        return None;
    }
    let compared = usize::try_from(varint::take(&mut rest)?).ok()?;
    let mut ascending: Vec<Mark> = Vec::new();
    let (mut offset, mut time) = (0_u64, 0_u64);
    while !rest.is_empty() {
        offset = offset.checked_add(varint::take(&mut rest)?)?;
        let later = varint::take(&mut rest)?;
        let later = (later >> 1).cast_signed() ^ -(later & 1).cast_signed();
        time = time.wrapping_add(later.cast_unsigned());
        let (checksum, behind) = rest.split_first_chunk()?;
        rest = behind;
        ascending.push(Mark {
            offset,
            publish_time: Timestamp::from_millis(time),
            checksum: u32::from_be_bytes(*checksum),
        });
    }
    Some(Marks {
        compared: ascending.get(compared).copied(),
        ascending,
        ..Marks::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(offset: u64) -> Mark {
        let text = Bytes::from(offset.to_string());
        // Not always later than the one before.
        let time = 1_795_500_000_000 + (offset ^ 4);
        Mark::new(offset, Timestamp::from_millis(time), &text)
    }

    fn of(offsets: impl IntoIterator<Item = u64>) -> Marks {
        let mut marks = Marks::default();
        offsets
            .into_iter()
            .for_each(|offset| marks.add(mark(offset)));
        marks
    }

    fn stored(row: RetainedRow) -> Marks {
        Marks::stored(&PartitionState {
            partition: 0,
            generation: 1,
            cursor: 0,
            chunks: Vec::new(),
            retained: vec![row],
        })
    }

    #[test]
    fn marks_are_few_and_their_distances_double() {
        let mut marks = of((0..1_000_000).map(|at| at * 10 + 3));
        let row = marks.row();
        assert!(row.body.len() < 500, "{} bytes", row.body.len());
        let read = stored(row);
        assert_eq!(read.ascending, marks.ascending);
        let top = 9_999_993;
        let offsets: Vec<_> = read.ascending.iter().map(|mark| mark.offset).collect();
        assert_eq!((offsets[0], offsets[offsets.len() - 1]), (3, top));
        for pair in offsets.windows(2) {
            let (far, near) = (top - pair[0], top - pair[1]);
            assert!(
                far <= (near * 4).max(2 * DISTANCE_MIN),
                "{far} after {near}"
            );
        }
    }

    #[test]
    fn the_mark_with_which_a_log_was_compared_stays_until_the_next_is() {
        let mut all = AllMarks::default();
        all.insert(0, of((0..200).map(|at| at * 10)));
        assert_eq!(all.start_comparing().len(), 1);
        all.ended_comparing(true);
        let mut marks = all.partitions.remove(&0).expect("inserted");
        let compared = mark(1_990);
        for at in 200..100_000 {
            marks.add(mark(at * 10));
        }
        let (top, read) = (mark(999_990), stored(marks.row()));
        assert_eq!(read.compared_below(top), Some(compared));
        assert_eq!(read.ascending.last(), Some(&top));
        assert_eq!(read.compared_below(compared), None);
    }

    #[test]
    fn the_marks_of_a_state_end_with_the_read_in_which_it_ends() {
        let marks = of([9, 19, 29]);
        let below = |seen| {
            marks
                .below(seen)
                .map(|mark| mark.offset)
                .collect::<Vec<_>>()
        };
        assert_eq!(below(10), [19, 9]);
        assert_eq!(below(20), [29, 19, 9]);
        assert_eq!(below(99), [29, 19, 9]);
        assert_eq!(below(5), [9]);
        assert_eq!(of([]).below(5).count(), 0);
    }

    #[test]
    fn what_was_not_written_so_says_nothing() {
        let row = of([9, 19]).row();
        for len in 0..row.body.len() {
            stored(RetainedRow {
                body: row.body.slice(..len),
                ..row.clone()
            });
        }
        let newer = RetainedRow {
            body: Bytes::from_static(&[FORM + 1, 1, 2, 3]),
            ..row
        };
        assert!(stored(newer).is_empty());
    }

    #[test]
    fn only_what_changed_is_stored_and_again_after_a_failure() {
        let mut all = AllMarks::default();
        all.insert(0, of([9]));
        let stores = |all: &mut AllMarks| {
            let mut changes = [PartitionChange {
                partition: 0,
                generation: 1,
                cursor: 0,
                put: Vec::new(),
                delete: Vec::new(),
                retain: Vec::new(),
                release: Vec::new(),
            }];
            all.add_to(&mut changes);
            changes[0].retain.len()
        };
        assert_eq!((stores(&mut all), stores(&mut all)), (1, 0));
        all.were_not_stored();
        assert_eq!(stores(&mut all), 1);
    }
}
