//! The open streams and waiting pulls of one subscription, as its driver has them.

use std::{collections::BTreeMap, mem, sync::Arc};

use tokio::sync::oneshot;

use super::{
    budget::Held,
    command::Reply,
    consumer::{self, MessageStream, Parcel, PendingPull, StreamSender},
    error::{DeliveryError, EndCause},
    mailbox::Mailbox,
};
use crate::{
    clock::Timestamp,
    engine::{
        input::ConsumerId,
        output::{Delivery, Ended},
    },
    limits::CONSUMERS_MAX,
};

/// See the module.
pub(super) struct Consumers {
    mailbox: Arc<Mailbox>,
    streams: BTreeMap<ConsumerId, StreamSender>,
    pulls: BTreeMap<ConsumerId, oneshot::Sender<Result<Option<Parcel>, EndCause>>>,
}

impl Consumers {
    pub(super) fn new(mailbox: Mailbox) -> Self {
        Self {
            mailbox: Arc::new(mailbox),
            streams: BTreeMap::new(),
            pulls: BTreeMap::new(),
        }
    }

    /// What the consumers say.
    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.pulls.is_empty()
    }

    /// Refuses one that would be too many.
    pub(super) fn admit<T>(&self, reply: Reply<T>) -> Option<Reply<T>> {
        if self.streams.len() + self.pulls.len() < CONSUMERS_MAX {
            return Some(reply);
        }
        drop(reply.send(Err(DeliveryError::TooManyConsumers(CONSUMERS_MAX))));
        None
    }

    /// A new stream's other end, for its client.
    pub(super) fn open_stream(&mut self, consumer: ConsumerId) -> MessageStream {
        let (sender, stream) = consumer::stream(consumer, &self.mailbox);
        self.streams.insert(consumer, sender);
        stream
    }

    /// A new pull's other end, for its client.
    pub(super) fn open_pull(&mut self, consumer: ConsumerId) -> PendingPull {
        let (answer, receiver) = oneshot::channel();
        self.pulls.insert(consumer, answer);
        PendingPull::new(consumer, &self.mailbox, receiver)
    }

    /// The client is gone.
    pub(super) fn close(&mut self, consumer: ConsumerId) {
        self.streams.remove(&consumer);
        self.pulls.remove(&consumer);
    }

    /// Frames that a stream has room for, by [`StreamSender::room`]; `None` for a pull, and for what has left.
    pub(super) fn room(&self, consumer: ConsumerId, is_short: bool) -> Option<u32> {
        let stream = self.streams.get(&consumer)?;
        Some(stream.room(is_short))
    }

    /// All streams.
    pub(super) fn streams(&self) -> Vec<ConsumerId> {
        self.streams.keys().copied().collect()
    }

    /// Hands a frame over. What does not reach its client goes back to the subscription.
    pub(super) fn deliver(
        &mut self,
        consumer: ConsumerId,
        deliveries: Vec<Delivery>,
        deadline: Timestamp,
        held: Held,
    ) {
        let parcel = Parcel::new(deliveries, deadline, held, &self.mailbox);
        if let Some(stream) = self.streams.get(&consumer) {
            stream.send(parcel);
        } else if let Some(pull) = self.pulls.remove(&consumer) {
            // A pull that is gone drops the parcel, which thereby goes back.
            drop(pull.send(Ok(Some(parcel))));
        }
    }

    /// Takes what is no longer leased out of the frames that wait in streams. Returns the streams that have more room.
    pub(super) fn take_out(&self, ended: &[Ended]) -> Vec<ConsumerId> {
        let mut roomier = Vec::new();
        for ended in ended.chunk_by(|a, b| a.consumer == b.consumer) {
            if let Some(consumer) = ended[0].consumer
                && let Some(stream) = self.streams.get(&consumer)
                && stream.take_out(ended)
            {
                roomier.push(consumer);
            }
        }
        roomier
    }

    /// Tells a pull that there is nothing for it. `damaged`: nothing but what cannot be read.
    pub(super) fn answer_empty(&mut self, consumer: ConsumerId, damaged: bool) {
        if let Some(pull) = self.pulls.remove(&consumer) {
            let answer = if damaged {
                let text = "the remaining messages cannot be read; see the server's log";
                Err(EndCause::Damaged(text.to_owned()))
            } else {
                Ok(None)
            };
            drop(pull.send(answer));
        }
    }

    /// Tells all of them why delivery ends, and forgets them. Returns which there were.
    pub(super) fn end(&mut self, cause: &EndCause) -> Vec<ConsumerId> {
        if *cause != EndCause::Stopping {
            self.mailbox.end(cause.clone());
        }
        let mut ended = Vec::new();
        for (consumer, stream) in mem::take(&mut self.streams) {
            ended.push(consumer);
            stream.end(cause.clone());
        }
        for (consumer, pull) in mem::take(&mut self.pulls) {
            ended.push(consumer);
            let answer = match cause {
                // A client that is told "nothing yet" asks again, and finds the next server.
                EndCause::Stopping => Ok(None),
                cause => Err(cause.clone()),
            };
            drop(pull.send(answer));
        }
        ended
    }
}
