//! Judges a run by what consumers were told, and by what the log has: nothing unacknowledged is lost, nothing confirmed
//! comes back, no lease is doubled before its end, keys keep their order and their consumer, failures wait for their
//! backoff, and no stream is given more than its credit. Where delivery is exactly once, answers are judged too; dead letters
//! are in their topic, in the order of their keys.
//!
//! Of a lease consumers know between which times it began, so each has the earliest and the latest end that it may
//! have. What is not sure is never held against the server.

mod exactly_once;
mod fate;
mod keys;
mod letters;
mod sides;

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use parking_lot::Mutex;

pub(super) use self::sides::{Held, Told};
use self::{
    fate::{Fate, Lease},
    letters::Letter,
    sides::Consumer,
};
use super::{
    plan::{COLOUR, COLOURS, Subscribed},
    trace::Trace,
};
use crate::{
    clock::{Clock, Timestamp},
    limits::STORE_RETRY_MILLIS,
    resource::{
        id::{SubscriptionId, TopicIncarnation},
        message::ScannedMessage,
    },
};

/// How long leases may stay unstored where nothing goes wrong, milliseconds: they are stored within 100, and what is
/// given out meanwhile takes a moment.
const STORED_MILLIS: u64 = 500;
/// Longer than any flush goes wrong, milliseconds.
const TROUBLE_MILLIS_MAX: u64 = 10_000;
/// How late the end of a lease may be noticed, milliseconds (docs/behaviour.md, section 23), and more.
const LATE_MILLIS: u64 = 1_000;

/// A topic's incarnation, and a partition of it.
pub(super) type Place = (u64, u32);
/// Where a message lies: its partition and offset.
pub(super) type Position = (Place, u64);

/// See the module. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(super) struct Judge {
    clock: Clock,
    trace: Trace,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What lies in the log.
    log: BTreeMap<Position, Message>,
    /// Offsets of each key in each partition.
    keys: BTreeMap<(Place, String), Vec<u64>>,
    /// What publishers published, by what is in it.
    published: BTreeMap<Vec<u8>, Position>,
    /// What was forwarded, by subscription.
    letters: BTreeMap<(usize, Position), Letter>,
    subscriptions: Vec<Subscription>,
    consumers: u64,
    /// When a life of a node ended, or lost its store.
    died: BTreeMap<u64, Timestamp>,
    /// From when to when flushes went wrong, in the order of their beginnings.
    troubles: Vec<(Timestamp, Timestamp)>,
    /// Until when appends may go wrong, or arrive late.
    append_troubles: Timestamp,
    violations: Vec<String>,
}

struct Message {
    key: String,
    is_first_colour: bool,
    /// Whether it could not be read at any time.
    was_damaged: bool,
}

struct Subscription {
    id: SubscriptionId,
    /// The incarnation of its topic.
    topic: u64,
    /// When it was taken over last.
    acquired: Timestamp,
    plan: Subscribed,
    /// Where it begins, by partition.
    starts: Vec<u64>,
    fates: BTreeMap<Position, Fate>,
    consumers: BTreeMap<u64, Consumer>,
}

impl Subscription {
    fn wants(&self, ((topic, partition), offset): Position, message: &Message) -> bool {
        let start = self.starts.get(partition as usize).copied();
        topic == self.topic
            && offset >= start.unwrap_or_default()
            && (message.is_first_colour || !self.plan.is_filtered)
    }
}

/// Whether what changed at some time was stored before another: there was time between the troubles.
fn is_stored(troubles: &[(Timestamp, Timestamp)], changed: Timestamp, until: Timestamp) -> bool {
    let first =
        troubles.partition_point(|(start, _)| start.plus_millis(TROUBLE_MILLIS_MAX) <= changed);
    let mut quiet = changed;
    for (start, end) in &troubles[first..] {
        if quiet.plus_millis(STORED_MILLIS) <= *start {
            break;
        }
        quiet = quiet.max(*end);
    }
    quiet.plus_millis(STORED_MILLIS) <= until
}

/// Where the message with an id lies.
pub(super) fn position(id: &str) -> Option<Position> {
    // Topic and partition each stand behind the number of their digits.
    let part = |text: &str| {
        let digits = text.get(..1)?.parse::<usize>().ok()?;
        Some((
            text.get(1..=digits)?.to_owned(),
            text.get(digits + 1..)?.to_owned(),
        ))
    };
    let (topic, rest) = part(id)?;
    let (partition, offset) = part(&rest)?;
    let place = (topic.parse().ok()?, partition.parse().ok()?);
    Some((place, offset.parse().ok()?))
}

impl Judge {
    pub(super) fn new(clock: &Clock, trace: &Trace) -> Self {
        Self {
            clock: clock.clone(),
            trace: trace.clone(),
            state: Arc::default(),
        }
    }

