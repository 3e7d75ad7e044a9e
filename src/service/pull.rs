//! Pull (docs/behaviour.md, section 6).

use std::time::Duration;

use super::{ConsumeError, Service, received::Receipts};
use crate::{
    limits::{DELIVERY_MESSAGES_MAX, PULL_DEADLINE_MARGIN_MILLIS, PULL_WAIT_MILLIS_MAX},
    resource::{message::ReceivedMessage, violation::Violation},
};

impl Service {
    /// Up to `max_messages` messages. Waits for the first one, unless `return_immediately`, but not as long as the
    /// client does (`client_timeout`): an empty answer is better than a deadline that passed.
    pub async fn pull(
        &self,
        subscription: &str,
        max_messages: i32,
        return_immediately: bool,
        client_timeout: Option<Duration>,
    ) -> Result<Vec<ReceivedMessage>, ConsumeError> {
        let started = self.clock.now();
        let name = Self::consumed_name(subscription)?;
        let messages_max = usize::try_from(max_messages)
            .ok()
            .filter(|max| *max > 0)
            .ok_or_else(|| Violation::argument("max_messages"))?
            .min(DELIVERY_MESSAGES_MAX);
        let record = self.consumed(&name).await?;
        let receipts = Receipts::new(&self.ack_key, &record);

        let wait = client_timeout.map_or(PULL_WAIT_MILLIS_MAX, |timeout| {
            u64::try_from(timeout.as_millis())
                .unwrap_or(u64::MAX)
                .saturating_sub(PULL_DEADLINE_MARGIN_MILLIS)
                .min(PULL_WAIT_MILLIS_MAX)
        });
        let answer = async {
            let mut pull = self
                .delivery
                .pull(&record, messages_max, return_immediately)
                .await?;
            pull.answer().await
        };
        let deliveries = tokio::select! {
            biased;
            deliveries = answer => deliveries.map_err(|cause| ConsumeError::ended(&name, cause))?,
            () = self.clock.sleep_until(started.plus_millis(wait)) => Vec::new(),
        };
        Ok(receipts.received(deliveries))
    }
}
