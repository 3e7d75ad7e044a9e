//! What holds for Postgres beside what every state store does.

mod database;

pub(in crate::store) use self::database::TestDatabase;
