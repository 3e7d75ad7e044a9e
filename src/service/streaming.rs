//! StreamingPull (docs/behaviour.md, section 7): what a stream may ask for.

use std::sync::Arc;

use super::{
    ConsumeError, Service,
    acknowledge::{changed_once, once},
    consumed::check_attached,
    judged::{Ids, Judging},
    received::Receipts,
};
use crate::{
    delivery::{DeliveryError, EndCause, ExactlyOnce, MessageStream, StreamOpening},
    engine::input::ConsumerId,
    limits::{ACK_DEADLINE_SECONDS, STREAM_UNCONFIRMED_MAX},
    resource::{name::SubscriptionName, subscription::lease_millis, violation::Violation},
    store::resources::SubscriptionRecord,
};

/// The first request of a stream.
#[derive(Clone, Debug)]
pub struct StreamStart {
    /// What it consumes.
    pub subscription: SubscriptionName,
    /// Who consumes; may be empty.
    pub client_id: String,
    /// 10 to 600.
    pub ack_deadline_seconds: i32,
    /// 0 and less: no limit.
    pub max_outstanding_messages: i64,
    /// 0 and less: no limit.
    pub max_outstanding_bytes: i64,
}

/// An open stream's way to its subscription.
pub struct OpenStream {
    service: Arc<Service>,
    record: Arc<SubscriptionRecord>,
    consumer: ConsumerId,
    exactly_once: ExactlyOnce,
}

impl Service {
    /// Opens a stream: its messages, what turns them into received ones, and the way back.
    pub async fn open_stream(
        self: &Arc<Self>,
        start: StreamStart,
    ) -> Result<(OpenStream, MessageStream, Receipts), ConsumeError> {
        let name = start.subscription;
        let record = self.found(&name).await?;
        let opening = StreamOpening {
            client_id: start.client_id,
            ack_deadline_millis: stream_deadline_millis(start.ack_deadline_seconds)?,
            messages_max: limit(start.max_outstanding_messages),
            bytes_max: limit(start.max_outstanding_bytes),
        };
        check_attached(&record)?;
        let messages = self
            .delivery
            .stream(&record, opening)
            .await
            .map_err(|error| ConsumeError::of_delivery(&name, error))?;
        let receipts = Receipts::new(&self.ack_key, &record);
        let stream = OpenStream {
            service: Arc::clone(self),
            consumer: messages.id(),
            exactly_once: messages.exactly_once(),
            record,
        };
        Ok((stream, messages, receipts))
    }
}

impl OpenStream {
    /// Acknowledges. Where delivery is exactly once, the result is to be confirmed; `unconfirmed` ids of this stream
    /// await that already.
    pub async fn acknowledge(
        &self,
        ack_ids: Vec<String>,
        unconfirmed: usize,
    ) -> Result<Option<Judging>, ConsumeError> {
        if ack_ids.is_empty() {
            return Ok(None);
        }
        let delivery = &self.service.delivery;
        if self.exactly_once.is_on() {
            let (ids, leases) = self.service.ids(&self.record, ack_ids).await;
            if is_too_much(unconfirmed, &ids) {
                return Ok(Some(Judging::put_off(ids)));
            }
            let taken = delivery.begin_acknowledge(&self.record, leases).await;
            let judgement = taken.map_err(|error| self.failed(error))?;
            return Ok(Some(ids.taken(judgement)));
        }
        let leases = self.service.known_leases(&self.record, &ack_ids).await;
        let leases = once(leases.flatten().collect());
        if !leases.is_empty() {
            let taken = delivery.acknowledge_later(&self.record, leases).await;
            taken.map_err(|error| self.failed(error))?;
        }
        Ok(None)
    }

    /// Moves the deadline of each delivery to now plus the seconds beside it; 0 gives it back. For the rest see
    /// [`OpenStream::acknowledge`].
    pub async fn modify_ack_deadlines(
        &self,
        ack_ids: Vec<String>,
        seconds: &[i32],
        unconfirmed: usize,
    ) -> Result<Option<Judging>, ConsumeError> {
        if ack_ids.len() != seconds.len() {
            return Err(Violation::argument(format!(
                "modify_deadline_ack_ids has {} entries and modify_deadline_seconds {}, and they go in pairs",
                ack_ids.len(),
                seconds.len()
            ))
            .into());
        }
        let millis = seconds
            .iter()
            .map(|seconds| lease_millis(*seconds))
            .collect::<Result<Vec<_>, _>>()?;
        if ack_ids.is_empty() {
            return Ok(None);
        }
        let leases = self.service.known_leases(&self.record, &ack_ids).await;
        let leases: Vec<_> = leases.collect();
        let changes = leases.iter().zip(millis);
        let changes = changes.filter_map(|(lease, millis)| Some(((*lease)?, millis)));
        let changes: Vec<_> = changes.collect();
        let delivery = &self.service.delivery;
        if self.exactly_once.is_on() {
            let ids = Ids::new(ack_ids, &leases);
            if is_too_much(unconfirmed, &ids) {
                return Ok(Some(Judging::put_off(ids)));
            }
            let taken = delivery.begin_modify(&self.record, changes).await;
            let judgement = taken.map_err(|error| self.failed(error))?;
            return Ok(Some(ids.taken(judgement)));
        }
        let changes = changed_once(changes);
        if !changes.is_empty() {
            let taken = delivery.modify_deadlines(&self.record, changes).await;
            taken.map_err(|error| self.failed(error))?;
        }
        Ok(None)
    }

    /// Changes the lease of later deliveries on this stream.
    pub async fn set_ack_deadline(&self, seconds: i32) -> Result<(), ConsumeError> {
        let millis = stream_deadline_millis(seconds)?;
        self.service
            .delivery
            .set_stream_deadline(&self.record, self.consumer, millis)
            .await
            .map_err(|error| self.failed(error))
    }

    /// Whether messages of one ordering key come in order.
    pub fn is_ordered(&self) -> bool {
        self.record.subscription.ordered
    }

    /// Whether delivery is exactly once by now.
    pub fn is_exactly_once(&self) -> bool {
        self.exactly_once.is_on()
    }

    /// The error of a stream that ended for this cause.
    pub fn ended(&self, cause: EndCause) -> ConsumeError {
        self.failed(cause.into())
    }

    fn failed(&self, error: DeliveryError) -> ConsumeError {
        ConsumeError::of_delivery(&self.record.subscription.name, error)
    }
}

/// Whether a request would have too many ids of a stream await their confirmation. One alone never has.
const fn is_too_much(unconfirmed: usize, ids: &Ids) -> bool {
    unconfirmed > 0 && unconfirmed + ids.len() > STREAM_UNCONFIRMED_MAX
}

fn limit(max: i64) -> Option<u64> {
    u64::try_from(max).ok().filter(|max| *max > 0)
}

fn stream_deadline_millis(seconds: i32) -> Result<u64, Violation> {
    u32::try_from(seconds)
        .ok()
        .filter(|seconds| ACK_DEADLINE_SECONDS.contains(seconds))
        .map(|seconds| u64::from(seconds) * 1000)
        .ok_or(Violation::AckDeadline {
            given: seconds,
            min: *ACK_DEADLINE_SECONDS.start(),
            max: *ACK_DEADLINE_SECONDS.end(),
        })
}
