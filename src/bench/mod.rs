//! A load generator for any server that speaks the Pub/Sub API: it publishes, receives, checks that everything
//! arrived, and says how fast that was and what it cost.
//!
//! It must never know more of a server than a client does.

mod backoff;
mod calls;
mod connection;
mod dead_letters;
mod delivery;
mod expiry;
mod filters;
mod keys;
mod load;
mod measure;
mod paced;
mod pacer;
mod payload;
mod process;
mod publisher;
mod reader;
mod replies;
mod report;
mod resources;
mod run;
mod shape;
mod stepwise;
mod tally;

use std::{path::PathBuf, time::Duration};

use thiserror::Error;

pub use self::{
    connection::CallError,
    load::{Load, run},
    measure::Progress,
    payload::MARK_BYTES,
    report::{Quantiles, Report},
};

/// How a load is put on.
#[derive(Clone, Debug)]
pub struct Plan {
    /// HOST:PORT of the server.
    pub addr: String,
    /// The project in which topics and subscriptions are made.
    pub project: String,
    /// Bytes of data per message, at least [`MARK_BYTES`].
    pub data_bytes: usize,
    /// Messages per publish request.
    pub batch: usize,
    /// Length of the measurement. There is half a second before it in which nothing is measured.
    pub measured: Duration,
    /// A message that does not come in this time after the last arrival is lost.
    pub lost_after: Duration,
    /// HTTP/2 connections, over which everything is spread. More are opened for more than 100 streams on each.
    pub connections: usize,
    /// Publish requests in flight.
    pub in_flight: usize,
    /// Streams, or clients that pull, per subscription.
    pub streams: usize,
    /// Messages that a stream may hold without having acknowledged them; 0 for no limit.
    pub outstanding: i64,

    /// Subscriptions per topic.
    pub subscriptions: usize,
    /// How many of these never acknowledge.
    pub silent: usize,
    /// Topics, published to round robin.
    pub topics: usize,
    /// Messages per second, for loads at a given rate.
    pub rate: u64,
    /// Messages, for loads of a given number.
    pub messages: u64,
    /// Topics that are made while a load runs, as many at a time as publish requests are in flight otherwise; or that
    /// are there and were never used.
    pub new_topics: usize,
    /// Messages that stay unacknowledged below those that a load publishes and acknowledges, and between which as many
    /// are acknowledged.
    pub holes: u64,
    /// The server's data directory, if its size is to be measured.
    pub data_dir: Option<PathBuf>,
    /// The server's process, if its CPU and memory are to be measured.
    pub pid: Option<u32>,
    /// Whether topics and subscriptions are left behind.
    pub keep: bool,
}

/// Why a load ended early.
#[derive(Debug, Error)]
pub enum BenchError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no such process, or this user may not inspect it.
    #[error(
        "process {0} cannot be looked at in /proc; --pid takes the server's process on this machine"
    )]
    Process(u32),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}
