//! Whether this node may speak for what it owns: for a time that others wait before they take it over.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{
    clock::{Clock, Reading, Timestamp},
    limits::CLOCK_GAP_MILLIS_MAX,
};

/// A node's right to speak, as its heartbeat renews it. Cheap to clone.
///
/// It runs out by itself, by a clock that counts while the machine sleeps: a process that was stopped for a while
/// finds it gone before anybody tells it. Where the machine's clocks have counted differently since it was renewed,
/// the machine may have been paused for longer than that clock knows, and nobody can tell before the next heartbeat:
/// until then it does not hold.
#[derive(Clone, Debug)]
pub struct NodeLease(Option<Arc<Shared>>);

/// Renews a [`NodeLease`]. Dropped, it lets the lease run out.
#[derive(Debug)]
pub struct NodeLeaseRenewer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// Milliseconds since the epoch, as the clock counts them.
    until: AtomicU64,
    /// What the clocks said when it was asked for.
    asked: Mutex<Reading>,
    /// The clocks disagree.
    doubt: Notify,
    /// Told of each renewal; why it has ended, once it has.
    told: watch::Sender<Option<String>>,
}

impl NodeLease {
    /// Never runs out: nobody else could take anything over.
    pub const fn always() -> Self {
        Self(None)
    }

    /// A lease that does not hold until it is renewed.
    pub fn renewable(clock: Clock) -> (Self, NodeLeaseRenewer) {
        let shared = Arc::new(Shared {
            asked: Mutex::new(clock.reading()),
            doubt: Notify::new(),
            clock,
            until: AtomicU64::new(0),
            told: watch::Sender::new(None),
        });
        (Self(Some(Arc::clone(&shared))), NodeLeaseRenewer(shared))
    }

    /// Whether it holds now. Reads the clock.
    pub fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| shared.holds())
    }

    /// Returns when it does not hold.
    pub async fn lost(&self) {
        let Some(shared) = &self.0 else {
            return std::future::pending().await;
        };
        while shared.holds() {
            shared.clock.sleep_until(shared.until()).await;
        }
    }

    /// Returns when it holds; never, once it has ended.
    pub async fn held(&self) {
        let Some(shared) = &self.0 else {
            return;
        };
        let mut told = shared.told.subscribe();
        while !shared.holds() {
            if told.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns why it can never hold again, once that is so.
    pub async fn ended(&self) -> String {
        let Some(shared) = &self.0 else {
            return std::future::pending().await;
        };
        let mut told = shared.told.subscribe();
        match told.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }
}

impl NodeLeaseRenewer {
    /// It holds until then, unless it has ended. `asked`: what the clocks said before the store was asked for it.
    pub fn renew(&self, until: Timestamp, asked: Reading) {
        if self.0.told.borrow().is_none() {
            *self.0.asked.lock() = asked;
            self.0.until.store(until.as_millis(), Ordering::Release);
            self.0.told.send_modify(|_| {});
        }
    }

    /// Returns when somebody finds that the clocks disagree: the store has to be asked again.
    pub async fn doubted(&self) {
        self.0.doubt.notified().await;
    }

    /// It does not hold any more, until it is renewed.
    pub fn lapse(&self) {
        self.0.until.store(0, Ordering::Release);
    }

    /// It will never hold again.
    pub fn end(&self, reason: String) {
        self.0.told.send_replace(Some(reason));
        self.lapse();
    }
}

impl Shared {
    fn until(&self) -> Timestamp {
        Timestamp::from_millis(self.until.load(Ordering::Acquire))
    }

    fn holds(&self) -> bool {
        if self.clock.now() >= self.until() {
            return false;
        }
        let gap = self.clock.reading().gap_since(&self.asked.lock());
        let sure = gap <= Duration::from_millis(CLOCK_GAP_MILLIS_MAX);
        if !sure {
            self.doubt.notify_one();
        }
        sure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000);

    #[tokio::test]
    async fn a_lease_holds_until_the_moment_that_it_was_renewed_to() {
        let (clock, hand) = Clock::manual(START);
        let (node_lease, renewer) = NodeLease::renewable(clock.clone());
        assert!(!node_lease.holds());
        renewer.renew(START.plus_millis(500), clock.reading());
        node_lease.held().await;
        hand.advance(Duration::from_millis(499));
        assert!(node_lease.holds());
        hand.advance(Duration::from_millis(1));
        node_lease.lost().await;
        assert!(!node_lease.holds());
    }

    #[tokio::test]
    async fn a_lease_that_has_ended_is_never_held_again_and_says_why() {
        let (clock, _hand) = Clock::manual(START);
        let (node_lease, renewer) = NodeLease::renewable(clock.clone());
        renewer.renew(START.plus_millis(500), clock.reading());
        renewer.end("another one has the name".to_owned());
        renewer.renew(START.plus_millis(500), clock.reading());
        assert!(!node_lease.holds());
        assert_eq!(node_lease.ended().await, "another one has the name");
    }

    #[tokio::test]
    async fn while_the_clocks_disagree_it_does_not_hold_until_it_was_asked_for_again() {
        let (clock, hand) = Clock::manual(START);
        let (node_lease, renewer) = NodeLease::renewable(clock.clone());
        let until = START.plus_millis(5_000);
        renewer.renew(until, clock.reading());
        hand.jump_wall(Duration::from_millis(CLOCK_GAP_MILLIS_MAX));
        assert!(node_lease.holds());
        hand.jump_wall(Duration::from_millis(1));
        assert!(!node_lease.holds());
        renewer.doubted().await;
        let asked = clock.reading();
        // A pause between the question and its answer is one as well.
        hand.jump_wall(Duration::from_millis(600));
        renewer.renew(until, asked);
        assert!(!node_lease.holds());
        renewer.renew(until, clock.reading());
        assert!(node_lease.holds());
    }

    #[tokio::test]
    async fn the_lease_of_a_single_node_always_holds() {
        assert!(NodeLease::always().holds());
        NodeLease::always().held().await;
    }
}