    /// Messages are in the log from now on, whatever their publisher hears.
    pub(super) fn appended<'a>(
        &self,
        place: Place,
        first: u64,
        messages: impl Iterator<Item = ScannedMessage<'a>>,
    ) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        for (offset, message) in (first..).zip(messages) {
            let position = (place, offset);
            if let Some(source) = letters::source(&message) {
                let judged = state.forwarded(source, now);
                if let Err(violation) = judged {
                    let text = format!("dead letter {position:?}: {violation}");
                    self.accuse_in(&mut state, text);
                }
            } else {
                state.published.insert(message.data().to_vec(), position);
            }
            let key = String::from_utf8_lossy(message.ordering_key()).into_owned();
            let is_first_colour =
                message.attribute(COLOUR.as_bytes()) == Some(COLOURS[0].as_bytes());
            if !key.is_empty() {
                let offsets = state.keys.entry((place, key.clone())).or_default();
                offsets.push(offset);
            }
            let message = Message {
                key,
                is_first_colour,
                was_damaged: false,
            };
            state.log.insert(position, message);
        }
    }

    /// A publisher hears these ids.
    pub(super) fn published(&self, ids: &[String]) {
        let mut state = self.state.lock();
        for id in ids {
            let position = position(id);
            if !position.is_some_and(|position| state.log.contains_key(&position)) {
                self.accuse_in(
                    &mut state,
                    format!("{id} was published and is not in the log"),
                );
            }
        }
    }

    /// These cannot be read for a while.
    pub(super) fn damaged(&self, place: Place, offsets: Range<u64>) {
        let mut state = self.state.lock();
        let damaged = (place, offsets.start)..(place, offsets.end);
        for (_, message) in state.log.range_mut(damaged) {
            message.was_damaged = true;
        }
    }

    /// There is a subscription to what lies behind `starts`.
    pub(super) fn subscribed(
        &self,
        id: SubscriptionId,
        topic: TopicIncarnation,
        plan: Subscribed,
        starts: Vec<u64>,
    ) {
        self.state.lock().subscriptions.push(Subscription {
            id,
            topic: topic.0,
            acquired: Timestamp::ZERO,
            plan,
            starts,
            fates: BTreeMap::new(),
            consumers: BTreeMap::new(),
        });
    }

    /// A life of a node ends, or cannot reach its store from now on.
    pub(super) fn died(&self, life: u64) {
        let now = self.clock.now();
        self.state.lock().died.entry(life).or_insert(now);
    }

    /// A flush fails, or takes so long.
    pub(super) fn flush_goes_wrong(&self, millis: u64) {
        let now = self.clock.now();
        let until = now.plus_millis(millis + STORE_RETRY_MILLIS);
        self.state.lock().troubles.push((now, until));
    }

    /// What was stored before its message left was stored later than this if the message had not left at `unsent`.
    pub(super) fn stored_before(&self, unsent: Timestamp) -> Timestamp {
        let state = self.state.lock();
        let back = (0..8).map(|doublings| STORED_MILLIS << doublings);
        let mut began = back.map(|millis| unsent.minus_millis(millis));
        let began = began.find(|began| is_stored(&state.troubles, *began, unsent));
        began.unwrap_or_default()
    }

    /// A subscription is taken over from the life of a node that had it: what leases were not stored is forgotten.
    pub(super) fn acquired(&self, id: SubscriptionId, from: Option<u64>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let died = from.and_then(|life| state.died.get(&life)).copied();
        let until = died.unwrap_or(now);
        let State {
            subscriptions,
            troubles,
            ..
        } = &mut *state;
        let Some(subscription) = subscriptions.iter_mut().find(|it| it.id == id) else {
            return;
        };
        subscription.acquired = now;
        for fate in subscription.fates.values_mut() {
            // What is exactly once was stored before anybody heard of it.
            let is_exactly_once = subscription.plan.is_exactly_once;
            fate.restarted(|changed| is_exactly_once || is_stored(troubles, changed, until));
        }
    }

    /// Whether everything that a subscription is to get was acknowledged by a consumer, or forwarded. Otherwise says what
    /// was not.
    pub(super) fn is_done(&self, number: usize) -> Result<(), String> {
        let state = self.state.lock();
        let subscription = &state.subscriptions[number];
        let acked = |position| {
            let fate = subscription.fates.get(position);
            fate.is_some_and(|fate: &Fate| {
                fate.may_be_acked()
                    && (fate.confirmed.is_some() || !subscription.plan.is_exactly_once)
            })
        };
        let mut wanted = state.log.iter().filter(|(position, message)| {
            subscription.wants(**position, message)
                && !acked(position)
                && !state.letters.contains_key(&(number, **position))
        });
        match wanted.next() {
            None => Ok(()),
            Some((position, message)) => {
                let fate = subscription.fates.get(position);
                let more = wanted.count();
                Err(format!(
                    "{position:?} of key {:?} and {more} others are not acknowledged: {fate:?}",
                    message.key
                ))
            }
        }
    }

    /// Something is not as it should be.
    pub(super) fn accuse(&self, violation: String) {
        let mut state = self.state.lock();
        self.accuse_in(&mut state, violation);
    }

    fn accuse_in(&self, state: &mut State, violation: String) {
        self.trace.note(format_args!("VIOLATION: {violation}"));
        state.violations.push(violation);
    }

    /// The first thing that was not as it should be.
    pub(super) fn violation(&self) -> Option<String> {
        self.state.lock().violations.first().cloned()
    }
}
