//! Deletes what no subscription needs any more, and finishes topics that a crash or a failing store left half made.
//!
//! Topics take turns, and a turn is short: a topic with much to delete delays neither the others nor the end of the
//! server.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{
    changed::Changed,
    drivers::Drivers,
    node::Node,
    skim::{self, Skim},
    sweep::{self, Sweep, Turn},
};
use crate::{
    clock::Timestamp,
    limits::{RETENTION_SWEEP_ALL_MILLIS, RETENTION_SWEEP_MILLIS},
    resource::id::TopicIncarnation,
    store::StoreError,
};

/// Checks topics after something happened to them, and now and then all of them, as messages also expire by age.
pub(super) async fn run(drivers: Drivers) {
    let node = Arc::clone(&drivers.node);
    let stopping = node.stopping.clone();
    // What is in the middle of a call may be left at any point, as by a crash.
    stopping
        .run_until_cancelled(async {
            let mut retention = Retention::new(&drivers);
            loop {
                let now = node.clock.now();
                if retention.turns.is_empty() || now >= retention.check_at {
                    retention.check(now).await;
                }
                if !retention.turn().await {
                    node.clock.sleep_until(retention.check_at).await;
                }
                // Stores in memory never make anybody wait.
                tokio::task::yield_now().await;
            }
        })
        .await;
}

/// The topics that are being swept.
pub(super) struct Retention<'a> {
    drivers: &'a Drivers,
    node: &'a Node,
    topics: BTreeMap<TopicIncarnation, Waiting>,
    /// Each of `topics` once.
    turns: VecDeque<TopicIncarnation>,
    check_at: Timestamp,
    all_at: Timestamp,
}

/// What is done in a topic, and what changed since it began: what filters leave out is found before a sweep.
#[derive(Default)]
struct Waiting {
    skim: Option<Skim>,
    sweep: Option<Sweep>,
    changed: Option<Changed>,
}

impl<'a> Retention<'a> {
    pub(super) fn new(drivers: &'a Drivers) -> Self {
        let node = drivers.node.as_ref();
        let now = node.clock.now();
        Self {
            drivers,
            node,
            topics: BTreeMap::new(),
            turns: VecDeque::new(),
            check_at: now,
            all_at: now,
        }
    }

    /// Takes in which topics are due.
    pub(super) async fn check(&mut self, now: Timestamp) {
        self.node.agreement.tell();
        self.check_at = now.plus_millis(RETENTION_SWEEP_MILLIS);
        if now >= self.all_at {
            self.all_at = now.plus_millis(RETENTION_SWEEP_ALL_MILLIS);
            match self.node.store.resources.logs().await {
                Ok(logs) => {
                    for row in logs {
                        self.add(row.incarnation, Changed::everything());
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "retention could not list the topics; trying again later");
                }
            }
        }
        for (topic, changed) in self.node.activity.take_due(now) {
            self.add(topic, changed);
        }
    }

    fn add(&mut self, topic: TopicIncarnation, changed: Changed) {
        let turns = &mut self.turns;
        let waiting = self.topics.entry(topic).or_insert_with(|| {
            turns.push_back(topic);
            Waiting::default()
        });
        waiting.changed.get_or_insert_default().merge(changed);
    }

    /// Gives the next topic its turn; whether there was one.
    pub(super) async fn turn(&mut self) -> bool {
        let Some(topic) = self.turns.pop_front() else {
            return false;
        };
        let Some(mut waiting) = self.topics.remove(&topic) else {
            return true;
        };
        match self.advance(topic, &mut waiting).await {
            Ok(Turn::More) => {}
            Ok(Turn::Finished) => {
                waiting.skim = None;
                waiting.sweep = None;
            }
            Err(error) => {
                tracing::warn!(topic = topic.0, %error, "a topic's log was not cleaned; trying again later");
                // Nobody knows how much of what changed was searched.
                let now = self.node.clock.now();
                self.node.activity.add(topic, sweep::again(), now);
                return true;
            }
        }
        if waiting.skim.is_some() || waiting.sweep.is_some() || waiting.changed.is_some() {
            self.topics.insert(topic, waiting);
            self.turns.push_back(topic);
        }
        true
    }

    async fn advance(
        &self,
        topic: TopicIncarnation,
        waiting: &mut Waiting,
    ) -> Result<Turn, StoreError> {
        if let Some(sweep) = &mut waiting.sweep {
            return sweep.turn(self.node).await;
        }
        let skimmed = match &mut waiting.skim {
            Some(skim) => match skim.turn(self.drivers).await? {
                Turn::More => return Ok(Turn::More),
                Turn::Finished => waiting.skim.take(),
            },
            None => None,
        };
        let Some(needs) = self.node.store.resources.log_needs(topic).await? else {
            return Ok(Turn::Finished);
        };
        let changed = if let Some(skim) = skimmed {
            skim.into_changed()
        } else {
            let changed = waiting.changed.take().unwrap_or_default();
            match skim::begin(self.node, &needs, changed).await? {
                Ok(skim) => {
                    waiting.skim = Some(skim);
                    return Ok(Turn::More);
                }
                Err(changed) => changed,
            }
        };
        waiting.sweep = sweep::begin(self.node, needs, &changed).await?;
        Ok(Turn::More)
    }
}
