//! The consumer's end of a stream or pull. Whatever is dropped on its way goes back to the subscription.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::{mpsc, oneshot};

use super::{error::EndCause, mailbox::Mailbox};
use crate::{
    engine::{input::ConsumerId, output::Delivery},
    limits::STREAM_FRAMES_MAX,
};

/// Deliveries on their way. Dropped before they were taken, they become available again at once.
#[derive(Debug)]
pub struct Parcel {
    deliveries: Vec<Delivery>,
    mailbox: Arc<Mailbox>,
}

impl Parcel {
    pub(super) fn new(deliveries: Vec<Delivery>, mailbox: &Arc<Mailbox>) -> Self {
        Self {
            deliveries,
            mailbox: Arc::clone(mailbox),
        }
    }

    /// The deliveries, which now count as sent; none any more on a node that has stood still for so long that others
    /// may have replaced it.
    fn take(mut self) -> Result<Vec<Delivery>, EndCause> {
        if self.mailbox.node_lease.holds() {
            Ok(std::mem::take(&mut self.deliveries))
        } else {
            Err(EndCause::lease_lost())
        }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if !self.deliveries.is_empty() {
            let leases = self.deliveries.iter().map(|delivery| delivery.lease);
            self.mailbox.put(|notices| notices.returned.extend(leases));
        }
    }
}

/// Tells the driver when its consumer is dropped.
#[derive(Debug)]
struct Presence {
    id: ConsumerId,
    mailbox: Arc<Mailbox>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.mailbox.put(|notices| notices.closed.push(self.id));
    }
}

/// A pull that waits for its answer; dropped, it gives up.
#[derive(Debug)]
pub struct PendingPull {
    answer: oneshot::Receiver<Result<Option<Parcel>, EndCause>>,
    _presence: Presence,
}

impl PendingPull {
    pub(super) fn new(
        id: ConsumerId,
        mailbox: &Arc<Mailbox>,
        answer: oneshot::Receiver<Result<Option<Parcel>, EndCause>>,
    ) -> Self {
        let mailbox = Arc::clone(mailbox);
        Self {
            answer,
            _presence: Presence { id, mailbox },
        }
    }

    /// Waits for messages; none when nothing was available and the pull was not to wait. Safe to cancel.
    pub async fn answer(&mut self) -> Result<Vec<Delivery>, EndCause> {
        match (&mut self.answer).await {
            Ok(Ok(parcel)) => parcel.map_or(Ok(Vec::new()), Parcel::take),
            Ok(Err(cause)) => Err(cause),
            Err(_) => Err(EndCause::Stopping),
        }
    }
}

/// An open stream's messages; dropped, the stream is over and its leases run on.
#[derive(Debug)]
pub struct MessageStream {
    frames: mpsc::Receiver<Parcel>,
    shared: Arc<StreamShared>,
    presence: Presence,
}

/// What both ends of a stream see.
#[derive(Debug, Default)]
pub(super) struct StreamShared {
    /// Frames that wait in the channel. Only the driver adds, only the consumer takes away.
    queued: AtomicU32,
    ended: OnceLock<EndCause>,
}

/// The driver's end of a stream; dropped, the consumer sees the end when it has taken what waits.
#[derive(Debug)]
pub(super) struct StreamSender {
    frames: mpsc::Sender<Parcel>,
    shared: Arc<StreamShared>,
}

/// Both ends of a new stream.
pub(super) fn stream(id: ConsumerId, mailbox: &Arc<Mailbox>) -> (StreamSender, MessageStream) {
    let (sender, receiver) = mpsc::channel(STREAM_FRAMES_MAX);
    let shared = Arc::new(StreamShared::default());
    let driver = StreamSender {
        frames: sender,
        shared: Arc::clone(&shared),
    };
    let consumer = MessageStream {
        frames: receiver,
        shared,
        presence: Presence {
            id,
            mailbox: Arc::clone(mailbox),
        },
    };
    (driver, consumer)
}

impl StreamSender {
    /// Queues a frame. The engine knows the room, so a frame that does not fit has a consumer that is gone,
    /// and goes back.
    pub(super) fn send(&self, parcel: Parcel) {
        self.shared.queued.fetch_add(1, Ordering::AcqRel);
        drop(self.frames.try_send(parcel));
    }

    /// Frames that may be sent. When this is 0, the consumer rings the mailbox as soon as it changes.
    pub(super) fn room(&self) -> u32 {
        (STREAM_FRAMES_MAX as u32).saturating_sub(self.shared.queued.load(Ordering::Acquire))
    }

    pub(super) fn end(self, cause: EndCause) {
        // Only the driver ends a stream, and this takes its end away.
        drop(self.shared.ended.set(cause));
    }
}

impl MessageStream {
    /// The consumer's number.
    pub fn id(&self) -> ConsumerId {
        self.presence.id
    }

    /// The next frame, or why the stream is over.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Delivery>, EndCause>> {
        self.frames.poll_recv(cx).map(|parcel| match parcel {
            Some(parcel) => {
                let before = self.shared.queued.fetch_sub(1, Ordering::AcqRel);
                if before >= STREAM_FRAMES_MAX as u32 {
                    let Presence { id, mailbox } = &self.presence;
                    mailbox.put(|notices| notices.roomy.push(*id));
                }
                parcel.take()
            }
            None => Err(self
                .shared
                .ended
                .get()
                .cloned()
                .unwrap_or(EndCause::Stopping)),
        })
    }
}
