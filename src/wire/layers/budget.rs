//! Bounds the bytes of large requests that the whole server holds at once, however many connections they come from.
//!
//! Counted is what has arrived, not what is claimed, so that a request that never ends costs others no more than what
//! it sent. Small requests are not counted: their number is bounded.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::limits::{REQUEST_BYTES_UNCOUNTED, UNPACKERS};

/// Bytes of one permit.
const PERMIT_BYTES: usize = 1024;

/// The bytes that are left. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    permits: Arc<Semaphore>,
    bytes_max: usize,
    /// Permits to unpack a large message.
    unpackers: Arc<Semaphore>,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(bytes_max / PERMIT_BYTES)),
            bytes_max,
            unpackers: Arc::new(Semaphore::new(UNPACKERS)),
        }
    }

    /// The account of a request that begins.
    pub fn request(&self) -> Held {
        Held {
            budget: self.clone(),
            account: Arc::default(),
        }
    }
}

/// What one request holds. Given back with the last clone.
#[derive(Clone, Debug)]
pub struct Held {
    budget: Budget,
    account: Arc<Mutex<Account>>,
}

#[derive(Debug, Default)]
struct Account {
    bytes: usize,
    /// For all of them together, however small the pieces were in which they came.
    permits: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Counts bytes that have arrived.
    ///
    /// # Errors
    /// UNAVAILABLE, which clients repeat, when the server holds too much.
    pub fn add(&self, bytes: usize) -> Result<(), Status> {
        let mut account = self.account.lock();
        let bytes = account.bytes.saturating_add(bytes);
        self.count(&mut account, bytes)
    }

    /// Counts `bytes` in place of what was counted before: it has become another text of that size.
    ///
    /// # Errors
    /// As of [`Held::add`], if it has become larger.
    pub fn replace(&self, bytes: usize) -> Result<(), Status> {
        self.count(&mut self.account.lock(), bytes)
    }

    /// Counts what a message of so many bytes takes beside them when it is decoded. A small one that becomes large is
    /// counted as a whole.
    ///
    /// # Errors
    /// As of [`Held::add`].
    pub fn add_decoded(&self, message_bytes: usize, decoded_bytes: usize) -> Result<(), Status> {
        let bytes = message_bytes.saturating_add(decoded_bytes);
        if bytes <= REQUEST_BYTES_UNCOUNTED {
            return Ok(());
        }
        let is_counted = message_bytes > REQUEST_BYTES_UNCOUNTED;
        self.add(if is_counted { decoded_bytes } else { bytes })
    }

    /// Waits until a large message may be unpacked.
    ///
    /// # Errors
    /// None, as nobody closes what is waited for.
    pub async fn unpacker(&self) -> Result<OwnedSemaphorePermit, Status> {
        let permit = Arc::clone(&self.budget.unpackers).acquire_owned().await;
        permit.map_err(|error| Status::internal(error.to_string()))
    }

    fn count(&self, account: &mut Account, bytes: usize) -> Result<(), Status> {
        let needed = bytes.div_ceil(PERMIT_BYTES);
        let held = account.permits.as_ref();
        let held = held.map_or(0, OwnedSemaphorePermit::num_permits);
        if let Some(permits) = &mut account.permits
            && held > needed
        {
            drop(permits.split(held - needed));
        } else if needed > held {
            let missing = needed - held;
            let missing = u32::try_from(missing).unwrap_or(u32::MAX);
            let more = Arc::clone(&self.budget.permits)
                .try_acquire_many_owned(missing)
                .map_err(|_| {
                    Status::unavailable(format!(
                        "The server holds as many bytes of requests as it may ({}); try again.",
                        self.budget.bytes_max
                    ))
                })?;
            match account.permits.as_mut() {
                Some(permits) => permits.merge(more),
                None => account.permits = Some(more),
            }
        }
        account.bytes = bytes;
        Ok(())
    }

    /// Gives everything back: the next message of a stream begins.
    pub fn clear(&self) {
        *self.account.lock() = Account::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_pieces_count_as_what_they_are_together() {
        let budget = Budget::new(10 * PERMIT_BYTES);
        let held = budget.request();
        for _ in 0..10 * PERMIT_BYTES {
            held.add(1).expect("there is room");
        }
        assert!(held.add(1).is_err());
        assert!(budget.request().add(1).is_err());
        held.clear();
        budget.request().add(10 * PERMIT_BYTES).expect("given back");
    }

    #[test]
    fn a_small_message_that_becomes_a_large_one_counts_as_a_whole() {
        let large = REQUEST_BYTES_UNCOUNTED;
        let budget = Budget::new(2 * large);
        let held = budget.request();
        held.add_decoded(large / 2, large / 2).expect("small");
        assert!(budget.request().add(2 * large).is_ok());
        held.add_decoded(large, large).expect("there is room");
        assert!(budget.request().add(1).is_err());
        held.clear();
        // Of a large one the message itself was counted before.
        held.add_decoded(2 * large, large).expect("there is room");
        assert!(budget.request().add(large).is_ok());
    }

    #[test]
    fn what_became_smaller_gives_the_rest_back() {
        let budget = Budget::new(10 * PERMIT_BYTES);
        let held = budget.request();
        held.add(10 * PERMIT_BYTES).expect("there is room");
        held.replace(4 * PERMIT_BYTES - 1).expect("it is smaller");
        let other = budget.request();
        other.add(6 * PERMIT_BYTES).expect("given back");
        held.add(1).expect("its last permit has room for it");
        assert!(held.replace(5 * PERMIT_BYTES).is_err());
        held.replace(0).expect("it is smaller");
        other.add(4 * PERMIT_BYTES).expect("given back");
    }
}
