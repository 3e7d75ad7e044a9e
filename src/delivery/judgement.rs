//! What a request with ids of deliveries is answered, once that is durable.

use std::mem;

use tokio::sync::oneshot;

use super::{
    command::Reply,
    error::{DeliveryError, EndCause},
};
use crate::engine::output::Verdict;

/// What each id of a request found, in their order. None where delivery is at least once, which accepts all.
pub(super) type Verdicts = Vec<Verdict>;

/// The answer of a request that was taken in.
#[derive(Debug)]
pub struct Judgement(pub(super) oneshot::Receiver<Result<Verdicts, DeliveryError>>);

impl Judgement {
    /// Waits until what was done is durable. What each id found, in the order of the ids; nothing where delivery is at
    /// least once, which accepts all.
    pub async fn pronounced(self) -> Result<Vec<Verdict>, DeliveryError> {
        self.0.await.unwrap_or(Err(EndCause::Stopping.into()))
    }
}

/// Somebody who is answered when a flush is durable.
#[derive(Debug)]
pub(super) enum Awaiting {
    /// With what the ids of a request found.
    Judged(Reply<Verdicts>, Verdicts),
    /// That it is done.
    Done(Reply<()>),
}

impl Awaiting {
    /// Answers. A caller that does not wait any more needs no answer.
    pub(super) fn answer(self, result: Result<(), &DeliveryError>) {
        match self {
            Self::Judged(reply, mut verdicts) => {
                let result = result.map(|()| mem::take(&mut verdicts));
                drop(reply.send(result.map_err(Clone::clone)));
            }
            Self::Done(reply) => drop(reply.send(result.map_err(Clone::clone))),
        }
    }
}
