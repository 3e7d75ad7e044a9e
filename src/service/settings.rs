//! Settings that not every node knows.

use super::Service;
use crate::{resource::requirement::Requirement, store::StoreError};

impl Service {
    /// Refuses a setting that a living node does not know, as it would not be carried out there.
    pub(super) async fn check_setting(&self, requirement: Requirement) -> Result<(), StoreError> {
        let Requirement { version, setting } = requirement;
        if requirement == Requirement::NONE {
            return Ok(());
        }
        match self.store.membership.behind(version).await? {
            None => Ok(()),
            Some(node) => Err(StoreError::Refused(format!(
                "{setting} cannot be used yet: node {node} does not know it; start a newer release there first"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;

    use super::*;
    use crate::{
        clock::{Clock, Timestamp},
        random::Random,
        store::{
            Membership, StateStore,
            memory::{MemoryLog, MemoryState},
        },
    };

    /// Among nodes of which one has data version 1.
    struct WithOlder;

    #[async_trait]
    impl Membership for WithOlder {
        async fn behind(&self, version: u32) -> Result<Option<String>, StoreError> {
            Ok((version > 1).then(|| "two at host:8085".to_owned()))
        }
    }

    #[tokio::test]
    async fn a_setting_that_a_living_node_does_not_know_is_refused_by_name() {
        let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_000_000));
        let state = Arc::new(MemoryState::new().expect("random bytes"));
        let store = StateStore {
            membership: Arc::new(WithOlder),
            ..StateStore::new(state)
        };
        let log = Arc::new(MemoryLog::new(clock.clone(), usize::MAX));
        let service = Service::start(store, log, clock, Random::seeded(1));
        let known = service.check_setting(Requirement::NONE).await;
        known.expect("known to all");
        let ordering = Requirement {
            version: 2,
            setting: "enable_message_ordering",
        };
        let refused = service.check_setting(ordering).await;
        let Err(StoreError::Refused(text)) = refused else {
            panic!("{refused:?}");
        };
        assert!(text.starts_with("enable_message_ordering"), "{text}");
        assert!(text.contains("two at host:8085"), "{text}");
    }
}
