//! The consumer's end of a stream or pull. What is dropped on its way goes back to the subscription, and what is no
//! longer leased is not sent.

#[cfg(test)]
use std::sync::atomic::Ordering;
use std::{
    collections::{BTreeSet, VecDeque},
    mem,
    ops::RangeInclusive,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

#[cfg(test)]
use super::budget::{Budget, Share};
use super::{
    budget::Held,
    error::EndCause,
    mailbox::{ExactlyOnce, Mailbox},
};
use crate::{
    clock::Timestamp,
    engine::{
        input::ConsumerId,
        output::{Delivery, Ended},
    },
    limits::STREAM_FRAMES_MAX,
};

/// Deliveries on their way. Dropped before they were taken, they become available again at once.
#[derive(Debug)]
pub struct Parcel {
    deliveries: Vec<Delivery>,
    /// When their leases end. Nobody can move that before they are sent.
    deadline: Timestamp,
    /// From the first to the last of their offsets, of all partitions.
    offsets: RangeInclusive<u64>,
    held: Held,
    mailbox: Arc<Mailbox>,
}

/// What of messages counts until their connection has sent them: dropped, it is given back.
#[derive(Debug)]
pub struct Unsent {
    /// Given back before the stream has room.
    _held: Held,
    _in_stream: Option<InStream>,
}

#[cfg(test)]
impl Unsent {
    /// Counts so many bytes, and how to see whether they still count.
    pub(crate) fn of_bytes(bytes: usize) -> (Self, impl Fn() -> usize) {
        let budget = Arc::new(Budget::new(0));
        let mut held = Share::new(&budget).nothing();
        held.found(bytes);
        let unsent = Self {
            _held: held,
            _in_stream: None,
        };
        (unsent, move || budget.held.load(Ordering::Acquire))
    }
}

impl Parcel {
    pub(super) fn new(
        deliveries: Vec<Delivery>,
        deadline: Timestamp,
        held: Held,
        mailbox: &Arc<Mailbox>,
    ) -> Self {
        let offsets = deliveries.iter().map(|delivery| delivery.lease.offset);
        let (first, last) = offsets.fold((u64::MAX, 0), |(first, last), offset| {
            (first.min(offset), last.max(offset))
        });
        Self {
            deliveries,
            deadline,
            offsets: first..=last,
            held,
            mailbox: Arc::clone(mailbox),
        }
    }

    /// Takes out what is no longer leased. Usually nothing: what ends was sent before, and lies elsewhere in the log.
    fn take_out(&mut self, ended: &[Ended]) {
        let near = ended.iter().filter(|it| self.offsets.contains(&it.offset));
        let ended: BTreeSet<_> = near
            .map(|it| (it.partition, it.offset, it.number))
            .collect();
        if !ended.is_empty() {
            self.deliveries.retain(|delivery| {
                let lease = delivery.lease;
                !ended.contains(&(lease.partition, lease.offset, lease.number))
            });
            let bytes = self.deliveries.iter().map(|it| it.body.len()).sum();
            self.held.shrink_to(bytes);
        }
    }

    /// Whether its leases have run out.
    fn is_late(&self) -> bool {
        self.mailbox.is_past(self.deadline)
    }

    /// The deliveries, which now count as sent; none whose leases have run out meanwhile. None any more on a node that
    /// has stood still for so long that others may have replaced it.
    fn take(mut self) -> Result<(Vec<Delivery>, Held), EndCause> {
        if let Some(cause) = self.mailbox.over() {
            return Err(cause);
        }
        let mut deliveries = mem::take(&mut self.deliveries);
        if self.is_late() {
            deliveries.clear();
        }
        let held = self.held.split(usize::MAX);
        Ok((deliveries, held))
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
    unsent: Option<Unsent>,
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
            unsent: None,
            _presence: Presence { id, mailbox },
        }
    }

    /// Waits for messages; none when nothing was available and the pull was not to wait. Safe to cancel.
    pub async fn answer(&mut self) -> Result<Vec<Delivery>, EndCause> {
        match (&mut self.answer).await {
            Ok(Ok(None)) => Ok(Vec::new()),
            Ok(Ok(Some(parcel))) => {
                let (deliveries, held) = parcel.take()?;
                self.unsent = Some(Unsent {
                    _held: held,
                    _in_stream: None,
                });
                Ok(deliveries)
            }
            Ok(Err(cause)) => Err(cause),
            Err(_) => Err(EndCause::Stopping),
        }
    }

    /// What of the answer counts until it is sent. What is not taken is given back with the pull.
    pub fn take_unsent(&mut self) -> Option<Unsent> {
        self.unsent.take()
    }
}

