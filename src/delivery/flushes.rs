//! One subscription's flushes, one after the other, and the acks that wait for them.

use std::mem;

use futures_util::future::{BoxFuture, FutureExt};

use super::{
    activity::{Acked, Freed},
    error::{DeliveryError, EndCause},
    flusher::{Flushed, Flusher},
    judgement::Awaiting,
};
use crate::{
    clock::Timestamp,
    engine::change::PartitionChange,
    limits::{BUSY_RETRY_MILLIS, STORE_RETRY_MILLIS},
    resource::id::SubscriptionId,
    store::positions::{Flush, FlushOutcome},
};

/// See the module.
pub(super) struct Flushes {
    flusher: Flusher,
    subscription: SubscriptionId,
    epoch: u64,
    on_its_way: Option<BoxFuture<'static, Flushed>>,
    /// Requests that the flush on its way makes durable.
    flushing: Vec<Awaiting>,
    /// Requests for the next flush.
    waiting: Vec<Awaiting>,
    not_before: Timestamp,
    acked: Acked,
    /// What the flush on its way lets retention delete.
    flushing_freed: Freed,
}

impl Flushes {
    /// Of the state of `subscription`, which was acquired with this epoch.
    pub(super) fn new(flusher: Flusher, subscription: SubscriptionId, epoch: u64) -> Self {
        Self {
            flusher,
            subscription,
            epoch,
            on_its_way: None,
            flushing: Vec::new(),
            waiting: Vec::new(),
            not_before: Timestamp::ZERO,
            acked: Acked::default(),
            flushing_freed: Freed::default(),
        }
    }

    /// What acknowledgements let go of.
    pub(super) fn acked(&mut self) -> &mut Acked {
        &mut self.acked
    }

    /// The next flush answers this request, or the next question whether there is something to flush.
    pub(super) fn answer_later(&mut self, awaiting: Awaiting) {
        self.waiting.push(awaiting);
    }

    /// Whether requests wait for a flush that has not started.
    pub(super) fn are_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When the next flush may start, if that is not now.
    pub(super) fn retry_at(&self, now: Timestamp) -> Option<Timestamp> {
        (self.not_before > now).then_some(self.not_before)
    }

    /// Whether a flush may start.
    pub(super) fn are_free(&self, now: Timestamp) -> bool {
        self.on_its_way.is_none() && self.not_before <= now
    }

    /// Starts a flush of these changes. Without any, what was acknowledged before is durable already.
    pub(super) fn start(&mut self, changes: Option<Vec<PartitionChange>>) {
        let Some(changes) = changes else {
            answer(&mut self.waiting, Ok(()));
            return;
        };
        self.flushing.append(&mut self.waiting);
        self.flushing_freed.merge(self.acked.take());
        let flush = Flush {
            subscription: self.subscription,
            epoch: self.epoch,
            changes,
        };
        self.on_its_way = Some(self.flusher.clone().flush(flush).boxed());
    }

    /// Waits for the flush on its way; `None` when there is none. Safe to cancel.
    pub(super) async fn ended(&mut self) -> Option<Flushed> {
        match &mut self.on_its_way {
            Some(flush) => Some(flush.await),
            None => None,
        }
    }

    /// Answers the acks of a flush that has ended. Returns what they let go of once its changes are stored,
    /// `None` when they are to be stored again, or why the subscription is not ours any more.
    pub(super) fn take_in(
        &mut self,
        now: Timestamp,
        flushed: Flushed,
    ) -> Result<Option<Freed>, EndCause> {
        self.on_its_way = None;
        match flushed {
            Ok(FlushOutcome::Stored) => {
                answer(&mut self.flushing, Ok(()));
                Ok(Some(mem::take(&mut self.flushing_freed)))
            }
            Ok(FlushOutcome::Stale) => Err(EndCause::TakenOver),
            Ok(FlushOutcome::Busy) => {
                self.not_before = now.plus_millis(BUSY_RETRY_MILLIS);
                self.waiting.append(&mut self.flushing);
                Ok(None)
            }
            // Its deletion has not been announced yet.
            Ok(FlushOutcome::Gone) => Err(EndCause::Deleted),
            Err(error) => {
                self.not_before = now.plus_millis(STORE_RETRY_MILLIS);
                answer(&mut self.flushing, Err(&error.into()));
                Ok(None)
            }
        }
    }

    /// No flush comes any more.
    pub(super) fn refuse(&mut self, error: &DeliveryError) {
        answer(&mut self.flushing, Err(error));
        answer(&mut self.waiting, Err(error));
    }
}

fn answer(awaiting: &mut Vec<Awaiting>, result: Result<(), &DeliveryError>) {
    awaiting.drain(..).for_each(|it| it.answer(result));
}
