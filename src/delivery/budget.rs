//! Bounds the bytes of messages that all subscriptions of the node hold on their way from the log to clients: being
//! read, ready, in the queue of a stream, and encoded for it. What a connection has taken, one frame of each stream,
//! and the answer to a pull do not count any more.
//!
//! A read waits until there is room for what it may find, first come first served. A subscription of which nothing is
//! ready to be handed out does not wait: it may have one small read at a time beside the budget, so that clients that
//! take nothing hold up neither other subscriptions nor other clients of their own. What waits in frames does not count
//! for this rule, and is bounded all the same: a stream whose frames are full wants nothing, so nothing is read for it.

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

    #[cfg(test)]
    fn count(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.held_max.fetch_max(held, Ordering::AcqRel);
    }
}

/// What one subscription holds. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Share(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: Arc<Budget>,
    /// Bytes that are ready to be handed out, and those of a small read.
    ready: AtomicUsize,
    /// Nothing is ready any more.
    emptied: Notify,
}

impl Share {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self(Arc::new(Inner {
            budget: Arc::clone(budget),
            ready: AtomicUsize::new(0),
            emptied: Notify::new(),
        }))
    }

    /// Nothing yet.
    pub(super) fn nothing(&self) -> Held {
        Held {
            share: self.clone(),
            bytes: 0,
            permit: None,
            is_ready: true,
        }
    }

    /// Waits for room for a read of about `bytes_max` bytes. Returns how much to read, which may be less, and the
    /// account of what it finds. Safe to cancel.
    pub(super) async fn room(&self, bytes_max: usize) -> (usize, Held) {
        let budget = &self.0.budget;
        let permits = bytes_max.div_ceil(PERMIT_BYTES).min(budget.permits_max);
        let acquired = Arc::clone(&budget.permits)
            .acquire_many_owned(u32::try_from(permits).unwrap_or(u32::MAX));
        tokio::select! {
            biased;
            // The semaphore is never closed.
            Ok(permit) = acquired => {
                let mut held = self.nothing();
                held.permit = Some(permit);
                (bytes_max.min(permits * PERMIT_BYTES), held)
            }
            held = self.small_read(bytes_max.min(READ_AHEAD_BYTES_MIN)) => (held.bytes, held),
        }
    }

    /// Returns when nothing is ready. So many bytes count from then on, so that the next one waits for what this one
    /// finds.
    async fn small_read(&self, bytes: usize) -> Held {
        let Inner { ready, emptied, .. } = &*self.0;
        loop {
            let emptied = emptied.notified();
            let taken = ready.compare_exchange(0, bytes, Ordering::AcqRel, Ordering::Acquire);
            if taken.is_ok() {
                #[cfg(test)]
                self.0.budget.count(bytes);
                let mut held = self.nothing();
                held.bytes = bytes;
                return held;
            }
            emptied.await;
        }
    }

    fn add_ready(&self, bytes: usize) {
        self.0.ready.fetch_add(bytes, Ordering::AcqRel);
    }

    fn remove_ready(&self, bytes: usize) {
        if bytes > 0 && self.0.ready.fetch_sub(bytes, Ordering::AcqRel) == bytes {
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
    /// Whether they count as ready. What was handed out does not.
    is_ready: bool,
}

impl Held {
    /// Counts what the read of this account has found, and gives back what it could have found besides.
    pub(super) fn found(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        #[cfg(test)]
        self.share.0.budget.count(more);
        self.share.add_ready(more);
        self.bytes += more;
        self.shrink_to(bytes);
    }

    /// Takes over what another one of the subscription counts, of which nothing was handed out either.
    pub(super) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
        match (&mut self.permit, other.permit.take()) {
            (Some(permit), Some(other)) => permit.merge(other),
            (permit @ None, other) => *permit = other,
            (Some(_), None) => {}
        }
    }

    /// Divides so many bytes off, or what there is, which are handed out: they are not ready any more.
    pub(super) fn hand_out(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let permit = self.permit.as_mut().and_then(|permit| {
            let permits = bytes.div_ceil(PERMIT_BYTES).min(permit.num_permits());
            permit.split(permits)
        });
        self.share.remove_ready(bytes);
        Self {
            share: self.share.clone(),
            bytes,
            permit,
            is_ready: false,
        }
    }

    /// Gives all but so many bytes back.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if let Some(surplus) = self.bytes.checked_sub(bytes) {
            self.bytes = bytes;
            self.trim();
            self.give_back(surplus);
        }
    }

    fn give_back(&self, bytes: usize) {
        #[cfg(test)]
        self.share.0.budget.held.fetch_sub(bytes, Ordering::AcqRel);
        if self.is_ready {
            self.share.remove_ready(bytes);
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
        // A read that waits while something is ready finds that there is room rather than that nothing is ready.
        drop(self.permit.take());
        self.give_back(self.bytes);
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.bytes).finish()
    }
}
