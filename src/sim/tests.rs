//! Runs of many seeds.

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use super::{Outcome, planted::Bug, run};

/// The command that repeats a run.
fn command(seed: u64) -> String {
    format!("PACKETBOAT_SIM_SEED={seed} cargo test --lib sim::tests::seeds_hold")
}

fn given_seed() -> Option<u64> {
    env::var("PACKETBOAT_SIM_SEED").ok()?.parse().ok()
}

/// The first seed below `end` that something is wrong with, and what.
fn search(end: u64, run: impl Fn(u64) -> Outcome + Sync) -> Option<(u64, String)> {
    let (next, first) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let violations = parking_lot::Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || seed > first.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Some(violation) = run(seed).violation {
                        first.fetch_min(seed, Ordering::Relaxed);
                        violations.lock().push((seed, violation));
                    }
                }
            });
        }
    });
    violations.into_inner().into_iter().min()
}

#[test]
fn seeds_hold() {
    if let Some(seed) = given_seed() {
        let Outcome {
            violation, trace, ..
        } = run(seed);
        if let Some(violation) = violation {
            panic!("{}\nseed {seed}: {violation}", trace.join("\n"));
        }
        return;
    }
    let is_long = env::var_os("PACKETBOAT_LONG").is_some();
    let seeds = if is_long { 10_000 } else { 200 };
    if let Some((seed, violation)) = search(seeds, run) {
        panic!(
            "seed {seed}: {violation}\nrepeat it with: {}",
            command(seed)
        );
    }
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in 0..5 {
        let (one, other) = (run(seed), run(seed));
        for (one, other) in one.trace.iter().zip(&other.trace) {
            assert_eq!(one, other, "seed {seed}");
        }
        assert_eq!(one.hash, other.hash, "seed {seed}");
    }
}

/// One of the first thousand runs finds the bug. Which one it is changes with each call of a store that the product makes
/// more or less, so none is named.
fn is_found(bug: Bug) {
    let found = search(1_000, |seed| bug.during(|| run(seed)));
    assert!(found.is_some(), "{bug:?}");
}

#[test]
fn a_retry_that_breaks_the_order_of_a_key_is_found() {
    is_found(Bug::OrderBrokenByRetry);
}

#[test]
fn a_key_whose_leases_are_forgotten_at_a_take_over_is_found() {
    is_found(Bug::AffinityLostAtTakeOver);
}

#[test]
fn a_filtered_message_that_holds_the_cursor_is_found() {
    is_found(Bug::FilteredHoldsCursor);
}

#[test]
fn credit_that_is_not_returned_when_a_key_is_released_is_found() {
    is_found(Bug::CreditOfReleasedKey);
}

#[test]
fn the_last_offset_of_a_chunk_that_is_not_stored_is_found() {
    is_found(Bug::ChunkEdge);
}

#[test]
fn a_confirmation_before_its_commit_is_found() {
    is_found(Bug::ConfirmedBeforeCommit);
}

#[test]
fn a_dead_letter_that_is_acknowledged_before_it_was_published_is_found() {
    is_found(Bug::AckedBeforePublished);
}

#[test]
fn an_old_delivery_number_that_is_accepted_is_found() {
    is_found(Bug::OldNumberAccepted);
}
