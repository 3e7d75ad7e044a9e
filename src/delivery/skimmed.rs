//! How far this node has searched the logs of idle filtered subscriptions for what their filters leave out.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::{
    resource::id::{SubscriptionId, TopicIncarnation},
    store::log::{Offset, Partition},
};

/// Generation of a subscription's state, and how far the partition was searched under it.
type Searched = BTreeMap<(SubscriptionId, Partition), (u32, Offset)>;

/// Entries of subscriptions that were searched and still exist. A restart forgets them, and searches from the cursors.
#[derive(Debug, Default)]
pub(super) struct Skimmed(Mutex<BTreeMap<TopicIncarnation, Searched>>);

impl Skimmed {
    /// Forgets the subscriptions of a topic that are not among these.
    pub(super) fn retain(&self, topic: TopicIncarnation, subscriptions: &BTreeSet<SubscriptionId>) {
        let mut topics = self.0.lock();
        if let Some(searched) = topics.get_mut(&topic) {
            searched.retain(|(subscription, _), _| subscriptions.contains(subscription));
            if searched.is_empty() {
                topics.remove(&topic);
            }
        }
    }

    /// Up to where a partition was searched, or `cursor` if that is further, or the state was voided since.
    pub(super) fn searched(
        &self,
        topic: TopicIncarnation,
        (subscription, partition): (SubscriptionId, Partition),
        (generation, cursor): (u32, Offset),
    ) -> Offset {
        let topics = self.0.lock();
        let searched = topics
            .get(&topic)
            .and_then(|searched| searched.get(&(subscription, partition)));
        match searched {
            Some((known, offset)) if *known == generation => cursor.max(*offset),
            _ => cursor,
        }
    }

    /// A partition was searched below this offset, and what was found is stored.
    pub(super) fn note(
        &self,
        topic: TopicIncarnation,
        (subscription, partition): (SubscriptionId, Partition),
        (generation, offset): (u32, Offset),
    ) {
        let mut topics = self.0.lock();
        let searched = topics.entry(topic).or_default();
        searched.insert((subscription, partition), (generation, offset));
    }
}
