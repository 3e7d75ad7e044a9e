//! What an operator was told, so that a failure is logged when it begins, and not each time that somebody tries again.

use std::collections::BTreeSet;

use crate::{limits::FAILURES_TOLD_MAX, resource::id::SubscriptionId, store::StoreError};

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// The store, for every subscription.
    Store,
    /// What is stored of one subscription.
    Subscription(SubscriptionId),
}

impl Subject {
    /// What an error of the store says about a subscription.
    pub(super) const fn of(error: &StoreError, subscription: SubscriptionId) -> Self {
        if error.is_outage() {
            Self::Store
        } else {
            Self::Subscription(subscription)
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeSet<Subject>);

impl Told {
    /// Whether that it fails is news.
    pub(super) fn fails(&mut self, subject: Subject) -> bool {
        if self.0.len() >= FAILURES_TOLD_MAX {
            // Some are told again: better than one that is never told.
            self.0.clear();
        }
        self.0.insert(subject)
    }

    /// Whether that it works is news. The store that works for one subscription does for all.
    pub(super) fn works(&mut self, subscription: SubscriptionId) -> bool {
        let store = self.0.remove(&Subject::Store);
        self.0.remove(&Subject::Subscription(subscription)) || store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_news_once_until_it_is_over() {
        let (one, other) = (SubscriptionId(1), SubscriptionId(2));
        let away = StoreError::Unavailable("away".to_owned());
        let damaged = StoreError::Damaged("a page".to_owned());
        let mut told = Told::default();
        assert!(!told.works(one));
        assert!(told.fails(Subject::of(&away, one)));
        assert!(!told.fails(Subject::of(&away, other)));
        assert!(told.fails(Subject::of(&damaged, other)));
        assert!(told.works(one) && !told.works(one));
        assert!(!told.fails(Subject::of(&damaged, other)));
        assert!(told.fails(Subject::of(&away, one)));
        assert!(told.works(other) && told.fails(Subject::of(&damaged, other)));
    }

    #[test]
    fn it_remembers_no_more_than_so_many() {
        let mut told = Told::default();
        for id in 0..=2 * FAILURES_TOLD_MAX as u64 {
            assert!(told.fails(Subject::Subscription(SubscriptionId(id))));
            assert!(told.0.len() <= FAILURES_TOLD_MAX);
        }
    }
}
