//! Pull (docs/behaviour.md, section 6).

use std::time::Duration;

use super::{ConsumeError, Service, consumed::check_attached, received::Receipts};
use crate::{
    delivery::Unsent,
    limits::{DELIVERY_MESSAGES_MAX, PULL_DEADLINE_MARGIN_MILLIS, PULL_WAIT_MILLIS_MAX},
    resource::{message::ReceivedMessage, name::SubscriptionName, violation::Violation},
};

impl Service {
    /// Up to `max_messages` messages. Waits for the first one, unless `return_immediately`, but not as long as the
    /// client does (`client_timeout`): an empty answer is better than a deadline that passed. With them comes what is to
    /// be dropped when the answer is sent.
    pub async fn pull(
        &self,
        name: &SubscriptionName,
        max_messages: i32,
        return_immediately: bool,
        client_timeout: Option<Duration>,
    ) -> Result<(Vec<ReceivedMessage>, Option<Unsent>), ConsumeError> {
        let started = self.clock.now();
        let record = self.found(name).await?;
        let messages_max = usize::try_from(max_messages)
            .ok()
            .filter(|max| *max > 0)
            .ok_or_else(|| Violation::argument("max_messages"))?
            .min(DELIVERY_MESSAGES_MAX);
        check_attached(&record)?;
        let receipts = Receipts::new(&self.ack_key, &record);

        let wait = client_timeout.map_or(PULL_WAIT_MILLIS_MAX, wait_millis);
        let answer = async {
            let mut pull = self
                .delivery
                .pull(&record, messages_max, return_immediately)
                .await?;
            let deliveries = pull.answer().await?;
            Ok((deliveries, pull.take_unsent()))
        };
        let (deliveries, unsent) = tokio::select! {
            biased;
            answer = answer => answer.map_err(|cause| ConsumeError::of_delivery(name, cause))?,
            () = self.clock.sleep_until(started.plus_millis(wait)) => (Vec::new(), None),
        };
        Ok((receipts.received(deliveries), unsent))
    }
}

/// How long a client with this timeout is kept waiting: until a little before its time is up. A very impatient one
/// still gets half of its time, or it would never be given anything.
fn wait_millis(client_timeout: Duration) -> u64 {
    let timeout = u64::try_from(client_timeout.as_millis()).unwrap_or(u64::MAX);
    let margin = PULL_DEADLINE_MARGIN_MILLIS.min(timeout.div_ceil(2));
    (timeout - margin).min(PULL_WAIT_MILLIS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_answered_before_its_client_gives_up_but_never_before_it_was_tried() {
        for (timeout_millis, wait) in [
            (0, 0),
            (400, 200),
            (500, 250),
            (1_000, 500),
            (5_000, 4_500),
            (60_000, PULL_WAIT_MILLIS_MAX),
        ] {
            let timeout = Duration::from_millis(timeout_millis);
            assert_eq!(wait_millis(timeout), wait, "{timeout:?}");
        }
    }
}
