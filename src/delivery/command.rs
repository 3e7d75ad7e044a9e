//! What a subscription's driver is asked for.

use std::ops::Range;

use tokio::sync::oneshot;

use super::{
    consumer::{MessageStream, PendingPull},
    error::{DeliveryError, EndCause},
    judgement::Verdicts,
};
use crate::{
    engine::input::{ClientId, ConsumerId, Demand, LeaseId, LoadedMessage},
    limits::LEASES_PER_PASS_MAX,
};

/// Takes the answer. Nobody may wait for it any more.
pub(super) type Reply<T> = oneshot::Sender<Result<T, DeliveryError>>;

/// What a filter leaves out of one partition.
#[derive(Clone, Debug)]
pub(super) struct Skipped {
    pub(super) partition: u32,
    /// Of the subscription's state for which this was found.
    pub(super) generation: u32,
    /// Ascending.
    pub(super) offsets: Vec<Range<u64>>,
    /// The last record that was read to find them, if any was.
    pub(super) last: Option<LoadedMessage>,
}

impl Command {
    /// Whether somebody uses the subscription with it.
    pub(super) fn is_use(&self) -> bool {
        !matches!(
            self,
            Self::Skip { .. } | Self::Wake { .. } | Self::Apply { .. }
        )
    }
}

/// See the module.
#[derive(Debug)]
pub(super) enum Command {
    /// Open a stream.
    Stream {
        consumer: ConsumerId,
        client: Option<ClientId>,
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
        reply: Option<Reply<Verdicts>>,
    },
    /// Move deadlines to now plus so many milliseconds. Where delivery is exactly once, answered when that is durable.
    Modify {
        changes: Vec<(LeaseId, u64)>,
        reply: Reply<Verdicts>,
    },
    /// Say when the present configuration has been applied: where it changed whether delivery is exactly once, when
    /// everything that was delivered before is stored.
    Apply { reply: Reply<()> },
    /// Count what a filter leaves out as done. Answered when that is durable.
    Skip {
        skipped: Vec<Skipped>,
        reply: Reply<()>,
    },
    /// Do what is due without being asked for. Answered at once.
    Wake { reply: Reply<()> },
    /// End: the subscription is deleted or detached in the store, or this node's lease is lost.
    End {
        cause: EndCause,
        reply: oneshot::Sender<()>,
    },
}

/// How many of these commands are carried out before something else has its turn: one at least.
pub(super) fn of_one_pass(commands: &[Command]) -> usize {
    let mut leases = 0;
    let of_pass = commands.iter().take_while(|command| {
        let has_room = leases < LEASES_PER_PASS_MAX;
        leases += command.leases();
        has_room
    });
    of_pass.count()
}

impl Command {
    /// How many leases it is about.
    fn leases(&self) -> usize {
        match self {
            Self::Ack { leases, .. } => leases.len(),
            Self::Modify { changes, .. } => changes.len(),
            Self::Stream { .. }
            | Self::Pull { .. }
            | Self::StreamDeadline { .. }
            | Self::Apply { .. }
            | Self::Skip { .. }
            | Self::Wake { .. }
            | Self::End { .. } => 0,
        }
    }

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
            Self::Apply { reply } | Self::Skip { reply, .. } | Self::Wake { reply } => {
                drop(reply.send(Err(error.clone())));
            }
            Self::End { reply, .. } => drop(reply.send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::input::Issue;

    #[test]
    fn a_pass_takes_commands_until_they_are_about_many_leases() {
        let lease = LeaseId {
            generation: 1,
            partition: 0,
            offset: 1,
            number: 1,
            issue: Issue::default(),
        };
        let acks = |sizes: &[usize]| -> Vec<_> {
            let acks = sizes.iter().map(|size| Command::Ack {
                leases: vec![lease; *size],
                reply: None,
            });
            acks.collect()
        };
        let max = LEASES_PER_PASS_MAX;
        assert_eq!(of_one_pass(&[]), 0);
        assert_eq!(of_one_pass(&acks(&[1; 256])), 256);
        assert_eq!(of_one_pass(&acks(&[2 * max, 1])), 1);
        assert_eq!(of_one_pass(&acks(&[1, max - 1, 1, 1])), 2);
        assert_eq!(of_one_pass(&acks(&[max - 1, max, 1])), 2);
    }
}
