//! What a load does not leave open of a plan, and what its run needs.

use super::{
    Load, Plan,
    delivery::Delivery,
    filters::{Content, Filters, PARTS},
    keys::Keys,
};

/// What a run is prepared from.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) plan: Plan,
    /// The most messages that are published.
    pub(super) quota: u64,
    /// Whether publishers wait for readers.
    pub(super) windowed: bool,
    /// Subscriptions of each new topic.
    pub(super) new_subscriptions: usize,
    pub(super) content: Content,
}

impl Shape {
    /// Of `load` as `plan` puts it on.
    pub(super) fn of(load: Load, plan: &Plan) -> Self {
        let plan = shaped(load, plan);
        let quota = match load {
            Load::Backlog | Load::Redelivery | Load::Demand | Load::Unread | Load::Backoff => {
                plan.messages.next_multiple_of(plan.batch as u64)
            }
            Load::Holes => 2 * plan.holes,
            _ => u64::MAX,
        };
        let content = content_of(load, &plan);
        let windowed = matches!(
            load,
            Load::EndToEnd
                | Load::FanOut
                | Load::Filtered
                | Load::FilteredFanOut
                | Load::Ordered
                | Load::BlockedKey
                | Load::ExactlyOnce
                | Load::ExactlyOncePlain
                | Load::Receipts
                | Load::Pull
        );
        Self {
            plan,
            quota,
            windowed,
            new_subscriptions: usize::from(load == Load::Cold),
            content,
        }
    }

    /// Of the messages beside those that `load` measures at a rate.
    pub(super) fn crowd(load: Load, plan: &Plan) -> Self {
        let mut plan = plan.clone();
        plan.topics = if load == Load::DeadLetterCycle { 2 } else { 1 };
        (plan.subscriptions, plan.silent, plan.streams) = (1, 0, 1);
        (plan.new_topics, plan.holes) = (0, 0);
        let keys = match load {
            Load::ExpiryOrdered => Keys::among(plan.in_flight),
            _ => Keys::None,
        };
        let delivery = match load {
            Load::DeadLetterCycle => Delivery::DeadLetterRing,
            _ => Delivery::ShortLeases,
        };
        Self {
            quota: plan.messages.next_multiple_of(plan.batch as u64),
            windowed: false,
            new_subscriptions: 0,
            content: Content {
                keys,
                delivery,
                ..Content::default()
            },
            plan,
        }
    }
}

fn content_of(load: Load, plan: &Plan) -> Content {
    let filters = match load {
        Load::Filtered => Filters::Tenth,
        Load::FilteredFanOut => Filters::Hundredth,
        _ => Filters::None,
    };
    let keys = match load {
        Load::Ordered | Load::BlockedKey => Keys::among(plan.in_flight),
        Load::Backoff => Keys::Own,
        _ => Keys::None,
    };
    let delivery = match load {
        Load::ExactlyOnce | Load::ExactlyOncePlain | Load::ExactlyOnceLatency => {
            Delivery::ExactlyOnce
        }
        Load::Backoff => Delivery::Backoff,
        _ => Delivery::AtLeastOnce,
    };
    Content {
        filters,
        keys,
        delivery,
    }
}

/// `plan` with what a load does not leave open.
fn shaped(load: Load, plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    match load {
        Load::FanOut => plan.streams = 1,
        Load::Filtered => (plan.batch, plan.subscriptions, plan.silent) = (PARTS, 1, 0),
        Load::FilteredFanOut => {
            (plan.batch, plan.streams, plan.silent) = (PARTS, 1, 0);
            plan.subscriptions = plan.subscriptions.min(PARTS);
        }
        Load::Latency
        | Load::ExactlyOnceLatency
        | Load::Topics
        | Load::Expiry
        | Load::ExpiryOrdered
        | Load::DeadLetterCycle => {
            (plan.batch, plan.subscriptions, plan.silent, plan.streams) = (1, 1, 0, 1);
        }
        Load::Redelivery | Load::BlockedKey | Load::Backoff => {
            (plan.topics, plan.subscriptions, plan.silent) = (1, 1, 0);
        }
        Load::Demand | Load::Unread => (plan.topics, plan.silent) = (1, 0),
        Load::Cold => {
            (plan.batch, plan.topics, plan.subscriptions, plan.silent) = (1, 1, 1, 0);
        }
        Load::Holes => {
            (plan.topics, plan.subscriptions, plan.silent, plan.streams) = (1, 1, 0, 1);
            plan.outstanding = 0;
        }
        Load::Idle => (plan.subscriptions, plan.silent, plan.streams) = (1, 0, 0),
        Load::Publish
        | Load::HalfRate
        | Load::EndToEnd
        | Load::Ordered
        | Load::ExactlyOnce
        | Load::ExactlyOncePlain
        | Load::Receipts
        | Load::Pull
        | Load::Backlog => {
            (plan.subscriptions, plan.silent) = (1, 0);
        }
    }
    if !matches!(load, Load::Topics | Load::Cold) {
        plan.new_topics = 0;
    }
    if load != Load::Holes {
        plan.holes = 0;
    }
    plan
}
