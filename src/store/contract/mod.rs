//! Behaviours that every backend must have. Each is a test of its own per backend.

mod embedded_log;
pub(in crate::store) mod log;
pub(in crate::store) mod newer;
pub(in crate::store) mod positions;
pub(in crate::store) mod published;
mod records;
pub(in crate::store) mod resources;

use std::any::Any;

use super::{
    Membership, Positions, Records, Resources, StateBackend,
    kafka::{KafkaLog, tests::TestTopics},
    memory::{MemoryLog, MemoryState},
    postgres::{PostgresState, tests::TestDatabase},
    sqlite::{self, SqliteLog, SqliteState},
};
use crate::{
    clock::{Clock, ManualClock, Timestamp},
    limits::MEMORY_LOG_BYTES_MAX,
};

/// All ports of a state store.
pub(in crate::store) trait State:
    Resources + Records + Positions + Membership + StateBackend
{
}

impl<S: Resources + Records + Positions + Membership + StateBackend> State for S {}

/// A backend under test, and what must outlive it.
pub(super) struct Backend<L, S> {
    pub(super) log: L,
    pub(super) state: S,
    pub(super) hand: ManualClock,
    /// What goes away with it.
    _kept: Box<dyn Any + Send>,
}

pub(super) const START: Timestamp = Timestamp::from_millis(1_000_000);

pub(super) async fn memory() -> Backend<MemoryLog, MemoryState> {
    let (clock, hand) = Clock::manual(START);
    Backend {
        log: MemoryLog::new(clock, MEMORY_LOG_BYTES_MAX),
        state: MemoryState::new().expect("random bytes"),
        hand,
        _kept: Box::new(()),
    }
}

pub(super) async fn sqlite() -> Backend<SqliteLog, SqliteState> {
    let (clock, hand) = Clock::manual(START);
    let directory = tempfile::tempdir().expect("temporary directory");
    let (log, state, lock) = sqlite::open(directory.path(), clock).await.expect("open");
    Backend {
        log,
        state,
        hand,
        _kept: Box::new((directory, lock)),
    }
}

/// The state of a database of its own; its log is in memory.
pub(super) async fn postgres() -> Backend<MemoryLog, PostgresState> {
    let (clock, hand) = Clock::manual(START);
    let database = TestDatabase::new().await;
    let state = database.open("node").await;
    Backend {
        log: MemoryLog::new(clock, MEMORY_LOG_BYTES_MAX),
        state,
        hand,
        _kept: Box::new(database),
    }
}

/// The hand moves no clock that matters: brokers have their own.
pub(super) async fn kafka() -> Backend<KafkaLog, MemoryState> {
    let (_, hand) = Clock::manual(START);
    let topics = TestTopics::new();
    Backend {
        log: topics.open().await,
        state: MemoryState::new().expect("random bytes"),
        hand,
        _kept: Box::new(topics),
    }
}

/// Makes a test per backend of each behaviour, which takes the log or the state and the clock's hand.
macro_rules! contract {
    ($port:ident on [$($backend:ident),+]: $behaviours:tt) => {
        $(crate::store::contract::contract!(@$backend, $port, $behaviours);)+
    };
    (@$backend:ident, $port:ident, { $($behaviour:ident),+ $(,)? }) => {
        mod $backend {
            $(#[tokio::test]
            async fn $behaviour() {
                let backend = crate::store::contract::$backend().await;
                super::$behaviour(&backend.$port, &backend.hand).await;
            })+
        }
    };
}
use contract;
