//! Scenario files that read like a log of a conversation, and random operations against a model.

mod backlog;
mod dead_letters;
mod deadlines;
mod exactly_once;
mod host;
mod idle;
mod model;
mod operations;
mod order;
mod ordering;
mod partitions;
mod property;
mod read_ahead;
mod redelivery;
mod restored;
mod scenario;
mod scenario_commands;
mod simulated_log;
mod skipping;
mod stored;
