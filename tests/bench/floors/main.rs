//! What durability costs by itself: the floors that `tests/bench/run.sh` measures Packetboat against.
//!
//! Bare writers of messages nobody sent: SQLite with one row per batch, and a file with an fdatasync after each append.
//! It imports nothing of the crate. Each floor gets a new file, which grows as a server's would and is deleted after.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use serde_json::json;

use measure::{Latency, measure};
use writer::{FileWriter, SqliteWriter, Writer};

mod measure;
mod writer;

// As the packetboat command does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures bare SQLite and bare appends; prints one JSON line for each floor.
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory on the disk to measure; the files in it are made and deleted
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// How long each floor is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,

    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: usize,
}

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
struct Floor {
    name: &'static str,
    /// Messages in a row, or in an append.
    batch: usize,
    /// Rows in a transaction.
    commit: Option<usize>,
    /// Commits per second, each at its time; without it, one after the other.
    rate: Option<u32>,
}

const fn sqlite(batch: usize, commit: usize, rate: Option<u32>) -> Floor {
    Floor {
        name: "sqlite",
        batch,
        commit: Some(commit),
        rate,
    }
}

const fn fdatasync(batch: usize, rate: Option<u32>) -> Floor {
    Floor {
        name: "fdatasync",
        batch,
        commit: None,
        rate,
    }
}

/// The commits of 16, 32 and 64 rows are the strongest form of group commit with so many requests in flight. A rate of
/// 1,000 is that of the latency load; 240 messages 500 times per second are about what half of the highest rate commits.
const FLOORS: [Floor; 10] = [
    sqlite(100, 1, None),
    sqlite(100, 16, None),
    sqlite(100, 32, None),
    sqlite(1, 1, None),
    sqlite(1, 64, None),
    sqlite(1, 1, Some(1_000)),
    fdatasync(100, None),
    fdatasync(1, None),
    fdatasync(1, Some(1_000)),
    fdatasync(240, Some(500)),
];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let duration = Duration::try_from_secs_f64(arguments.seconds)
        .with_context(|| format!("--seconds {} is no duration", arguments.seconds))?;
    // One thread: SQLite's is its own, and there is one writer.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    for floor in FLOORS {
        let line = runtime
            .block_on(run(&arguments, floor, duration))
            .with_context(|| format!("{floor:?} in {}", arguments.dir.display()))?;
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(())
}

async fn run(
    arguments: &Arguments,
    floor: Floor,
    duration: Duration,
) -> anyhow::Result<serde_json::Value> {
    let folder = tempfile::tempdir_in(&arguments.dir)?;
    let batch_bytes = floor.batch * arguments.size;
    let mut writer = match floor.commit {
        Some(rows) => Writer::Sqlite(SqliteWriter::create(folder.path(), batch_bytes, rows).await?),
        None => Writer::File(FileWriter::create(folder.path(), batch_bytes)?),
    };
    let measured = measure(&mut writer, floor.rate, duration).await?;
    writer.close().await?;
    let seconds = measured.elapsed.as_secs_f64();
    let messages = measured.commits * floor.batch * floor.commit.unwrap_or(1);
    #[expect(
        clippy::cast_precision_loss,
        reason = "far below the 2^52 that a float holds"
    )]
    let messages_per_second = messages as f64 / seconds;
    Ok(json!({
        "floor": floor.name,
        "batch": floor.batch,
        "size": arguments.size,
        "commit": floor.commit,
        "rate": floor.rate,
        "seconds": seconds,
        "messages": messages,
        "messages_per_second": messages_per_second,
        "latency_micros": micros(&measured.from_call),
        "from_schedule_micros": measured.from_schedule.as_ref().map(micros),
    }))
}

fn micros(latency: &Latency) -> serde_json::Value {
    json!({
        "p50": latency.p50.as_micros(),
        "p99": latency.p99.as_micros(),
        "max": latency.max.as_micros(),
    })
}
