//! What holds for Postgres beside what every state store does.

mod bloat;
mod changes;
mod clocks;
mod database;
mod flushes;
mod newer;
mod opening;
mod outages;
mod ownership;
mod proxy;
mod sessions;
mod sweeping;

pub(in crate::store) use self::database::TestDatabase;
