//! Bounds what the requests of the whole server hold at once, and what those of one connection do of that.
//!
//! Counted is what has arrived, not what is claimed, so that a request that never ends costs others no more than what
//! it sent. A connection takes from the server's bytes in steps, and the first ones count for itself only: usual requests
//! cost the others nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::{
    places::{Place, Places},
    small::SmallAnswers,
    turns::{Turn, Turns},
};
use crate::limits::{HEADER_BYTES_MAX, REQUEST_BYTES_STEP, REQUEST_BYTES_UNCOUNTED, UNPACKERS};

/// The bytes that are left. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Steps.
    permits: Arc<Semaphore>,
    bytes_max: usize,
    of_connection_max: usize,
    /// Permits to unpack a large message.
    unpackers: Arc<Semaphore>,
    places: Places,
    turns: Turns,
}

impl Budget {
    /// A budget of so many bytes for all, and for one connection.
    pub fn new(bytes_max: usize, of_connection_max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(bytes_max / REQUEST_BYTES_STEP)),
            bytes_max,
            of_connection_max,
            unpackers: Arc::new(Semaphore::new(UNPACKERS)),
            places: Places::of_server(),
            turns: Turns::of_server(),
        }
    }

    /// The account of a new connection.
    pub fn connection(&self) -> Share {
        Share(Arc::new(Connection {
            budget: self.clone(),
            places: self.places.of_another_connection(),
            turns: self.turns.of_another_connection(),
            small_answers: SmallAnswers::default(),
            held: Mutex::default(),
            head: AtomicUsize::new(0),
        }))
    }
}

/// What the requests of one connection hold. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Share(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    budget: Budget,
    places: Places,
    turns: Turns,
    small_answers: SmallAnswers,
    held: Mutex<Sum>,
    /// Bytes that count as those of a head of HTTP/1.1.
    head: AtomicUsize,
}

#[derive(Debug, Default)]
struct Sum {
    bytes: usize,
    permits: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// The account of a request that begins, and holds so many bytes for as long as it lasts.
    ///
    /// # Errors
    /// UNAVAILABLE, which clients repeat, when the server or the connection holds too much.
    pub fn request(&self, bytes: usize) -> Result<Held, Status> {
        self.end_head();
        self.change(0, bytes)?;
        Ok(Held(Arc::new(Request {
            share: self.clone(),
            fixed: bytes,
            body: AtomicUsize::new(0),
        })))
    }

    /// Counts bytes that were read from a connection of HTTP/1.1, which holds a head until all of it is there. Where a
    /// body is read, it counts as a head up to the size of one, until its request ends.
    ///
    /// # Errors
    /// As of [`Share::request`].
    pub fn read(&self, bytes: usize) -> Result<(), Status> {
        let head = &self.0.head;
        let before = head.load(Ordering::Relaxed);
        let after = HEADER_BYTES_MAX.min(before + bytes);
        if after > before {
            self.change(before, after)?;
            head.store(after, Ordering::Relaxed);
        }
        Ok(())
    }

    /// No head is being read: a request has begun, or ended.
    fn end_head(&self) {
        if self.0.head.load(Ordering::Relaxed) > 0 {
            // What becomes less is never refused.
            self.change(self.0.head.swap(0, Ordering::Relaxed), 0).ok();
        }
    }

    /// Counts `after` bytes where there were `before`.
    fn change(&self, before: usize, after: usize) -> Result<(), Status> {
        let Connection { budget, held, .. } = &*self.0;
        let mut held = held.lock();
        let bytes = held.bytes.saturating_sub(before).saturating_add(after);
        let needed = bytes
            .saturating_sub(REQUEST_BYTES_UNCOUNTED)
            .div_ceil(REQUEST_BYTES_STEP);
        let has = held.permits.as_ref();
        let has = has.map_or(0, OwnedSemaphorePermit::num_permits);
        if after > before && bytes > budget.of_connection_max {
            return Err(Status::unavailable(format!(
                "The requests of this connection hold as many bytes as they may ({}); try again.",
                budget.of_connection_max
            )));
        }
        if needed > has {
            let missing = u32::try_from(needed - has).unwrap_or(u32::MAX);
            let more = Arc::clone(&budget.permits)
                .try_acquire_many_owned(missing)
                .map_err(|_| {
                    Status::unavailable(format!(
                        "The server holds as many bytes of requests as it may ({}); try again.",
                        budget.bytes_max
                    ))
                })?;
            match held.permits.as_mut() {
                Some(permits) => permits.merge(more),
                None => held.permits = Some(more),
            }
        } else if let Some(permits) = &mut held.permits
            && has > needed + 1
        {
            // One step stays, so that requests that come and go do not ask for it each time.
            drop(permits.split(has - needed - 1));
        }
        held.bytes = bytes;
        if bytes == 0 {
            held.permits = None;
        }
        Ok(())
    }
}

/// What one request holds. Given back with the last clone.
#[derive(Clone, Debug)]
pub struct Held(Arc<Request>);

#[derive(Debug)]
struct Request {
    share: Share,
    /// For as long as it lasts.
    fixed: usize,
    /// Of its body.
    body: AtomicUsize,
}

