//! Where a node's calls of its stores go wrong: they fail, take long, are carried out without an answer, or are where
//! the node dies.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{dice::Dice, judge::Judge, plan::Trouble, trace::Trace};
use crate::store::StoreError;

/// The call that stores leases.
pub(super) const FLUSH: &str = "flush";
/// The call that appends messages.
pub(super) const APPEND: &str = "append";

/// See the module. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(super) struct Gate {
    life: u64,
    dice: Dice,
    trace: Trace,
    judge: Judge,
    state: Arc<Mutex<State>>,
    gone: CancellationToken,
}

#[derive(Default)]
struct State {
    trouble: Trouble,
    /// No call comes through.
    is_cut: bool,
    /// The node dies at the last of so many calls that store something.
    dies_in: Option<u64>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Works,
    Fails,
    /// It works, and the caller hears that nobody knows.
    Uncertain,
    DiesBefore,
    DiesAfter,
}

impl Gate {
    /// Through which everything goes, for now.
    pub(super) fn new(life: u64, dice: &Dice, trace: &Trace, judge: &Judge) -> Self {
        Self {
            life,
            dice: dice.clone(),
            trace: trace.clone(),
            judge: judge.clone(),
            state: Arc::default(),
            gone: CancellationToken::new(),
        }
    }

    /// From now on so much goes wrong.
    pub(super) fn set_trouble(&self, trouble: Trouble) {
        self.state.lock().trouble = trouble;
    }

    /// Nothing goes wrong from now on.
    pub(super) fn calm(&self) {
        *self.state.lock() = State::default();
    }

    /// No call comes through from now on, or they do again.
    pub(super) fn set_cut(&self, is_cut: bool) {
        if is_cut {
            self.judge.died(self.life);
        }
        self.state.lock().is_cut = is_cut;
    }

    /// Whether no call comes through.
    pub(super) fn is_cut(&self) -> bool {
        self.state.lock().is_cut
    }

    /// Whether anything goes wrong.
    pub(super) fn is_troubled(&self) -> bool {
        let Trouble {
            failing,
            uncertain,
            slow,
        } = self.state.lock().trouble;
        failing + uncertain + slow > 0
    }

    /// The node dies at the last of so many calls that store something, from 1.
    pub(super) fn die_in(&self, calls: u64) {
        self.state.lock().dies_in = Some(calls);
    }

    /// The node is dead from now on: nothing that it calls is answered.
    pub(super) fn die(&self) {
        if !self.is_gone() {
            self.trace.note(format_args!("node {} dies", self.life));
            self.judge.died(self.life);
            self.gone.cancel();
        }
    }

    /// Whether the node is dead.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Returns when the node is dead.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// A call that reads.
    pub(super) async fn read<T, E: From<StoreError>>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.pass(call, false, work).await
    }

    /// A call that stores something.
    pub(super) async fn store<T, E: From<StoreError>>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.pass(call, true, work).await
    }

    async fn pass<T, E: From<StoreError>>(
        &self,
        call: &'static str,
        stores: bool,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (fate, before, after) = self.throw(stores);
        let is_plain = fate == Fate::Works && before + after == 0;
        if !is_plain {
            self.trace.note(format_args!(
                "node {} {call}: {fate:?}, {before} + {after} ms",
                self.life
            ));
            match call {
                FLUSH => self.judge.flush_goes_wrong(before + after),
                APPEND => self.judge.append_goes_wrong(before + after),
                _ => {}
            }
        }
        self.wait(before).await;
        // What was sent before the node died may still arrive.
        if self.is_gone() && (before == 0 || self.dice.chance(50)) {
            return std::future::pending().await;
        }
        match fate {
            Fate::Fails => return Err(failed(call).into()),
            Fate::DiesBefore => self.die(),
            Fate::Works | Fate::Uncertain | Fate::DiesAfter => {}
        }
        if fate == Fate::DiesBefore {
            return std::future::pending().await;
        }
        let result = work.await;
        if fate == Fate::DiesAfter {
            self.die();
        }
        self.wait(after).await;
        if self.is_gone() {
            return std::future::pending().await;
        }
        if fate == Fate::Uncertain {
            let error = StoreError::Uncertain(format!("{call} is left unanswered"));
            return Err(error.into());
        }
        result
    }

    async fn wait(&self, millis: u64) {
        if millis > 0 {
            sleep(Duration::from_millis(millis)).await;
        }
    }

    /// What becomes of the next call, and how long it takes before and after its work.
    fn throw(&self, stores: bool) -> (Fate, u64, u64) {
        let mut state = self.state.lock();
        let Trouble {
            failing,
            uncertain,
            slow,
        } = state.trouble;
        let slow_by = || {
            let is_slow = slow > 0 && self.dice.chance(slow);
            if is_slow {
                self.dice.within(1..=1_500)
            } else {
                0
            }
        };
        let (before, after) = (slow_by(), slow_by());
        if stores && let Some(calls) = &mut state.dies_in {
            *calls -= 1;
            if *calls == 0 {
                state.dies_in = None;
                let fate = *self.dice.pick(&[Fate::DiesBefore, Fate::DiesAfter]);
                return (fate, before, after);
            }
        }
        let fate = if state.is_cut || (failing > 0 && self.dice.chance(failing)) {
            Fate::Fails
        } else if stores && uncertain > 0 && self.dice.chance(uncertain) {
            Fate::Uncertain
        } else {
            Fate::Works
        };
        (fate, before, after)
    }
}

fn failed(call: &str) -> StoreError {
    StoreError::Unavailable(format!("{call} fails by chance"))
}