/// An open stream's messages; dropped, the stream is over and its leases run on.
#[derive(Debug)]
pub struct MessageStream {
    frames: Arc<Mutex<Frames>>,
    /// Of the last frame.
    unsent: Option<Unsent>,
    presence: Presence,
}

/// What both ends of a stream see.
#[derive(Debug, Default)]
struct Frames {
    /// At most [`STREAM_FRAMES_MAX`], none of them empty.
    queued: VecDeque<Parcel>,
    /// Frames that were taken and that the connection has not sent.
    unsent: usize,
    /// The driver was told that there is no room until the connection has sent all of these.
    waits_for_connection: bool,
    waker: Option<Waker>,
    /// Nothing comes any more.
    ended: Option<EndCause>,
}

/// The driver's end of a stream; dropped, the stream is over.
#[derive(Debug)]
pub(super) struct StreamSender {
    frames: Arc<Mutex<Frames>>,
}

/// Both ends of a new stream.
pub(super) fn stream(id: ConsumerId, mailbox: &Arc<Mailbox>) -> (StreamSender, MessageStream) {
    let frames = Arc::new(Mutex::new(Frames::default()));
    let driver = StreamSender {
        frames: Arc::clone(&frames),
    };
    let consumer = MessageStream {
        frames,
        unsent: None,
        presence: Presence {
            id,
            mailbox: Arc::clone(mailbox),
        },
    };
    (driver, consumer)
}

/// A frame of a stream that its connection has not sent.
#[derive(Debug)]
struct InStream {
    frames: Arc<Mutex<Frames>>,
    consumer: ConsumerId,
    mailbox: Arc<Mailbox>,
}

impl Drop for InStream {
    fn drop(&mut self) {
        let mut frames = self.frames.lock();
        frames.unsent -= 1;
        let has_room = frames.unsent == 0 && mem::take(&mut frames.waits_for_connection);
        drop(frames);
        if has_room {
            self.mailbox
                .put(|notices| notices.roomy.push(self.consumer));
        }
    }
}

impl Frames {
    /// Ends the stream, unless it has ended. Returns what was queued, which goes back when it is dropped.
    fn end(&mut self, cause: EndCause) -> (VecDeque<Parcel>, Option<Waker>) {
        self.ended.get_or_insert(cause);
        (mem::take(&mut self.queued), self.waker.take())
    }
}

impl StreamSender {
    /// Queues a frame. The engine knows the room, so a frame that does not fit has a consumer that is gone,
    /// and goes back.
    pub(super) fn send(&self, parcel: Parcel) {
        let mut frames = self.frames.lock();
        if frames.ended.is_some() || frames.queued.len() >= STREAM_FRAMES_MAX {
            // Going back, it locks the mailbox.
            drop(frames);
            drop(parcel);
            return;
        }
        frames.queued.push_back(parcel);
        let waker = frames.waker.take();
        drop(frames);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what is no longer leased out of the frames that wait; whether there is more room now.
    pub(super) fn take_out(&self, ended: &[Ended]) -> bool {
        let mut frames = self.frames.lock();
        let before = frames.queued.len();
        frames.queued.retain_mut(|parcel| {
            parcel.take_out(ended);
            !parcel.deliveries.is_empty()
        });
        frames.queued.len() < before
    }

    /// Frames that may be sent; `is_short`: one, and only if the connection has sent all others. When this is 0, the
    /// consumer rings the mailbox as soon as it changes.
    pub(super) fn room(&self, is_short: bool) -> u32 {
        let mut frames = self.frames.lock();
        let room = STREAM_FRAMES_MAX.saturating_sub(frames.queued.len());
        if !is_short {
            return room as u32;
        }
        let has_unsent = frames.unsent > 0 || !frames.queued.is_empty();
        frames.waits_for_connection = has_unsent;
        u32::from(!has_unsent)
    }

    /// Ends the stream. What waits is not sent any more.
    pub(super) fn end(self, cause: EndCause) {
        self.finish(cause);
    }

    fn finish(&self, cause: EndCause) {
        let (unsent, waker) = self.frames.lock().end(cause);
        drop(unsent);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        self.finish(EndCause::Stopping);
    }
}

impl MessageStream {
    /// The consumer's number.
    pub fn id(&self) -> ConsumerId {
        self.presence.id
    }

