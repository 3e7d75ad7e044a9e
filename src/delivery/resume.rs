//! Starts the delivery of subscriptions that may have dead letters to forward and that nobody asks for: after a start,
//! and when a node has come or gone (docs/behaviour.md, section 11.2). A driver that finds none gives its subscription
//! up at once.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::{StreamExt as _, stream};

use super::{
    drivers::Drivers,
    error::{DeliveryError, EndCause},
};
use crate::{
    clock::Timestamp,
    limits::{RESUME_AGAIN_MILLIS, RESUME_MILLIS, RESUME_PAGE, RESUME_SUBSCRIPTIONS_MAX},
    resource::name::SubscriptionName,
    store::StoreError,
};

/// See the module.
pub(super) async fn run(drivers: Drivers) {
    let node = Arc::clone(&drivers.node);
    let resumed = async {
        let mut resume = Resume::new(&drivers);
        loop {
            resume.check().await;
            let next = node.clock.now().plus_millis(RESUME_MILLIS);
            node.clock.sleep_until(next).await;
        }
    };
    node.stopping.run_until_cancelled(resumed).await;
}

struct Resume<'a> {
    drivers: &'a Drivers,
    /// The nodes that lived when it was asked last.
    living: Option<BTreeSet<u64>>,
    /// A node that has gone may have to be waited for until others may take over what it had.
    until: Timestamp,
    /// What was started since one has come or gone.
    started: BTreeSet<SubscriptionName>,
    is_failing: bool,
}

impl<'a> Resume<'a> {
    fn new(drivers: &'a Drivers) -> Self {
        Self {
            drivers,
            living: None,
            until: Timestamp::ZERO,
            started: BTreeSet::new(),
            is_failing: false,
        }
    }

    async fn check(&mut self) {
        let node = &self.drivers.node;
        if !node.membership.holds() {
            return;
        }
        let checked = self.try_check().await;
        if let Err(error) = &checked
            && !self.is_failing
        {
            tracing::warn!(%error, "dead letters that wait cannot be found; trying again");
        }
        self.is_failing = checked.is_err();
    }

    async fn try_check(&mut self) -> Result<(), StoreError> {
        let drivers = self.drivers;
        let node = &drivers.node;
        let now = node.clock.now();
        let living = node.store.membership.living().await?;
        if self.living.as_ref() != Some(&living) {
            self.until = now.plus_millis(RESUME_AGAIN_MILLIS);
            self.started.clear();
        } else if now > self.until && !self.is_failing {
            return Ok(());
        }
        let mut after = None;
        loop {
            let names = node
                .store
                .positions
                .unattended(after.as_ref(), RESUME_PAGE)
                .await?;
            let new = names.iter().filter(|name| !self.started.contains(*name));
            let new: Vec<_> = new.cloned().collect();
            let resumed =
                stream::iter(new).map(|name| async move { (drivers.resume(&name).await, name) });
            let mut resumed = resumed.buffer_unordered(RESUME_SUBSCRIPTIONS_MAX);
            while let Some((result, name)) = resumed.next().await {
                match result {
                    Ok(()) => drop(self.started.insert(name)),
                    Err(error) => {
                        tracing::debug!(subscription = %name, %error, "delivery was not resumed");
                    }
                }
            }
            if names.len() < RESUME_PAGE {
                break;
            }
            after = names.last().cloned();
        }
        self.living = Some(living);
        Ok(())
    }
}

impl Drivers {
    /// Has the dead letters of a subscription forwarded, if it has any.
    async fn resume(&self, name: &SubscriptionName) -> Result<(), DeliveryError> {
        let record = self.node.resources.subscription(name).await?;
        let record = record.ok_or(EndCause::Deleted)?;
        let subscription = &record.subscription;
        if subscription.dead_letter_policy.is_none() || subscription.detached {
            return Ok(());
        }
        self.wake(&record).await
    }
}
