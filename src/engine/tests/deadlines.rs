//! What waits for a time is gone when that which it is for has ended.

use super::backlog::Backlog;
use crate::engine::input::{Input, LeaseId};

/// Entries that are not of leases: what is to be stored, and what is loaded for a while.
const OTHERS: usize = 2;

fn timers(backlog: &Backlog) -> usize {
    backlog.host.engine.timers.len()
}

#[test]
fn a_nack_loop_leaves_no_timers_behind() {
    let mut backlog = Backlog::new(100, 10);
    for _ in 0..200 {
        let leases = backlog.pull(100);
        backlog.host.now = backlog.host.now.plus_millis(10);
        // An entry with two ranges: the rest has ended.
        let (back, still) = leases.split_at(98);
        backlog.nack(back.iter().copied());
        assert!(timers(&backlog) <= 2 * 2 + OTHERS, "{}", timers(&backlog));
        backlog.nack(still.iter().copied());
    }
    assert!(timers(&backlog) <= OTHERS);
}

#[test]
fn nothing_is_due_when_all_leases_have_ended() {
    let mut backlog = Backlog::new(2_000, 10);
    let mut leases: Vec<LeaseId> = Vec::new();
    for messages in [1, 999, 300, 700] {
        leases.extend(backlog.pull(messages));
        backlog.host.now = backlog.host.now.plus_millis(7);
    }
    // Some are extended and some shortened, which moves their deadlines.
    let change = |(n, lease): (u64, &LeaseId)| (*lease, 1 + n % 3 * 600_000);
    let changes = (0..).zip(&leases[500..1_500]).map(change).collect();
    backlog.handle(Input::ModifyDeadline(changes));
    // In an order in which neighbours end one after the other.
    for start in 0..7 {
        let some = leases.iter().skip(start).step_by(7).copied().collect();
        backlog.handle(Input::Ack(some));
    }
    backlog.host.flush_all();
    assert_eq!(backlog.host.engine.outstanding(), 0);
    assert_eq!(backlog.host.engine.next_deadline(), None);
}

#[test]
fn a_deadline_that_was_moved_is_kept_and_no_other_wakes_anybody() {
    let mut backlog = Backlog::new(1, 10);
    let lease = backlog.pull_one();
    backlog.host.flush_all();
    backlog.handle(Input::ModifyDeadline(vec![(lease, 5_000)]));
    backlog.host.flush_all();
    let start = backlog.host.now;
    assert_eq!(
        backlog.host.engine.next_deadline(),
        Some(start.plus_millis(5_000))
    );
    backlog.handle(Input::ModifyDeadline(vec![(lease, 60_000)]));
    backlog.host.flush_all();
    // The earlier time comes once, and then the deadline.
    backlog.host.now = start.plus_millis(5_000);
    backlog.handle(Input::Tick);
    assert_eq!(
        backlog.host.engine.next_deadline(),
        Some(start.plus_millis(60_000))
    );
    assert_eq!(backlog.host.engine.outstanding(), 1);
}
