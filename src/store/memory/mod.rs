//! Both stores in memory, for `--ephemeral` and as the model that the other backends are compared with.

mod lists;
mod log;
mod records;
mod state;

pub use log::MemoryLog;
pub use state::MemoryState;
