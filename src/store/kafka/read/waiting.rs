//! Reads that wait for a reader, first come first served, and which of them one reader takes together.

use std::collections::{HashMap, VecDeque};

use super::wanted::{Asked, How, Wanted};
use crate::limits::{KAFKA_READ_PARTITIONS_MAX, KAFKA_READS_TOGETHER_MAX, KAFKA_READS_WAITING_MAX};

/// See the module.
#[derive(Default)]
pub(super) struct Waiting(VecDeque<Asked>);

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a read in line; gives it back if there are too many.
    pub(super) fn push(&mut self, asked: Asked) -> Result<(), Asked> {
        if self.0.len() >= KAFKA_READS_WAITING_MAX {
            return Err(asked);
        }
        self.0.push_back(asked);
        Ok(())
    }

    /// Puts back what gave way to others.
    pub(super) fn extend(&mut self, asked: impl IntoIterator<Item = Asked>) {
        self.0.extend(asked);
    }

    /// The read whose turn it is.
    pub(super) fn next(&mut self) -> Option<Asked> {
        loop {
            let first = self.0.pop_front()?;
            if !first.is_abandoned() {
                return Some(first);
            }
        }
    }

    /// The read whose turn it is, and those that are carried out together with it: of each partition one or several
    /// that begin at the same offset. None of those of which `elsewhere` says that another reader stands there.
    pub(super) fn with(&mut self, first: Asked, elsewhere: impl Fn(&Wanted) -> bool) -> Vec<Asked> {
        let mut together = vec![first];
        if together[0].how != How::Together {
            return together;
        }
        // By partition, one of those that are taken.
        let mut taken: HashMap<(String, u32), usize> = HashMap::new();
        taken.insert(key(&together[0].wanted), 0);
        let mut left = VecDeque::new();
        while together.len() < KAFKA_READS_TOGETHER_MAX
            && taken.len() < KAFKA_READ_PARTITIONS_MAX
            && let Some(asked) = self.0.pop_front()
        {
            if asked.is_abandoned() {
                continue;
            }
            let same = taken.get(&key(&asked.wanted)).map(|at| &together[*at]);
            let fits = same.is_none_or(|other| asked.wanted.begins_with(&other.wanted));
            if asked.how != How::Together || !fits || elsewhere(&asked.wanted) {
                left.push_back(asked);
                continue;
            }
            taken.entry(key(&asked.wanted)).or_insert(together.len());
            together.push(asked);
        }
        left.append(&mut self.0);
        self.0 = left;
        together
    }
}

fn key(wanted: &Wanted) -> (String, u32) {
    (wanted.topic.clone(), wanted.partition)
}

#[cfg(test)]
mod tests {
    use tokio::{sync::oneshot::Receiver, time::Instant};

    use super::{super::wanted::Found, *};
    use crate::store::{
        StoreError,
        log::{Offset, Partition},
    };

    type Answer = Receiver<Result<Found, StoreError>>;

    fn asked(topic: &str, partition: Partition, start: Offset, how: How) -> (Asked, Answer) {
        let wanted = Wanted {
            topic: topic.to_owned(),
            partition,
            range: start..100,
            bytes_max: 1,
            end: 100,
        };
        Asked::new(wanted, how, Instant::now())
    }

    fn waiting(
        asked: impl IntoIterator<Item = (&'static str, Partition, Offset, How)>,
    ) -> (Waiting, Vec<Answer>) {
        let mut waiting = Waiting::default();
        let answers = asked.into_iter().map(|(topic, partition, start, how)| {
            let (asked, answer) = super::tests::asked(topic, partition, start, how);
            assert!(waiting.push(asked).is_ok());
            answer
        });
        let answers = answers.collect();
        (waiting, answers)
    }

    fn taken(waiting: &mut Waiting) -> Vec<(String, Partition, Offset)> {
        let Some(first) = waiting.next() else {
            return Vec::new();
        };
        let together = waiting.with(first, |wanted| wanted.topic == "elsewhere");
        let of = |asked: &Asked| {
            let wanted = &asked.wanted;
            (wanted.topic.clone(), wanted.partition, wanted.range.start)
        };
        together.iter().map(of).collect()
    }

    fn of(expected: &[(&str, Partition, Offset)]) -> Vec<(String, Partition, Offset)> {
        let expected = expected.iter();
        expected
            .map(|(topic, partition, start)| ((*topic).to_owned(), *partition, *start))
            .collect()
    }

    #[tokio::test]
    async fn partitions_are_read_together_and_each_from_one_offset() {
        use How::{Alone, Together};
        let (mut waiting, _answers) = waiting([
            ("a", 0, 5, Together),
            ("a", 0, 6, Together),
            ("a", 1, 6, Together),
            ("b", 0, 0, Alone),
            ("a", 0, 5, Together),
            ("elsewhere", 0, 0, Together),
            ("c", 0, 0, Together),
        ]);
        let first = [("a", 0, 5), ("a", 1, 6), ("a", 0, 5), ("c", 0, 0)];
        assert_eq!(taken(&mut waiting), of(&first));
        assert_eq!(taken(&mut waiting), of(&[("a", 0, 6)]));
        assert_eq!(taken(&mut waiting), of(&[("b", 0, 0)]));
        assert_eq!(taken(&mut waiting), of(&[("elsewhere", 0, 0)]));
        assert_eq!(taken(&mut waiting), of(&[]));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_read() {
        let (mut waiting, mut answers) = waiting((0..4).map(|at| ("a", at, 0, How::Together)));
        answers.remove(2);
        answers.remove(0);
        assert_eq!(taken(&mut waiting), of(&[("a", 1, 0), ("a", 3, 0)]));
    }

    #[tokio::test]
    async fn what_is_read_together_and_what_waits_is_bounded() {
        let count = KAFKA_READ_PARTITIONS_MAX as Partition + 1;
        let (mut many, _answers) = waiting((0..count).map(|at| ("a", at, 0, How::Together)));
        assert_eq!(taken(&mut many).len(), KAFKA_READ_PARTITIONS_MAX);
        assert_eq!(taken(&mut many).len(), 1);
        let one = ("a", 0, 0, How::Together);
        let (mut many, _answers) = waiting(vec![one; KAFKA_READS_WAITING_MAX]);
        let (asked, _answer) = asked("a", 0, 0, How::Together);
        assert!(many.push(asked).is_err());
        assert_eq!(taken(&mut many).len(), KAFKA_READS_TOGETHER_MAX);
    }
}
