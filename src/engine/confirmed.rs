//! Which delivery of each message was acknowledged under exactly-once delivery, for ten minutes: whose answer was lost
//! repeats its ack, and is to hear that it succeeded (docs/behaviour.md, section 9).
//!
//! The numbers of 256 offsets are one retained row, as ranges, written in the flush of their ack. A row lasts ten minutes
//! from the last ack in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Range,
};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    change::{PartitionChange, RetainedRow},
    timers::{Timer, Timers},
    varint,
};
use crate::{
    clock::Timestamp,
    limits::{CHUNK_OFFSETS, CONFIRMED_MILLIS, CONFIRMED_RELEASED_MAX, CONFIRMED_STEP_MILLIS},
};

/// The form in which the numbers of a chunk are stored: runs of a varint `(length - 1) * 2 + has a number`, and the
/// number.
const FORM: u8 = 1;
/// Keys of retained rows below this are indexes of chunks; others are not ours.
const KEYS_END: u64 = u64::MAX / CHUNK_OFFSETS + 1;
/// What a chunk takes beside its numbers, about: in memory, and in a store with its key and its indexes.
const CHUNK_OVERHEAD_BYTES: usize = 192;

type Numbers = [u32; CHUNK_OFFSETS as usize];

/// The numbers of one chunk.
#[derive(Debug)]
struct Chunk {
    until: Timestamp,
    body: Bytes,
}

