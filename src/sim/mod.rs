//! The whole delivery below the wire, by seed: real services and drivers over stores in memory that fail, take long and
//! lie, on nodes that die and are cut off, with consumers that are slow, vanish and repeat themselves; in virtual time,
//! on one thread. What consumers are told is judged ([`judge`]).
//!
//! A seed gives the same run each time. `PACKETBOAT_SIM_SEED=7 cargo test --lib sim::` runs only that one, and prints
//! what happened if something is wrong with it.

mod answer;
mod client;
mod dice;
mod errand;
mod gate;
mod judge;
mod log;
mod node;
mod plan;
pub(crate) mod planted;
mod ports;
mod publisher;
mod tests;
mod trace;
mod world;

use std::{cell::Cell, panic, sync::Once};

use tokio::runtime::Builder;

use self::world::World;

thread_local! {
    /// Panics on this thread; those of tasks end nothing but the task.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// What became of a run.
struct Outcome {
    /// Of all that happened.
    hash: u64,
    violation: Option<String>,
    /// What happened last.
    trace: Vec<String>,
}

fn count_panics() {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            tell(info);
        }));
    });
    PANICS.set(0);
}

/// The run of a seed.
fn run(seed: u64) -> Outcome {
    count_panics();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let world = World::new(seed);
        world.run().await;
        if PANICS.get() > 0 {
            world.judge.accuse("a task panicked".to_owned());
        }
        Outcome {
            hash: world.trace.hash(),
            violation: world.judge.violation(),
            trace: world.trace.last(),
        }
    })
}
