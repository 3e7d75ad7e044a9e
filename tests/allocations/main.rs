//! Allocations per message in three fixed scenarios, held to what `baseline.txt` says.
//!
//! The server runs in a process of its own: this binary started once more, with a counting allocator and on one
//! thread. So every allocation of the server is counted, on whichever thread it is made (SQLite's workers
//! included, not what SQLite's own C code takes from malloc), and none of the client's. A count per thread would miss
//! work that moves to another thread and call that an improvement.
//!
//! A reallocation counts as an allocation. Connections, caches and tasks are warm before the first count, and the
//! median of some rounds is what is compared, as the timing of packets and flushes moves the counts by a little.
//! The baseline holds for the `gate` profile: another optimisation level may remove other allocations.
//!
//! `cargo test --profile gate --test allocations [SCENARIO]`; with `UPDATE_BASELINE=1` the counts become the baseline.
//!
//! `tests/bench/compare.sh`, which counts instructions, starts a server itself and has this binary play a scenario on
//! it: `play SCENARIO ADDRESS ROUNDS` prints how many messages these rounds had.

mod baseline;
mod client;
mod scenarios;
mod server;

use std::{alloc::System, env, io::Write as _, process::ExitCode};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use self::{baseline::Baseline, scenarios::SCENARIOS};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    // Behind it, cargo passes on what was written behind `--`, which is meant for test harnesses.
    let first = env::args().nth(1).unwrap_or_default();
    if first == server::ARGUMENT {
        server::run(env::args_os().nth(2));
        return ExitCode::SUCCESS;
    }
    if first == "play" {
        return play(&env::args().skip(2).collect::<Vec<_>>());
    }
    let filter = if first.starts_with('-') { "" } else { &first };
    match check(filter) {
        0 => ExitCode::SUCCESS,
        failed => {
            say(&format!("allocations: {failed} failed"));
            ExitCode::FAILURE
        }
    }
}

/// Plays a scenario on a server that runs already.
fn play(arguments: &[String]) -> ExitCode {
    let [name, address, rounds] = arguments else {
        say("usage: play SCENARIO ADDRESS ROUNDS");
        return ExitCode::FAILURE;
    };
    let scenario = SCENARIOS.iter().find(|it| it.name == name);
    let (Some(scenario), Ok(rounds)) = (scenario, rounds.parse()) else {
        say(&format!(
            "no scenario {name}, or no number of rounds: {rounds}"
        ));
        return ExitCode::FAILURE;
    };
    let messages = scenario.play(address, rounds);
    writeln!(std::io::stdout(), "{messages}").expect("standard output takes text");
    ExitCode::SUCCESS
}

/// Measures the scenarios whose names contain `filter` and returns how many failed.
fn check(filter: &str) -> usize {
    let update = env::var("UPDATE_BASELINE").is_ok_and(|value| value == "1");
    let mut baseline = Baseline::read();
    let mut failed = 0;
    for scenario in SCENARIOS.iter().filter(|it| it.name.contains(filter)) {
        let mut rounds = scenario.measure();
        rounds.sort_by(f64::total_cmp);
        let median = rounds[rounds.len() / 2];
        let spread = format!(
            "{:.2} to {:.2} in {} rounds",
            rounds[0],
            rounds[rounds.len() - 1],
            rounds.len()
        );
        say(&format!(
            "allocations per message: {} {median:.2} ({spread})",
            scenario.name
        ));
        if update {
            baseline.set(scenario.name, median);
        } else if let Err(why) = baseline.compare(scenario.name, median) {
            failed += 1;
            say(&why);
        }
    }
    if update {
        baseline.write();
    }
    failed
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes text");
}
