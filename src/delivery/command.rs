//! What a subscription's driver is asked for.

use tokio::sync::oneshot;

use super::{
    consumer::{MessageStream, PendingPull},
    error::{DeliveryError, EndCause},
};
use crate::engine::input::{ConsumerId, Demand, LeaseId};

/// Takes the answer. Nobody may wait for it any more.
pub(super) type Reply<T> = oneshot::Sender<Result<T, DeliveryError>>;

/// See the module.
#[derive(Debug)]
pub(super) enum Command {
    /// Open a stream.
    Stream {
        consumer: ConsumerId,
        demand: Demand,
        reply: Reply<MessageStream>,
    },
    /// Begin a pull.
    Pull {
        consumer: ConsumerId,
        demand: Demand,
        reply: Reply<PendingPull>,
    },
    /// Change the lease of a stream's later deliveries.
    StreamDeadline {
        consumer: ConsumerId,
        ack_deadline_millis: u64,
    },
    /// Acknowledge. Answered when that is durable.
    Ack {
        leases: Vec<LeaseId>,
        reply: Option<Reply<()>>,
    },
    /// Move deadlines to now plus so many milliseconds.
    Modify {
        changes: Vec<(LeaseId, u64)>,
        reply: Reply<()>,
    },
    /// End: the subscription is deleted or detached in the store, or this node's lease is lost.
    End {
        cause: EndCause,
        reply: oneshot::Sender<()>,
    },
}

impl Command {
    /// Answers that it is not carried out.
    pub(super) fn refuse(self, error: &DeliveryError) {
        match self {
            Self::Stream { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Pull { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::StreamDeadline { .. } => {}
            Self::Ack { reply, .. } => {
                if let Some(reply) = reply {
                    drop(reply.send(Err(error.clone())));
                }
            }
            Self::Modify { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::End { reply, .. } => drop(reply.send(())),
        }
    }
}
