//! Compares a log with what was read of it while it is being delivered.
//!
//! A Kafka topic that is made again, or lost its end, and has grown past where it ended before anybody asked, shows that
//! by nothing but its records.

use std::future::pending;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{marks::AllMarks, node::Node};
use crate::{
    clock::Timestamp,
    limits::LOG_CHECK_MILLIS,
    store::{StoreError, log::Comparison, resources::SubscriptionRecord},
};

/// When a subscription's log is compared, and the comparison under way.
pub(super) struct LogCheck {
    due: Timestamp,
    under_way: Option<BoxFuture<'static, Result<bool, StoreError>>>,
}

impl LogCheck {
    /// Of a log that was compared just now.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            due: now.plus_millis(LOG_CHECK_MILLIS),
            under_way: None,
        }
    }

    /// When to call [`Self::start`] again, if nothing else happens.
    pub(super) fn wake_at(&self, marks: Option<&AllMarks>) -> Option<Timestamp> {
        let waits = self.under_way.is_none() && marks.is_some_and(AllMarks::has_read);
        waits.then_some(self.due)
    }

    /// Starts a comparison if one is due: something was read, and the last one is a while ago.
    pub(super) fn start(
        &mut self,
        now: Timestamp,
        node: &Node,
        record: &SubscriptionRecord,
        marks: Option<&mut AllMarks>,
    ) {
        let Some(marks) = marks.filter(|marks| marks.has_read()) else {
            return;
        };
        if self.under_way.is_some() || now < self.due {
            return;
        }
        let records = marks.start_comparing();
        if records.is_empty() {
            return;
        }
        self.due = now.plus_millis(LOG_CHECK_MILLIS);
        let (log, topic) = (node.log.clone(), record.log.clone());
        let compare = async move {
            let compared = log.compare(&topic, &records).await?;
            Ok(!compared.contains(&Comparison::Other))
        };
        self.under_way = Some(compare.boxed());
    }

    /// Whether the log is the same, once that was found out.
    pub(super) async fn ended(&mut self) -> Result<bool, StoreError> {
        let Some(under_way) = &mut self.under_way else {
            return pending().await;
        };
        let is_same = under_way.await;
        self.under_way = None;
        is_same
    }
}