impl Held {
    /// Counts bytes of the body that have arrived, or that it takes besides when it is decoded.
    ///
    /// # Errors
    /// As of [`Share::request`].
    pub fn add(&self, bytes: usize) -> Result<(), Status> {
        self.0.share.change(0, bytes)?;
        self.0.body.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Counts `bytes` in place of the body: it has become another text of that size.
    ///
    /// # Errors
    /// As of [`Share::request`], if it has become larger.
    pub fn replace(&self, bytes: usize) -> Result<(), Status> {
        let Request { share, body, .. } = &*self.0;
        share.change(body.load(Ordering::Relaxed), bytes)?;
        body.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until a large message may be unpacked.
    ///
    /// # Errors
    /// None, as nobody closes what is waited for.
    pub async fn unpacker(&self) -> Result<OwnedSemaphorePermit, Status> {
        let unpackers = &self.0.share.0.budget.unpackers;
        let permit = Arc::clone(unpackers).acquire_owned().await;
        permit.map_err(|error| Status::internal(error.to_string()))
    }

    /// Waits for a place for the page of a list.
    ///
    /// # Errors
    /// As of [`Places::take`].
    pub async fn place(&self) -> Result<Place, Status> {
        self.0.share.0.places.take().await
    }

    /// Waits until so many bytes of JSON may be read or written beside other requests.
    ///
    /// # Errors
    /// As of [`Turns::take`].
    pub async fn turn(&self, bytes: usize) -> Result<Turn, Status> {
        self.0.share.0.turns.take(bytes).await
    }

    /// The small answers of its connection.
    pub fn small_answers(&self) -> &SmallAnswers {
        &self.0.share.0.small_answers
    }

    /// Gives the body back: it is not needed any more, or the next message of a stream begins.
    pub fn clear(&self) {
        let Request { share, body, .. } = &*self.0;
        // What becomes less is never refused.
        share.change(body.swap(0, Ordering::Relaxed), 0).ok();
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let all = self.fixed + self.body.load(Ordering::Relaxed);
        self.share.change(all, 0).ok();
        self.share.end_head();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: usize = REQUEST_BYTES_STEP;
    const UNCOUNTED: usize = REQUEST_BYTES_UNCOUNTED;

    #[test]
    fn many_small_pieces_count_as_what_they_are_together() {
        let budget = Budget::new(2 * STEP, usize::MAX);
        let held = budget.connection().request(0).expect("there is room");
        for _ in 0..2 * STEP + UNCOUNTED {
            held.add(1).expect("there is room");
        }
        assert!(held.add(1).is_err());
        let other = budget.connection();
        assert!(other.request(UNCOUNTED + 1).is_err());
        held.clear();
        other.request(UNCOUNTED + 2 * STEP).expect("given back");
        let all = held.add(UNCOUNTED + 2 * STEP);
        all.expect("the other request has ended");
    }

    #[test]
    fn what_became_smaller_gives_the_rest_back() {
        let budget = Budget::new(10 * STEP, usize::MAX);
        let held = budget.connection().request(UNCOUNTED).expect("room");
        held.add(10 * STEP).expect("there is room");
        held.replace(4 * STEP - 1).expect("it is smaller");
        let other = budget.connection().request(UNCOUNTED).expect("room");
        other.add(5 * STEP).expect("given back, but for one step");
        held.add(STEP + 1).expect("its last steps have room for it");
        assert!(held.replace(5 * STEP + 1).is_err());
        held.replace(0).expect("it is smaller");
        other.add(4 * STEP).expect("given back, but for one step");
        drop(held);
        other.add(STEP).expect("given back");
    }

    #[test]
    fn a_connection_has_a_share_and_many_small_requests_of_it_count() {
        let budget = Budget::new(100 * STEP, 10 * STEP);
        let connection = budget.connection();
        let held: Vec<_> = (0..10)
            .map(|_| connection.request(STEP).expect("within its share"))
            .collect();
        let refused = connection.request(1).expect_err("more than its share");
        assert!(refused.message().contains("this connection"), "{refused:?}");
        assert!(held[0].add(1).is_err());
        budget.connection().request(STEP).expect("another's share");
        drop(held);
        connection.request(10 * STEP).expect("given back");
    }

    #[test]
    fn a_head_counts_until_its_request_begins_and_a_body_no_more_than_one() {
        let budget = Budget::new(HEADER_BYTES_MAX, usize::MAX);
        let connection = budget.connection();
        let other = budget.connection();
        connection.read(UNCOUNTED + STEP).expect("there is room");
        other.read(HEADER_BYTES_MAX).expect("there is room");
        assert!(budget.connection().read(HEADER_BYTES_MAX).is_err());
        other.request(0).expect("nothing more");
        let request = connection.request(0).expect("nothing more");
        let all = budget.connection().request(UNCOUNTED + HEADER_BYTES_MAX);
        drop(all.expect("both heads have become requests"));
        for _ in 0..10 {
            connection.read(HEADER_BYTES_MAX).expect("as a head");
        }
        drop(request);
        let all = budget.connection().request(UNCOUNTED + HEADER_BYTES_MAX);
        let _all = all.expect("given back");
        let refused = connection.read(UNCOUNTED + 1).expect_err("no room");
        assert_eq!(refused.code(), tonic::Code::Unavailable);
    }
}
