//! `packetboat bench`: puts loads on a server and prints their figures.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::anyhow;
use clap::{Args, ValueEnum, value_parser};
use indicatif::{ProgressBar, ProgressStyle};

use super::client::Server;
use crate::bench::{self, Load, MARK_BYTES, Plan, Progress, Report};

/// Measure a server: publish, receive, and check that everything arrived.
///
/// It works with any server that speaks the Pub/Sub API without TLS. Each load makes its own topics and
/// subscriptions and removes them. Prints a JSON object per measurement. A load that lost a message is void, and the
/// command fails.
#[derive(Args, Debug)]
pub struct Arguments {
    /// What to measure, one after the other; without it: publish, end-to-end, fan-out, pull and latency
    #[arg(value_name = "LOAD", value_enum)]
    loads: Vec<Load>,

    #[command(flatten)]
    server: Server,

    /// The server's process on this machine: its CPU and memory are measured too
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Project in which topics and subscriptions are made
    #[arg(long, value_name = "PROJECT", default_value = "bench")]
    project: String,

    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value = "5", value_parser = value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// Bytes of data in a message
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = value_parser!(u32).range(MARK_BYTES as i64..=10_000_000))]
    size: u32,

    /// Messages in a publish request
    #[arg(long, value_name = "N", default_value = "100", value_parser = value_parser!(u32).range(1..=1000))]
    batch: u32,

    /// Publish requests in flight
    #[arg(long, value_name = "N", default_value = "32", value_parser = value_parser!(u32).range(1..=10_000))]
    in_flight: u32,

    /// Connections, over which requests and streams are spread
    #[arg(long, value_name = "N", default_value = "2", value_parser = value_parser!(u32).range(1..=1000))]
    connections: u32,

    /// Streams per subscription in end-to-end and backlog, clients in pull
    #[arg(long, value_name = "N", default_value = "8", value_parser = value_parser!(u32).range(1..=10_000))]
    streams: u32,

    /// Unacknowledged messages that a stream takes; 0 for no limit
    #[arg(long, value_name = "N", default_value = "1000", value_parser = value_parser!(u32).range(0..=1_000_000))]
    outstanding: u32,

    /// Subscriptions per topic in fan-out and filtered-fan-out
    #[arg(long, value_name = "N", default_value = "10", value_parser = value_parser!(u32).range(1..=10_000))]
    subscriptions: u32,

    /// How many of these never acknowledge
    #[arg(long, value_name = "N", default_value = "0")]
    silent: u32,

    /// Topics, published to round robin
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u32).range(1..=1_000_000))]
    topics: u32,

    /// Messages per second in latency, topics, expiry, dead-letter-cycle and holes
    #[arg(long, value_name = "N", default_value = "1000", value_parser = value_parser!(u32).range(1..=1_000_000))]
    rate: u32,

    /// Messages in backlog
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = value_parser!(u64).range(1..=1_000_000_000))]
    messages: u64,

    /// How many topics the load topics makes
    #[arg(long, value_name = "N", default_value = "1000", value_parser = value_parser!(u32).range(1..=1_000_000))]
    new_topics: u32,

    /// Messages that the load holes leaves unacknowledged
    #[arg(long, value_name = "N", default_value = "100000", value_parser = value_parser!(u64).range(1..=100_000_000))]
    holes: u64,

    /// The server's data directory on this machine: the load holes measures its size
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,

    /// Leave topics and subscriptions behind
    #[arg(long)]
    keep: bool,
}

/// A message that did not come in this time after the last one is lost.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Bytes of messages in a publish request, as Pub/Sub limits them.
const REQUEST_BYTES_MAX: u64 = 10_000_000;

/// What is measured when nothing is named.
const USUAL: [Load; 5] = [
    Load::Publish,
    Load::EndToEnd,
    Load::FanOut,
    Load::Pull,
    Load::Latency,
];

/// Measures; fails when a load is void.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.silent >= arguments.subscriptions {
        anyhow::bail!(
            "--silent {} leaves none of {} subscriptions that acknowledge; it has to be less than --subscriptions",
            arguments.silent,
            arguments.subscriptions
        );
    }
    if u64::from(arguments.batch) * u64::from(arguments.size) > REQUEST_BYTES_MAX {
        anyhow::bail!(
            "--batch {} of --size {} is more than a publish request may have, {REQUEST_BYTES_MAX} bytes",
            arguments.batch,
            arguments.size
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start threads: {error}"))?;
    let plan = plan(&arguments);
    let loads = if arguments.loads.is_empty() {
        USUAL.to_vec()
    } else {
        arguments.loads
    };
    let mut void = false;
    for load in loads {
        for report in runtime.block_on(measure(load, &plan))? {
            void |= report.void;
            print(&report)?;
        }
    }
    if void {
        anyhow::bail!(
            "messages were lost, or came out of order or twice: a load with \"void\":true says nothing about speed"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(arguments: &Arguments) -> Plan {
    Plan {
        addr: arguments.server.addr.clone(),
        project: arguments.project.clone(),
        data_bytes: arguments.size as usize,
        batch: arguments.batch as usize,
        measured: Duration::from_secs(arguments.seconds),
        lost_after: LOST_AFTER,
        connections: arguments.connections as usize,
        in_flight: arguments.in_flight as usize,
        streams: arguments.streams as usize,
        outstanding: arguments.outstanding.into(),
        subscriptions: arguments.subscriptions as usize,
        silent: arguments.silent as usize,
        topics: arguments.topics as usize,
        rate: arguments.rate.into(),
        messages: arguments.messages,
        new_topics: arguments.new_topics as usize,
        holes: arguments.holes,
        data_dir: arguments.data_dir.clone(),
        pid: arguments.pid,
        keep: arguments.keep,
    }
}

async fn measure(load: Load, plan: &Plan) -> anyhow::Result<Vec<Report>> {
    let value = load.to_possible_value();
    let title = value
        .as_ref()
        .map_or("", |value| value.get_name())
        .to_owned();
    // Nothing is drawn when standard error is no terminal.
    let line = ProgressBar::new_spinner().with_style(ProgressStyle::with_template(
        "{spinner} {elapsed:>4} {msg}",
    )?);
    let shown = line.clone();
    let on_progress = move |progress: Progress| {
        shown.set_message(format!(
            "{title}: {} published, {} received",
            progress.published, progress.received
        ));
        shown.tick();
    };
    let reports = bench::run(load, plan, on_progress).await;
    line.finish_and_clear();
    Ok(reports?)
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(report)?;
    line.push('\n');
    io::stdout()
        .lock()
        .write_all(line.as_bytes())
        .map_err(|error| anyhow!("cannot print: {error}"))
}