    /// Whether the subscription's delivery is exactly once, now and later.
    pub fn exactly_once(&self) -> ExactlyOnce {
        self.presence.mailbox.exactly_once()
    }

    /// The next frame, or why the stream is over.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Delivery>, EndCause>> {
        self.unsent = None;
        loop {
            let mut frames = self.frames.lock();
            if let Some(cause) = &frames.ended {
                return Poll::Ready(Err(cause.clone()));
            }
            let was_full = frames.queued.len() >= STREAM_FRAMES_MAX;
            let Some(parcel) = frames.queued.pop_front() else {
                frames.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            frames.unsent += 1;
            // What follows may follow on it by its ordering key, and then is not to come first.
            let behind = if parcel.is_late() {
                mem::take(&mut frames.queued)
            } else {
                VecDeque::new()
            };
            drop(frames);
            drop(behind);
            let Presence { id, mailbox } = &self.presence;
            let in_stream = InStream {
                frames: Arc::clone(&self.frames),
                consumer: *id,
                mailbox: Arc::clone(mailbox),
            };
            if was_full {
                mailbox.put(|notices| notices.roomy.push(*id));
            }
            let (deliveries, held) = parcel.take()?;
            if !deliveries.is_empty() {
                self.unsent = Some(Unsent {
                    _held: held,
                    _in_stream: Some(in_stream),
                });
                return Poll::Ready(Ok(deliveries));
            }
        }
    }

    /// What of the last frame counts until it is sent. What is not taken is given back when the next one is asked for.
    pub fn take_unsent(&mut self) -> Option<Unsent> {
        self.unsent.take()
    }
}

impl Drop for MessageStream {
    fn drop(&mut self) {
        // What waits goes back before the driver hears that nobody takes it.
        let (unsent, _) = self.frames.lock().end(EndCause::Stopping);
        drop(unsent);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        clock::{Clock, ManualClock},
        engine::input::{Issue, LeaseId},
        store::{NodeLease, node_lease::NodeLeaseRenewer},
    };

    const START: Timestamp = Timestamp::from_millis(1_000_000);
    const ME: ConsumerId = ConsumerId(1);
    const MESSAGE_BYTES: usize = 1_000;

    struct World {
        hand: ManualClock,
        node_lease: NodeLeaseRenewer,
        mailbox: Arc<Mailbox>,
        sender: StreamSender,
        stream: MessageStream,
    }

    fn world() -> World {
        let (clock, hand) = Clock::manual(START);
        let (lease, node_lease) = NodeLease::renewable(clock.clone());
        node_lease.renew(START.plus_millis(60_000), clock.reading());
        let mailbox = Arc::new(Mailbox::new(lease, clock));
        let (sender, stream) = stream(ME, &mailbox);
        World {
            hand,
            node_lease,
            mailbox,
            sender,
            stream,
        }
    }

    fn parcel(offsets: &[u64], mailbox: &Arc<Mailbox>) -> Parcel {
        let delivery = |offset: &u64| Delivery {
            lease: LeaseId {
                generation: 1,
                partition: 0,
                offset: *offset,
                number: 1,
                issue: Issue::default(),
            },
            publish_time: START,
            attempt: 0,
            body: Bytes::from_static(&[0; MESSAGE_BYTES]),
        };
        let deliveries = offsets.iter().map(delivery).collect();
        let held = Share::new(&Arc::new(Budget::new(0))).nothing();
        Parcel::new(deliveries, START.plus_millis(10_000), held, mailbox)
    }

    fn ended(offset: u64, number: u32) -> Ended {
        Ended {
            consumer: Some(ME),
            partition: 0,
            offset,
            number,
            bytes: 0,
        }
    }

    /// Offsets of the next frame, if there is one.
    fn next(stream: &mut MessageStream) -> Option<Result<Vec<u64>, EndCause>> {
        let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).now_or_never()?;
        Some(frame.map(|frame| frame.iter().map(|it| it.lease.offset).collect()))
    }

    #[test]
    fn what_is_no_longer_leased_is_not_sent_and_makes_room() {
        let mut world = world();
        world.sender.send(parcel(&[1, 2, 3], &world.mailbox));
        world.sender.send(parcel(&[7, 5], &world.mailbox));
        assert_eq!(world.sender.room(false), 0);
        // The second delivery of 3 is another one.
        assert!(
            !world
                .sender
                .take_out(&[ended(2, 1), ended(3, 2), ended(9, 1)])
        );
        assert!(world.sender.take_out(&[ended(5, 1), ended(7, 1)]));
        assert_eq!(world.sender.room(false), 1);
        assert_eq!(next(&mut world.stream), Some(Ok(vec![1, 3])));
        assert_eq!(next(&mut world.stream), None);
        assert!(
            world.mailbox.take().returned.is_empty(),
            "it was not leased"
        );
    }

