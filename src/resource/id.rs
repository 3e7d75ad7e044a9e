//! Numbers that name one life of a resource for ever, where a name may be used again.

/// One life of a topic name. Never used twice in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIncarnation(pub u64);

/// One life of a subscription name. Never used twice in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub u64);
