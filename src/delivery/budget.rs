//! Bounds the bytes of messages that all subscriptions of the node hold on their way from the log to clients: being
//! read, ready, in the queue of a stream, and encoded for it. What a connection has taken, one frame of each stream, and
//! the answer to a pull do not count any more.
//!
//! A read waits until there is room for what it may find, first come first served. A subscription that holds nothing
//! does not wait: it may always have one small read, so that those whose clients take nothing hold up no others.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::limits::READ_AHEAD_BYTES_MIN;

/// Bytes of one permit.
const PERMIT_BYTES: usize = 1024;

/// What is left for all. See the module.
#[derive(Debug)]
pub(super) struct Budget {
    permits: Arc<Semaphore>,
    permits_max: usize,
    /// What all hold, counted or not, and the most that it ever was.
    #[cfg(test)]
    pub(super) held: AtomicUsize,
    #[cfg(test)]
    pub(super) held_max: AtomicUsize,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        let permits_max = bytes_max / PERMIT_BYTES;
        Self {
            permits: Arc::new(Semaphore::new(permits_max)),
            permits_max,
            #[cfg(test)]
            held: AtomicUsize::new(0),
            #[cfg(test)]
            held_max: AtomicUsize::new(0),
        }
    }
}

/// What one subscription holds. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Share(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: Arc<Budget>,
    /// Bytes that it holds.
    held: AtomicUsize,
    /// It holds nothing any more.
    emptied: Notify,
}

impl Share {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self(Arc::new(Inner {
            budget: Arc::clone(budget),
            held: AtomicUsize::new(0),
            emptied: Notify::new(),
        }))
    }

    /// Nothing yet.
    pub(super) fn nothing(&self) -> Held {
        Held {
            share: self.clone(),
            bytes: 0,
            permit: None,
        }
    }

    /// Waits for room for a read of about `bytes_max` bytes. Returns how much to read, which may be less, and the account
    /// of what it finds. Safe to cancel.
    pub(super) async fn room(&self, bytes_max: usize) -> (usize, Held) {
        let budget = &self.0.budget;
        let permits = bytes_max.div_ceil(PERMIT_BYTES).min(budget.permits_max);
        let acquired = Arc::clone(&budget.permits)
            .acquire_many_owned(u32::try_from(permits).unwrap_or(u32::MAX));
        let mut held = self.nothing();
        let bytes_max = tokio::select! {
            biased;
            // The semaphore is never closed.
            Ok(permit) = acquired => {
                held.permit = Some(permit);
                bytes_max.min(permits * PERMIT_BYTES)
            }
            () = self.emptied() => bytes_max.min(READ_AHEAD_BYTES_MIN),
        };
        (bytes_max, held)
    }

    /// Returns when the subscription holds nothing.
    async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.0.held.load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn add(&self, bytes: usize) {
        self.0.held.fetch_add(bytes, Ordering::AcqRel);
        #[cfg(test)]
        {
            let budget = &self.0.budget;
            let held = budget.held.fetch_add(bytes, Ordering::AcqRel) + bytes;
            budget.held_max.fetch_max(held, Ordering::AcqRel);
        }
    }

    fn remove(&self, bytes: usize) {
        #[cfg(test)]
        self.0.budget.held.fetch_sub(bytes, Ordering::AcqRel);
        if bytes > 0 && self.0.held.fetch_sub(bytes, Ordering::AcqRel) == bytes {
            self.0.emptied.notify_waiters();
        }
    }
}

/// Bytes that a subscription holds, given back when this is dropped.
pub(super) struct Held {
    share: Share,
    bytes: usize,
    /// For all of them, or some: a small read takes none.
    permit: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Counts what a read has found, and gives back what it could have found besides.
    pub(super) fn found(&mut self, bytes: usize) {
        self.share.add(bytes);
        self.bytes += bytes;
        self.trim();
    }

    /// Takes over what another one of the subscription counts.
    pub(super) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        match (&mut self.permit, other.permit.take()) {
            (Some(permit), Some(other)) => permit.merge(other),
            (permit @ None, other) => *permit = other,
            (Some(_), None) => {}
        }
    }

    /// Divides so many bytes off, or what there is.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let permit = self.permit.as_mut().and_then(|permit| {
            let permits = bytes.div_ceil(PERMIT_BYTES).min(permit.num_permits());
            permit.split(permits)
        });
        Self {
            share: self.share.clone(),
            bytes,
            permit,
        }
    }

    /// Gives all but so many bytes back.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if let Some(surplus) = self.bytes.checked_sub(bytes) {
            self.share.remove(surplus);
            self.bytes = bytes;
            self.trim();
        }
    }

    fn trim(&mut self) {
        let needed = self.bytes.div_ceil(PERMIT_BYTES);
        if let Some(permit) = &mut self.permit
            && permit.num_permits() > needed
        {
            drop(permit.split(permit.num_permits() - needed));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Those who wait because the subscription holds something find that there is room, or that it holds nothing.
        drop(self.permit.take());
        self.share.remove(self.bytes);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.bytes).finish()
    }
}
