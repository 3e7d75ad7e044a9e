//! What REST costs: publishing over HTTP/JSON, and a small call beside the same one over gRPC, for
//! `tests/bench/run.sh`.

use std::{
    fs,
    io::{self, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::Serialize;

use names::Names;

mod call;
mod client;
mod names;
mod publish;

// As the packetboat command does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a server over REST; prints a JSON object.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure
    #[arg(value_enum)]
    figure: Figure,

    /// The server
    #[arg(long, value_name = "HOST:PORT")]
    addr: String,

    /// The server's process: its CPU is measured too
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// How long it is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Figure {
    /// Publish 100 messages of 1 KiB per request, 32 requests at a time, each on a connection of its own
    Publish,
    /// Get a topic, over REST and over gRPC alternately, one at a time
    Call,
}

/// In the words of `packetboat bench`. What was not measured is null.
#[derive(Clone, Debug, Default, Serialize)]
struct Report {
    load: &'static str,
    batch: usize,
    size: usize,
    seconds: f64,
    published: u64,
    received: Option<u64>,
    /// Published, or calls over REST.
    messages_per_second: f64,
    /// Not everything that was published came: the figure says nothing.
    void: bool,
    server_cpu_micros_per_message: Option<f64>,
    rest_ms: Option<Quantiles>,
    grpc_ms: Option<Quantiles>,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

impl Quantiles {
    /// Of some times, in any order; none if there are none.
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let at = |percent: usize| {
            let found = times.get(times.len() * percent / 100);
            found.map(|time| time.as_secs_f64() * 1e3)
        };
        Some(Self {
            p50: at(50)?,
            p99: at(99)?,
        })
    }
}

/// What a figure needs.
struct Bench {
    address: String,
    pid: Option<u32>,
    seconds: Duration,
    names: Names,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let seconds = Duration::try_from_secs_f64(arguments.seconds)
        .with_context(|| format!("--seconds {} is no duration", arguments.seconds))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let report = runtime.block_on(async {
        let names = Names::create(&arguments.addr).await?;
        let bench = Arc::new(Bench {
            address: arguments.addr,
            pid: arguments.pid,
            seconds,
            names,
        });
        let report = match arguments.figure {
            Figure::Publish => publish::measure(&bench).await,
            Figure::Call => call::measure(&bench).await,
        };
        // They go after a failure too; the failure is what is told.
        let deleted = bench.names.delete(&bench.address).await;
        let report = report?;
        deleted?;
        anyhow::Ok(report)
    })?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(if report.void {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// A counter and the server's CPU at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    count: u64,
    cpu_micros: Option<u64>,
}

impl Sample {
    #[expect(clippy::disallowed_methods, reason = "real servers are measured")]
    fn take(bench: &Bench, count: &AtomicU64) -> Self {
        Self {
            at: Instant::now(),
            count: count.load(Relaxed),
            cpu_micros: bench.pid.and_then(cpu_micros),
        }
    }
}

/// Microseconds of CPU that a process has used, as Linux tells it in its 100 ticks per second.
fn cpu_micros(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 10_000)
}