    #[test]
    fn bytes_are_held_until_they_are_taken_out_or_the_next_frame_is_asked_for() {
        let mut world = world();
        let budget = Arc::new(Budget::new(1024 * 1024));
        let bytes = 3 * MESSAGE_BYTES;
        let room = Share::new(&budget).room(bytes).now_or_never();
        let (_, mut held) = room.expect("nobody else is there");
        held.found(bytes);
        let mut frame = parcel(&[1, 2, 3], &world.mailbox);
        frame.held = held;
        let held = || budget.held.load(Ordering::Acquire);
        world.sender.send(frame);
        assert_eq!(held(), bytes);
        world.sender.take_out(&[ended(2, 1)]);
        assert_eq!(held(), 2 * MESSAGE_BYTES);
        assert_eq!(next(&mut world.stream), Some(Ok(vec![1, 3])));
        assert_eq!(held(), 2 * MESSAGE_BYTES);
        assert_eq!(next(&mut world.stream), None);
        assert_eq!(held(), 0);
    }

    #[test]
    fn a_stream_has_room_for_one_frame_in_want_of_room_and_only_when_its_connection_has_sent_all() {
        let mut world = world();
        assert_eq!(world.sender.room(true), 1);
        world.sender.send(parcel(&[1], &world.mailbox));
        assert_eq!((world.sender.room(false), world.sender.room(true)), (1, 0));
        assert_eq!(next(&mut world.stream), Some(Ok(vec![1])));
        let unsent = world.stream.take_unsent();
        assert_eq!(next(&mut world.stream), None);
        assert_eq!(world.sender.room(true), 0);
        assert!(world.mailbox.take().roomy.is_empty());
        drop(unsent);
        assert_eq!(world.mailbox.take().roomy, [ME]);
        assert_eq!(world.sender.room(true), 1);
    }

    #[test]
    fn what_waits_past_its_deadline_is_not_sent() {
        let mut world = world();
        world.sender.send(parcel(&[1], &world.mailbox));
        world.hand.advance(Duration::from_secs(10));
        assert_eq!(next(&mut world.stream), None);
        assert_eq!(world.sender.room(false), 2);
        assert!(
            world.mailbox.take().returned.is_empty(),
            "its lease is over"
        );
    }

    #[test]
    fn what_waits_behind_what_is_past_its_deadline_goes_back() {
        let mut world = world();
        world.sender.send(parcel(&[1], &world.mailbox));
        let mut behind = parcel(&[2], &world.mailbox);
        behind.deadline = START.plus_millis(60_000);
        world.sender.send(behind);
        world.hand.advance(Duration::from_secs(10));
        assert_eq!(next(&mut world.stream), None);
        let returned = world.mailbox.take().returned;
        assert_eq!(returned.iter().map(|it| it.offset).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_waits_while_the_nodes_lease_lapses_is_not_sent_when_it_is_held_again() {
        let World {
            node_lease,
            mailbox,
            sender,
            mut stream,
            ..
        } = world();
        let (answer, receiver) = oneshot::channel();
        let mut pull = PendingPull::new(ConsumerId(2), &mailbox, receiver);
        sender.send(parcel(&[1], &mailbox));
        answer
            .send(Ok(Some(parcel(&[2], &mailbox))))
            .expect("waits");
        node_lease.lapse();
        mailbox.end(EndCause::lease_lost());
        sender.end(EndCause::lease_lost());
        let (clock, _hand) = Clock::manual(START);
        node_lease.renew(START.plus_millis(60_000), clock.reading());
        assert_eq!(next(&mut stream), Some(Err(EndCause::lease_lost())));
        let answer = pull.answer().now_or_never().expect("answered");
        assert_eq!(answer, Err(EndCause::lease_lost()));
    }

    #[test]
    fn what_a_stream_leaves_behind_goes_back_before_it_counts_as_closed() {
        let World {
            mailbox,
            sender,
            stream,
            ..
        } = world();
        sender.send(parcel(&[1, 2], &mailbox));
        drop(stream);
        sender.send(parcel(&[3], &mailbox));
        let mail = mailbox.take();
        assert_eq!(mail.returned.len(), 3);
        assert_eq!(mail.closed, [ME]);
    }
}
