//! Bounds the bytes of large requests that the whole server holds at once, however many connections they come from.
//!
//! Counted is what has arrived, not what is claimed, so that a request that never ends costs others no more than what
//! it sent. Small requests are not counted: their number is bounded.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Bytes of one permit.
const PERMIT_BYTES: usize = 1024;

/// The bytes that are left. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    permits: Arc<Semaphore>,
    bytes_max: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(bytes_max / PERMIT_BYTES)),
            bytes_max,
        }
    }

    /// The account of a request that begins.
    pub fn request(&self) -> Held {
        Held {
            budget: self.clone(),
            permit: Arc::default(),
        }
    }
}

/// What one request holds. Given back with the last clone.
#[derive(Clone, Debug)]
pub struct Held {
    budget: Budget,
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Held {
    /// Counts bytes that have arrived.
    ///
    /// # Errors
    /// UNAVAILABLE, which clients repeat, when the server holds too much.
    pub fn add(&self, bytes: usize) -> Result<(), Status> {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.budget.permits)
            .try_acquire_many_owned(permits)
            .map_err(|_| {
                Status::unavailable(format!(
                    "The server holds as many bytes of requests as it may ({}); try again.",
                    self.budget.bytes_max
                ))
            })?;
        let mut held = self.permit.lock();
        match held.as_mut() {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }

    /// Gives everything back: the next message of a stream begins.
    pub fn clear(&self) {
        self.permit.lock().take();
    }
}
