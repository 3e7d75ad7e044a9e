//! Bounds the bytes of messages that all subscriptions of the node hold on their way from the log to clients: being
//! read, loaded, in the queue of a stream, and encoded, until the connection has sent them.
//!
//! A read waits until there is room for what it may find, first come first served. A subscription of which no consumer
//! could be given anything does not wait: it may have one small read at a time beside the budget. While it needs these, a
//! stream of it is given a frame only if its connection has sent all others. So clients that take nothing hold up neither
//! other subscriptions nor other clients of their own, and hold one small read each beside the budget.

#[cfg(test)]
use std::sync::atomic::AtomicUsize;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
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
    /// A consumer could be given something.
    has_ready: AtomicBool,
    /// A small read is on its way.
    reads_small: AtomicBool,
    /// One of the two is not so any more.
    changed: Notify,
}

impl Share {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self(Arc::new(Inner {
            budget: Arc::clone(budget),
            has_ready: AtomicBool::new(false),
            reads_small: AtomicBool::new(false),
            changed: Notify::new(),
        }))
    }

    /// Nothing yet.
    pub(super) fn nothing(&self) -> Held {
        Held {
            share: self.clone(),
            bytes: 0,
            permit: None,
            is_small_read: false,
        }
    }

    /// Says whether a consumer could be given something.
    pub(super) fn set_ready(&self, has_ready: bool) {
        let before = self.0.has_ready.swap(has_ready, Ordering::AcqRel);
        if before && !has_ready {
            self.0.changed.notify_waiters();
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
            held = self.small_read() => (bytes_max.min(READ_AHEAD_BYTES_MIN), held),
        }
    }

    async fn small_read(&self) -> Held {
        let Inner {
            has_ready,
            reads_small,
            changed,
            ..
        } = &*self.0;
        loop {
            let changed = changed.notified();
            if !has_ready.load(Ordering::Acquire) && !reads_small.swap(true, Ordering::AcqRel) {
                let mut held = self.nothing();
                held.is_small_read = true;
                return held;
            }
            changed.await;
        }
    }

    fn end_small_read(&self) {
        self.0.reads_small.store(false, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

/// Bytes that a subscription holds, given back when this is dropped.
pub(super) struct Held {
    share: Share,
    bytes: usize,
    /// For all of them, or some: a small read takes none.
    permit: Option<OwnedSemaphorePermit>,
    /// It is what a small read finds.
    is_small_read: bool,
}

impl Held {
    /// Whether it is what a read finds for which the budget had no room.
    pub(super) fn is_small_read(&self) -> bool {
        self.is_small_read
    }

    /// Counts what the read of this account has found, and gives back what it could have found besides.
    pub(super) fn found(&mut self, bytes: usize) {
        #[cfg(test)]
        self.share.0.budget.count(bytes.saturating_sub(self.bytes));
        self.bytes = self.bytes.max(bytes);
        self.shrink_to(bytes);
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
            is_small_read: false,
        }
    }

    /// Gives all but so many bytes back.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        self.bytes -= surplus;
        #[cfg(test)]
        self.share
            .0
            .budget
            .held
            .fetch_sub(surplus, Ordering::AcqRel);
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
        // A read that waits finds that there is room rather than that it may be small.
        self.permit = None;
        self.shrink_to(0);
        if self.is_small_read {
            self.share.end_small_read();
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.bytes).finish()
    }
}
