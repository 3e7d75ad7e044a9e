//! One turn of a consumer: the reads that it carries out together, each of which is answered as soon as it is done.
//!
//! The client says of errors and of ends not which topic they are of. A round of one partition knows; in one of
//! several, reads that got nothing while something was wrong are answered `Unclear`, and are then repeated alone.
//!
//! The answers of one partition are given when the reader is free again: the next read goes on where it stands.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::time::Instant;

use super::{
    super::{context::Listener, errors, record},
    reader::ReadPosition,
    share::{Answer, Share},
    wanted::{Asked, Found},
};
use crate::{
    limits::{KAFKA_READ_BYTES_TOGETHER_MAX, KAFKA_READ_TURN_MILLIS},
    store::{
        StoreError,
        log::{Offset, Partition},
    },
};
use record::DecodedRecord;

/// Longest single wait for a record; then deadlines are checked.
const POLL: Duration = Duration::from_millis(50);
/// That an offset is out of range may still be said of what was read before; then something else comes within this.
const STALE: Duration = Duration::from_millis(200);
/// Partitions that are done after which the client is told, also while records keep coming.
const DONE_MAX: usize = 8;
/// Doublings of a turn.
const TURN_DOUBLINGS_MAX: u32 = 4;

/// See the module.
pub(super) struct Round {
    members: Vec<Member>,
    /// The members of each topic.
    by_topic: HashMap<String, Vec<usize>>,
    /// The member whose records came last.
    last: usize,
    unfinished: usize,
    /// Members that are done, and that the client reads still.
    done: Vec<usize>,
    doubt: Doubt,
    ended: Ended,
}

/// How a round left the client.
#[derive(Default)]
pub(super) struct Ended {
    /// Reads that gave way to others.
    pub(super) unanswered: Vec<Asked>,
    /// Answers that are still to be given.
    pub(super) answers: Vec<Answer>,
    /// Where the next read of the only partition goes on.
    pub(super) stands_at: Option<ReadPosition>,
    /// See `Reader::is_broken`.
    pub(super) is_broken: bool,
}

/// A partition, with the reads that begin at one offset of it.
struct Member {
    topic: String,
    partition: Partition,
    start: Offset,
    shares: Vec<Share>,
}

/// What is wrong somewhere in the round.
#[derive(Default)]
struct Doubt {
    /// Partitions of some topic that have ended.
    ended: HashSet<Partition>,
    /// Since when an offset is out of range.
    out_of_range: Option<Instant>,
    is_unknown: bool,
}

impl Round {
    pub(super) fn new(asked: Vec<Asked>) -> Self {
        let mut members: Vec<Member> = Vec::new();
        let mut by_topic: HashMap<String, Vec<usize>> = HashMap::new();
        for asked in asked {
            let of_topic = by_topic.entry(asked.wanted.topic.clone()).or_default();
            let same = of_topic
                .iter()
                .find(|at| members[**at].partition == asked.wanted.partition);
            if let Some(at) = same {
                members[*at].shares.push(Share::new(asked));
            } else {
                of_topic.push(members.len());
                members.push(Member {
                    topic: asked.wanted.topic.clone(),
                    partition: asked.wanted.partition,
                    start: asked.wanted.range.start,
                    shares: vec![Share::new(asked)],
                });
            }
        }
        // Reads of one partition share what they get.
        let bytes_max = KAFKA_READ_BYTES_TOGETHER_MAX / members.len().max(1);
        let shares = members.iter_mut().flat_map(|member| &mut member.shares);
        shares.for_each(|share| share.limit(bytes_max));
        Self {
            unfinished: members.len(),
            members,
            by_topic,
            last: 0,
            done: Vec::new(),
            doubt: Doubt::default(),
            ended: Ended::default(),
        }
    }

    /// The partitions, each with where it is read from.
    pub(super) fn starts(&self) -> impl Iterator<Item = (&str, Partition, Offset)> {
        let members = self.members.iter();
        members.map(|member| (member.topic.as_str(), member.partition, member.start))
    }

    /// Ends at once, as the client does not take the partitions.
    pub(super) fn fail(mut self, error: &KafkaError) -> Ended {
        let is_exact = self.is_exact();
        for at in 0..self.members.len() {
            self.give_up(at, false, || {
                if is_exact {
                    Err(errors::of_question(error))
                } else {
                    Ok(Found::Unclear)
                }
            });
        }
        self.ended
    }

