//! What a run is made of, as its seed says.

use std::{sync::Arc, time::Duration};

use super::dice::Dice;
use crate::{
    filter::Filter,
    limits::CHUNK_OFFSETS,
    resource::{
        name::{SubscriptionName, TopicName},
        subscription::{DeadLetterPolicy, RetryPolicy, SubscriptionSettings},
    },
};

/// The attribute that filters ask for, and its values.
pub(super) const COLOUR: &str = "colour";
pub(super) const COLOURS: [&str; 2] = ["red", "blue"];

/// With so many failures a message is a dead letter, where there is a policy: the least that it may say.
pub(super) const ATTEMPTS_MAX: u32 = 5;

/// See the module.
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) partitions: u32,
    /// Publishes before there is a subscription, so that edges of chunks are close.
    pub(super) before: Vec<u64>,
    pub(super) subscriptions: Vec<Subscribed>,
    /// Ordering keys; the empty one is none.
    pub(super) keys: Vec<String>,
    /// How long it is busy, milliseconds.
    pub(super) busy_millis: u64,
    /// What of the calls of stores fails, is slow, or is left unanswered while there is trouble.
    pub(super) trouble: Trouble,
}

/// How often what goes wrong, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    pub(super) failing: u64,
    pub(super) uncertain: u64,
    pub(super) slow: u64,
}

/// A subscription of the run.
#[derive(Clone, Debug)]
pub(super) struct Subscribed {
    pub(super) name: SubscriptionName,
    pub(super) topic: TopicName,
    pub(super) ack_deadline_seconds: u32,
    pub(super) is_ordered: bool,
    /// Gets messages of the first colour alone.
    pub(super) is_filtered: bool,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) is_exactly_once: bool,
    pub(super) dead_letter: Option<DeadLetterPolicy>,
    /// Consumers at a time.
    pub(super) consumers: u64,
}

impl Plan {
    pub(super) fn new(dice: &Dice) -> Self {
        let subscriptions = dice.within(1..=2);
        let subscriptions = (0..subscriptions).map(|number| Subscribed::new(dice, number));
        let mut subscriptions: Vec<_> = subscriptions.collect();
        if subscriptions.iter().any(|it| it.dead_letter.is_some()) {
            subscriptions.push(Subscribed::of_dead_letters(dice));
        }
        let keys = (0..dice.within(1..=6)).map(|key| format!("key{key}"));
        let keys = std::iter::once(String::new()).chain(keys).collect();
        let trouble = Trouble {
            failing: *dice.pick(&[0, 2, 10]),
            uncertain: *dice.pick(&[0, 2, 10]),
            slow: *dice.pick(&[0, 5, 20]),
        };
        let partitions = dice.within(1..=3);
        let before = (0..partitions).map(|_| dice.within(1..=CHUNK_OFFSETS));
        Self {
            nodes: dice.within(1..=2) as usize,
            partitions: partitions as u32,
            before: before.collect(),
            subscriptions,
            keys,
            busy_millis: dice.within(20_000..=90_000),
            trouble,
        }
    }
}

impl Subscribed {
    fn new(dice: &Dice, number: u64) -> Self {
        let name = format!("projects/p/subscriptions/sub{number}");
        let min = *dice.pick(&[0, 1_000, 3_000]);
        let retry = RetryPolicy {
            minimum_backoff: Duration::from_millis(min),
            maximum_backoff: Duration::from_millis(min * 8),
        };
        let dead_letter = DeadLetterPolicy {
            topic: dead_letters(),
            max_delivery_attempts: ATTEMPTS_MAX,
        };
        Self {
            name: SubscriptionName::parse("name", &name).expect("valid"),
            topic: topic(),
            ack_deadline_seconds: *dice.pick(&[10, 15]),
            is_ordered: dice.chance(60),
            is_filtered: dice.chance(30),
            retry: dice.chance(40).then_some(retry),
            is_exactly_once: dice.chance(40),
            dead_letter: dice.chance(40).then_some(dead_letter),
            consumers: dice.within(1..=3),
        }
    }

    /// Collects what others have forwarded.
    fn of_dead_letters(dice: &Dice) -> Self {
        let name = SubscriptionName::parse("name", "projects/p/subscriptions/dead");
        Self {
            name: name.expect("valid"),
            topic: dead_letters(),
            is_filtered: false,
            is_exactly_once: false,
            dead_letter: None,
            consumers: 1,
            ..Self::new(dice, 0)
        }
    }

    /// Whether its consumers only collect.
    pub(super) fn collects(&self) -> bool {
        self.topic == dead_letters()
    }

    /// What it is created with.
    pub(super) fn settings(&self) -> SubscriptionSettings {
        let filter = format!("attributes.{COLOUR} = \"{}\"", COLOURS[0]);
        let filter = || Arc::new(Filter::parse(&filter).expect("valid"));
        SubscriptionSettings {
            ack_deadline_seconds: Some(self.ack_deadline_seconds),
            ordered: self.is_ordered,
            filter: self.is_filtered.then(filter),
            retry_policy: self.retry,
            exactly_once: self.is_exactly_once,
            dead_letter_policy: self.dead_letter.clone(),
            ..SubscriptionSettings::default()
        }
    }
}

/// The topic of all runs.
pub(super) fn topic() -> TopicName {
    TopicName::parse("name", "projects/p/topics/top").expect("valid")
}

/// Where dead letters go.
pub(super) fn dead_letters() -> TopicName {
    TopicName::parse("name", "projects/p/topics/dead").expect("valid")
}
