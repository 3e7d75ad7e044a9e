//! Requests of a stream that are to be confirmed: those whose judgement is awaited, and confirmations that wait for the
//! client to take those before them.

use std::{collections::VecDeque, future::pending, mem};

use futures_util::{
    StreamExt as _,
    future::{BoxFuture, FutureExt as _},
    stream::FuturesUnordered,
};
use tokio::sync::mpsc;

use super::{
    ack_failures::{Confirms, confirmations},
    streaming_pull::Event,
};
use crate::{
    limits::STREAM_UNCONFIRMED_MAX,
    proto::google::pubsub::v1::{StreamingPullRequest, StreamingPullResponse},
    service::{ConsumeError, Judged, Judging, OpenStream},
};

/// Has what a request says of deliveries done; what of it is to be confirmed. `unconfirmed` ids of the stream are to be
/// already.
pub(super) async fn taken(
    stream: &OpenStream,
    request: &mut StreamingPullRequest,
    unconfirmed: usize,
) -> Result<Vec<(Confirms, Judging)>, ConsumeError> {
    let ids = mem::take(&mut request.modify_deadline_ack_ids);
    let seconds = &request.modify_deadline_seconds;
    let deadlines = stream
        .modify_ack_deadlines(ids, seconds, unconfirmed)
        .await?;
    let unconfirmed = unconfirmed + deadlines.as_ref().map_or(0, Judging::count);
    let acks = mem::take(&mut request.ack_ids);
    let acks = stream.acknowledge(acks, unconfirmed).await?;
    let deadlines = deadlines.map(|judging| (Confirms::Deadlines, judging));
    let acks = acks.map(|judging| (Confirms::Acks, judging));
    Ok(deadlines.into_iter().chain(acks).collect())
}

/// See the module.
#[derive(Default)]
pub(super) struct Unconfirmed {
    judging: FuturesUnordered<BoxFuture<'static, (usize, Confirms, Judged)>>,
    /// With the ids whose last confirmation each of them is.
    untaken: VecDeque<(usize, StreamingPullResponse)>,
    /// Of both.
    ids: usize,
}

impl Unconfirmed {
    /// How many ids there are.
    pub(super) const fn ids(&self) -> usize {
        self.ids
    }

    pub(super) fn is_empty(&self) -> bool {
        self.judging.is_empty() && self.untaken.is_empty()
    }

    /// Whether the client has left so many confirmations that no more may be made.
    pub(super) fn is_untaken(&self) -> bool {
        !self.untaken.is_empty() && self.ids > STREAM_UNCONFIRMED_MAX
    }

    pub(super) fn extend(&mut self, judging: Vec<(Confirms, Judging)>) {
        for (confirms, judging) in judging {
            let ids = judging.count();
            self.ids += ids;
            let judged = judging.ended().map(move |judged| (ids, confirms, judged));
            self.judging.push(judged.boxed());
        }
    }

    /// Waits until a request was judged, or one more confirmation is on its way. Safe to cancel.
    pub(super) async fn sent(&mut self, events: &mpsc::Sender<Event>) {
        let is_untaken = !self.untaken.is_empty();
        tokio::select! {
            biased;
            Some((ids, confirms, judged)) = self.judging.next() => {
                let responses = confirmations(confirms, judged);
                let last = responses.len().saturating_sub(1);
                let ids = |at| if at == last { ids } else { 0 };
                self.untaken.extend(responses.into_iter().enumerate().map(|(at, it)| (ids(at), it)));
            }
            permit = events.reserve(), if is_untaken => {
                if let Some((ids, response)) = self.untaken.pop_front() {
                    self.ids -= ids;
                    // A stream that is gone needs no confirmation.
                    if let Ok(permit) = permit {
                        permit.send(Event::Confirmation(Box::new(response)));
                    }
                }
            }
            else => pending().await,
        }
    }
}