    /// Reads until each read is answered, or it is the turn of others. `held` is what comes before the first record
    /// that the client returns.
    pub(super) fn run(
        mut self,
        client: &BaseConsumer<Listener>,
        held: Option<DecodedRecord>,
        others_wait: impl Fn() -> bool,
    ) -> Ended {
        if let Some(held) = held {
            self.offer(0, &held);
        }
        let turns = self.shares().map(|share| share.asked.turns).max();
        let doublings = turns.unwrap_or(0).min(TURN_DOUBLINGS_MAX);
        let turn = Duration::from_millis(KAFKA_READ_TURN_MILLIS << doublings);
        let over_at = Instant::now() + turn;
        while self.unfinished > 0 {
            if self.done.len() >= DONE_MAX {
                self.release(client);
            }
            let polled = client.poll(Duration::ZERO).or_else(|| {
                self.release(client);
                client.poll(POLL)
            });
            let is_quiet = polled.is_none();
            match polled {
                Some(Ok(record)) => self.take(&record),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.end_of(partition.cast_unsigned());
                }
                Some(Err(error)) => self.failed(error.rdkafka_error_code()),
                None => self.judge(),
            }
            if is_quiet {
                let now = Instant::now();
                self.give_up_late(client, now);
                if now >= over_at && others_wait() {
                    self.give_way();
                }
            }
        }
        self.ended
    }

    fn shares(&self) -> impl Iterator<Item = &Share> {
        self.members.iter().flat_map(|member| &member.shares)
    }

    /// Whether what the client says is of the only partition.
    fn is_exact(&self) -> bool {
        self.members.len() == 1
    }

    fn take(&mut self, record: &BorrowedMessage<'_>) {
        let Some(at) = self.member_of(record) else {
            tracing::error!(
                got_topic = %record.topic(), got_partition = record.partition(), got_offset = record.offset(),
                wanted = ?self.starts().next(), partitions = self.members.len(),
                "a consumer returned a record of a partition that it was not asked for; it is dropped, and another \
                 consumer reads"
            );
            // What came before it is not to be relied on either.
            self.ended.is_broken = true;
            for at in 0..self.members.len() {
                self.give_up(at, false, || Ok(Found::Stray));
            }
            return;
        };
        self.last = at;
        if self.members[at].shares.is_empty() {
            // Done, and the client reads ahead.
            return;
        }
        self.offer(at, &record::decode(record));
    }

    fn member_of(&self, record: &BorrowedMessage<'_>) -> Option<usize> {
        let is_of = |at: usize| {
            let member = &self.members[at];
            record::is_of(record, &member.topic, member.partition)
        };
        if is_of(self.last) {
            return Some(self.last);
        }
        let mut of_topic = self.by_topic.get(record.topic())?.iter().copied();
        of_topic.find(|at| is_of(*at))
    }

    /// Gives a record to the reads of a partition, and answers those that have all they may have.
    fn offer(&mut self, at: usize, record: &DecodedRecord) {
        let only = self.is_exact() && self.members[at].shares.len() == 1;
        let mut answers = Vec::new();
        let Member {
            topic,
            partition,
            shares,
            ..
        } = &mut self.members[at];
        for share in shares.extract_if(.., |share| share.take(record)) {
            let held = (share.next <= record.offset).then(|| record.clone());
            // The follower reads the head of the log; waiting there costs the broker a request after the other.
            let goes_on = held.is_some() || share.next < share.asked.wanted.end;
            let (asked, batch) = share.finish();
            if only && goes_on {
                self.ended.stands_at = Some(ReadPosition {
                    topic: topic.clone(),
                    partition: *partition,
                    next: batch.next,
                    held,
                });
            }
            answers.push((asked, Ok(Found::Some(batch))));
        }
        let is_done = shares.is_empty();
        self.answer(answers);
        if is_done {
            self.finished(at);
        }
    }

    fn finished(&mut self, at: usize) {
        self.unfinished -= 1;
        self.done.push(at);
    }

    fn answer(&mut self, answers: impl IntoIterator<Item = Answer>) {
        if self.is_exact() {
            self.ended.answers.extend(answers);
        } else {
            answers
                .into_iter()
                .for_each(|(asked, result)| asked.answer(result));
        }
    }

    /// Has the client read nothing more of what is done.
    fn release(&mut self, client: &BaseConsumer<Listener>) {
        if self.done.is_empty() || self.unfinished == 0 {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(self.done.len());
        for at in self.done.drain(..) {
            let member = &self.members[at];
            list.add_partition(&member.topic, member.partition.cast_signed());
        }
        if let Err(error) = client.incremental_unassign(&list) {
            tracing::debug!(error = %errors::text(&error), "a reader goes on with what is done");
        }
    }

    /// A partition of some topic has no more records.
    fn end_of(&mut self, partition: Partition) {
        if !self.is_exact() {
            self.doubt.ended.insert(partition);
        } else if self.members[0].partition == partition {
            self.give_up(0, true, || Ok(Found::Nothing));
        }
    }

    fn failed(&mut self, code: Option<RDKafkaErrorCode>) {
        match code {
            Some(code) if errors::is_damage(code) && self.is_exact() => {
                self.give_up(0, true, || Ok(Found::Damage));
            }
            // What the client makes of the bytes behind damage is not to be relied on.
            Some(code) if errors::is_damage(code) => self.give_up_all(),
            Some(code) if errors::is_out_of_range(code) => {
                self.doubt.out_of_range.get_or_insert_with(Instant::now);
            }
            Some(code) if errors::is_unknown(code) => {
                // The client says so more than once.
                self.ended.is_broken = true;
                self.doubt.is_unknown = true;
                if self.is_exact() {
                    self.give_up(0, false, || Err(StoreError::NoSuchLog));
                }
            }
            // The client tries again by itself; if it does not get anywhere, the deadline ends it.
            _ => {}
        }
    }

    /// Nothing has come for a moment: what can be said of the reads that got nothing.
    fn judge(&mut self) {
        let is_stale = |since: Instant| since.elapsed() > STALE;
        if self.doubt.out_of_range.is_some_and(is_stale) {
            if self.is_exact() {
                return self.give_up(0, true, || Ok(Found::OutOfRange));
            }
            return self.give_up_all();
        }
        if self.doubt.is_unknown {
            return self.give_up_all();
        }
        for at in 0..self.members.len() {
            if self.doubt.ended.contains(&self.members[at].partition) {
                self.give_up(at, true, || Ok(Found::Unclear));
            }
        }
    }

    fn give_up_all(&mut self) {
        for at in 0..self.members.len() {
            self.give_up(at, true, || Ok(Found::Unclear));
        }
    }

    /// Answers the reads of a partition: with what they got, if that is to be relied on, or else why there is nothing.
    fn give_up(&mut self, at: usize, reliable: bool, why: impl Fn() -> Result<Found, StoreError>) {
        let shares = std::mem::take(&mut self.members[at].shares);
        if shares.is_empty() {
            return;
        }
        let answers = shares.into_iter().map(|share| {
            if reliable && !share.reading.is_empty() {
                share.answer()
            } else {
                (share.asked, why())
            }
        });
        self.answer(answers.collect::<Vec<_>>());
        self.finished(at);
    }

    /// Ends reads whose time is over, or for which nobody waits.
    fn give_up_late(&mut self, client: &BaseConsumer<Listener>, now: Instant) {
        for at in 0..self.members.len() {
            let shares = &mut self.members[at].shares;
            if shares.is_empty() {
                continue;
            }
            let is_over =
                |share: &mut Share| share.asked.deadline <= now || share.asked.is_abandoned();
            let over = shares.extract_if(.., is_over).map(|share| {
                if share.reading.is_empty() {
                    (share.asked, Err(late(client)))
                } else {
                    share.answer()
                }
            });
            let answers: Vec<_> = over.collect();
            let is_done = shares.is_empty();
            self.answer(answers);
            if is_done {
                self.finished(at);
            }
        }
    }

    /// Lets others have the reader.
    fn give_way(&mut self) {
        for at in 0..self.members.len() {
            let shares = std::mem::take(&mut self.members[at].shares);
            if shares.is_empty() {
                continue;
            }
            let (nothing, some): (Vec<_>, Vec<_>) = shares
                .into_iter()
                .partition(|share| share.reading.is_empty());
            let unanswered = nothing.into_iter().map(|share| {
                let mut asked = share.asked;
                asked.turns += 1;
                asked
            });
            self.ended.unanswered.extend(unanswered);
            self.answer(some.into_iter().map(Share::answer));
            self.finished(at);
        }
    }
}

fn late(client: &BaseConsumer<Listener>) -> StoreError {
    let why = client.context().last();
    let why = why.map_or_else(String::new, |complaint| format!(": {}", complaint.text));
    StoreError::Unavailable(format!("Kafka does not send records{why}"))
}
