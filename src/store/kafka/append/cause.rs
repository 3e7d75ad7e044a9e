//! Why brokers take no records of a topic. The client tries again what they refuse for now, and when it gives up it says
//! no more than that it took too long.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use super::super::{admin::cluster::Copies, log::KafkaLog};
use crate::{limits::KAFKA_CAUSE_MILLIS, store::StoreError};

/// What is known of the topic that was asked about last: many requests fail together.
#[derive(Debug)]
pub(in crate::store::kafka) struct Causes {
    /// Taken while brokers are asked.
    asking: Semaphore,
    last: Mutex<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    topic: String,
    at: Instant,
    cause: Option<String>,
}

const PATIENCE: Duration = Duration::from_millis(KAFKA_CAUSE_MILLIS);
/// A part of it, so that why there is no answer is known before it ends.
const QUESTION: Duration = Duration::from_millis(KAFKA_CAUSE_MILLIS * 2 / 3);
/// Younger than this, what is known is not asked again.
const FRESH: Duration = Duration::from_secs(1);

impl Default for Causes {
    fn default() -> Self {
        Self {
            asking: Semaphore::new(1),
            last: Mutex::default(),
        }
    }
}

impl Causes {
    fn fresh(&self, topic: &str) -> Option<Known> {
        let last = self.last.lock();
        let is_fresh = |known: &&Known| known.topic == topic && known.at.elapsed() < FRESH;
        last.as_ref().filter(is_fresh).cloned()
    }
}

impl KafkaLog {
    /// The failure of an append, with what brokers say of the topic, if that may be why records were given up.
    pub(in crate::store::kafka) async fn with_cause(
        &self,
        topic: &str,
        error: StoreError,
    ) -> StoreError {
        let StoreError::Uncertain(text) = error else {
            return error;
        };
        let cause = timeout(PATIENCE, self.cause(topic)).await;
        StoreError::Uncertain(match cause.ok().flatten() {
            Some(cause) => format!("{text}; {cause}"),
            None => text,
        })
    }

    async fn cause(&self, topic: &str) -> Option<String> {
        let _turn = self.causes.asking.acquire().await.ok()?;
        if let Some(known) = self.causes.fresh(topic) {
            return known.cause;
        }
        let cause = match self.cluster.copies(topic, QUESTION).await {
            Ok(copies) => {
                let least = self.topics.in_sync_min(topic, QUESTION).await;
                copies.iter().find_map(|one| shortage(one, least))
            }
            Err(StoreError::Unavailable(why)) => Some(why),
            Err(_) => None,
        };
        *self.causes.last.lock() = Some(Known {
            topic: topic.to_owned(),
            at: Instant::now(),
            cause: cause.clone(),
        });
        cause
    }
}

/// Why a partition takes no records, if that is so. `least`: how many copies have to be in sync for that, if it is known.
fn shortage(copies: &Copies, least: Option<usize>) -> Option<String> {
    let Copies {
        partition,
        is_led,
        in_sync,
        all,
    } = *copies;
    if !is_led {
        return Some(format!("partition {partition} has no leader"));
    }
    let has = format!("partition {partition} has {in_sync} of {all} copies in sync");
    match least {
        Some(least) if in_sync < least => Some(format!(
            "{has}, and the topic's min.insync.replicas is {least}"
        )),
        None if in_sync < all => Some(format!(
            "{has}, which may be fewer than its min.insync.replicas"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_takes_nothing_is_told_from_one_that_does() {
        let said = |is_led, in_sync, least| {
            let copies = Copies {
                partition: 3,
                is_led,
                in_sync,
                all: 3,
            };
            shortage(&copies, least)
        };
        let says = |said: Option<String>, what: &str| {
            let said = said.expect("a cause");
            assert!(
                said.contains("partition 3") && said.contains(what),
                "{said}"
            );
        };
        says(said(false, 0, Some(2)), "no leader");
        says(said(true, 1, Some(2)), "1 of 3 copies in sync, and");
        says(said(true, 2, None), "may be fewer");
        assert_eq!(said(true, 2, Some(2)), None);
        assert_eq!(said(true, 3, None), None);
    }
}