impl Chunk {
    fn bytes(&self) -> usize {
        self.body.len() + CHUNK_OVERHEAD_BYTES
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Confirmed {
    partition: u32,
    chunks: BTreeMap<u64, Chunk>,
    /// When each is forgotten.
    by_time: BTreeSet<(Timestamp, u64)>,
    bytes: usize,
    /// Differ from their rows.
    changed: BTreeSet<u64>,
    /// Have a row, and are forgotten.
    gone: BTreeSet<u64>,
    /// The flush on its way writes or removes their rows.
    in_flight: Vec<u64>,
}

impl Confirmed {
    pub(super) fn new(partition: u32) -> Self {
        Self {
            partition,
            chunks: BTreeMap::new(),
            by_time: BTreeSet::new(),
            bytes: 0,
            changed: BTreeSet::new(),
            gone: BTreeSet::new(),
            in_flight: Vec::new(),
        }
    }

    /// Takes in what was stored. The clock may have been set back since: nothing is remembered for longer than it can
    /// have been meant to be. A row that cannot be read says nothing.
    pub(super) fn restore(&mut self, now: Timestamp, rows: &[RetainedRow], timers: &mut Timers) {
        let latest = forgotten_at(now);
        for row in rows.iter().filter(|row| row.key < KEYS_END) {
            if row.until <= now {
                self.gone.insert(row.key);
            } else if decode(&row.body).is_some() {
                let chunk = Chunk {
                    until: row.until.min(latest),
                    body: row.body.clone(),
                };
                self.insert(row.key, chunk, timers);
            }
        }
    }

    /// About how much is remembered, bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether rows have to be removed.
    pub(super) fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    /// Which delivery of this message was acknowledged.
    pub(super) fn number(&self, offset: u64) -> Option<u32> {
        let chunk = self.chunks.get(&(offset / CHUNK_OFFSETS))?;
        let numbers = decode(&chunk.body)?;
        let number = numbers[(offset % CHUNK_OFFSETS) as usize];
        (number > 0).then_some(number)
    }

    /// The delivery of this number of each of these neighbours was acknowledged.
    pub(super) fn insert_run(
        &mut self,
        now: Timestamp,
        offsets: Range<u64>,
        number: u32,
        timers: &mut Timers,
    ) {
        let mut start = offsets.start;
        while start < offsets.end {
            let index = start / CHUNK_OFFSETS;
            let first = index * CHUNK_OFFSETS;
            let end = offsets.end.min(first + CHUNK_OFFSETS);
            let known = self.chunks.get(&index);
            let known = known.and_then(|chunk| decode(&chunk.body));
            let mut numbers = known.unwrap_or([0; CHUNK_OFFSETS as usize]);
            numbers[(start - first) as usize..(end - first) as usize].fill(number);
            let chunk = Chunk {
                until: forgotten_at(now),
                body: encode(&numbers),
            };
            self.insert(index, chunk, timers);
            self.changed.insert(index);
            self.gone.remove(&index);
            start = end;
        }
    }

    fn insert(&mut self, index: u64, chunk: Chunk, timers: &mut Timers) {
        let until = chunk.until;
        self.bytes += chunk.bytes();
        if let Some(old) = self.chunks.insert(index, chunk) {
            self.bytes -= old.bytes();
            if old.until == until {
                return;
            }
            self.by_time.remove(&(old.until, index));
        }
        self.by_time.insert((until, index));
        timers.set(until, Timer::Confirmed(self.partition));
    }

    /// When the oldest is forgotten.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(until, _)| *until)
    }

    /// Forgets the oldest, whatever the time is.
    pub(super) fn forget_oldest(&mut self) {
        if let Some((_, index)) = self.by_time.pop_first()
            && let Some(chunk) = self.chunks.remove(&index)
        {
            self.bytes -= chunk.bytes();
            self.changed.remove(&index);
            self.gone.insert(index);
        }
    }

    /// Forgets what was remembered for long enough.
    pub(super) fn come_due(&mut self, now: Timestamp) {
        while self.oldest().is_some_and(|until| until <= now) {
            self.forget_oldest();
        }
    }

    /// Adds to a flush what was acknowledged, and some of what was forgotten.
    pub(super) fn take_changes(&mut self, change: &mut PartitionChange) {
        for index in mem::take(&mut self.changed) {
            if let Some(chunk) = self.chunks.get(&index) {
                change.retain.push(RetainedRow {
                    key: index,
                    until: chunk.until,
                    body: chunk.body.clone(),
                });
                self.in_flight.push(index);
            }
        }
        while change.release.len() < CONFIRMED_RELEASED_MAX
            && let Some(index) = self.gone.pop_first()
        {
            change.release.push(index);
            self.in_flight.push(index);
        }
    }

    /// The rows of the last flush are durable, or must be written or removed again.
    pub(super) fn flushed(&mut self, stored: bool) {
        let in_flight = mem::take(&mut self.in_flight);
        if stored {
            return;
        }
        for index in in_flight {
            if self.chunks.contains_key(&index) {
                self.changed.insert(index);
            } else {
                self.gone.insert(index);
            }
        }
    }
}

/// When what is acknowledged now is forgotten: in steps, so that few chunks change theirs.
const fn forgotten_at(now: Timestamp) -> Timestamp {
    let at = now.as_millis().saturating_add(CONFIRMED_MILLIS);
    Timestamp::from_millis(at.div_ceil(CONFIRMED_STEP_MILLIS) * CONFIRMED_STEP_MILLIS)
}

fn encode(numbers: &Numbers) -> Bytes {
    let mut body = BytesMut::with_capacity(16);
    body.put_u8(FORM);
    for run in numbers.chunk_by(|a, b| a == b) {
        let has_number = run[0] > 0;
        varint::put(
            &mut body,
            (run.len() as u64 - 1) << 1 | u64::from(has_number),
        );
        if has_number {
            varint::put(&mut body, run[0].into());
        }
    }
    body.freeze()
}

/// Decodes what [`encode`] made; `None` when it is not that.
fn decode(body: &[u8]) -> Option<Numbers> {
    let mut numbers = [0; CHUNK_OFFSETS as usize];
    let (&FORM, mut body) = body.split_first()? else {
        return None;
    };
    let mut at = 0usize;
    while !body.is_empty() {
        let head = varint::take(&mut body)?;
        let length = usize::try_from(head >> 1).ok()?.checked_add(1)?;
        let run = numbers.get_mut(at..at.checked_add(length)?)?;
        if head & 1 == 1 {
            run.fill(u32::try_from(varint::take(&mut body)?).ok()?);
        }
        at += length;
    }
    Some(numbers)
}

#[cfg(test)]
impl Confirmed {
    /// Every number that is remembered, by offset.
    pub(super) fn all(&self) -> Vec<(u64, u32)> {
        let numbers = |(index, chunk): (&u64, &Chunk)| {
            let numbers = decode(&chunk.body).expect("as it was encoded");
            (index * CHUNK_OFFSETS..).zip(numbers)
        };
        let all = self.chunks.iter().flat_map(numbers);
        all.filter(|(_, number)| *number > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000_000_000);

    fn change() -> PartitionChange {
        PartitionChange {
            partition: 0,
            generation: 1,
            cursor: 0,
            put: Vec::new(),
            delete: Vec::new(),
            retain: Vec::new(),
            release: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back_as_they_were(runs in prop::collection::vec((1usize..40, 0u32..5), 0..30)) {
            let mut numbers = [0; CHUNK_OFFSETS as usize];
            let all = runs.iter().flat_map(|(length, number)| std::iter::repeat_n(*number, *length));
            numbers.iter_mut().zip(all).for_each(|(at, number)| *at = number);
            prop_assert_eq!(decode(&encode(&numbers)), Some(numbers));
        }

        #[test]
        fn damaged_bytes_are_refused_and_never_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            decode(&body);
            decode(&[&[FORM], body.as_slice()].concat());
        }
    }

    #[test]
    fn what_was_acknowledged_is_remembered_for_ten_minutes_and_across_a_restart() {
        let mut timers = Timers::default();
        let mut confirmed = Confirmed::new(0);
        confirmed.insert_run(START, 250..300, 1, &mut timers);
        confirmed.insert_run(START, 260..261, 2, &mut timers);
        let mut stored = change();
        confirmed.take_changes(&mut stored);
        assert_eq!(stored.retain.len(), 2);
        let later = START.plus_millis(CONFIRMED_MILLIS - 1);
        let mut restored = Confirmed::new(0);
        restored.restore(later, &stored.retain, &mut timers);
        assert_eq!(restored.all(), confirmed.all());
        for (offset, number) in [(249, None), (250, Some(1)), (260, Some(2)), (299, Some(1))] {
            assert_eq!(restored.number(offset), number);
        }
        let over = START.plus_millis(CONFIRMED_MILLIS + CONFIRMED_STEP_MILLIS);
        restored.come_due(over);
        assert_eq!(restored.number(250), None);
        assert_eq!(restored.bytes(), 0);
        let mut removed = change();
        restored.take_changes(&mut removed);
        assert_eq!(removed.release, [0, 1]);
        let mut late = Confirmed::new(0);
        late.restore(over, &stored.retain, &mut timers);
        assert_eq!((late.number(250), late.has_gone()), (None, true));
    }

    #[test]
    fn a_row_that_was_not_written_is_written_again_unless_it_is_forgotten() {
        let mut timers = Timers::default();
        let mut confirmed = Confirmed::new(0);
        confirmed.insert_run(START, 0..1, 1, &mut timers);
        confirmed.take_changes(&mut change());
        confirmed.flushed(false);
        let mut again = change();
        confirmed.take_changes(&mut again);
        assert_eq!(again.retain.len(), 1);
        confirmed.forget_oldest();
        confirmed.flushed(false);
        let mut removed = change();
        confirmed.take_changes(&mut removed);
        assert_eq!((removed.retain.len(), removed.release), (0, vec![0]));
        confirmed.flushed(true);
        assert!(!confirmed.has_gone());
    }

    /// Ten minutes of 20,000 acks a second of which one in 20 was delivered again.
    #[test]
    fn what_is_remembered_of_much_is_small() {
        let mut timers = Timers::default();
        let mut confirmed = Confirmed::new(0);
        let chunks = 1_000;
        for offset in 0..chunks * CHUNK_OFFSETS {
            let number = 1 + u32::from(offset % 20 == 7);
            confirmed.insert_run(START, offset..offset + 1, number, &mut timers);
        }
        let of_all = confirmed.bytes() as u64 * 20_000 * 600 / (chunks * CHUNK_OFFSETS);
        assert!(of_all < 32 * 1024 * 1024, "{of_all} bytes");
    }
}
