//! What a bare Kafka client reaches: what `tests/bench/run.sh` measures Packetboat on Kafka against.
//!
//! Producers and a consumer of librdkafka with the properties that the server gives its own. It imports nothing of the
//! crate. Messages are those of `packetboat bench`: a mark, and then the same noise in each, so that a batch of several
//! compresses and one alone does not. Each figure gets a new topic of one partition, which is deleted after it.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use cluster::Cluster;
use report::Report;

mod cluster;
mod flood;
mod message;
mod paced;
mod report;
mod watch;

// As the packetboat command does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures bare Kafka clients; prints a JSON object for each figure, and two for topics.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure, one after the other; without it, all
    #[arg(value_name = "FIGURE", value_enum)]
    figures: Vec<Figure>,

    /// Some of the brokers
    #[arg(long, value_name = "HOST:PORT,...")]
    brokers: String,

    /// How long each figure is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    seconds: f64,

    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: usize,
}

/// Named as the loads of the server that they are held against.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Figure {
    /// A producer as fast as it can
    #[value(name = "publish-100")]
    Publish100,
    /// 64 callers, each of whom waits for the confirmation of its one message
    #[value(name = "publish-1")]
    Publish1,
    /// A producer and a consumer, 1,000 messages per second
    Latency,
    /// The same, and then again while 1,000 topics are created in calls of 100
    Topics,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let seconds = Duration::try_from_secs_f64(arguments.seconds)
        .with_context(|| format!("--seconds {} is no duration", arguments.seconds))?;
    if arguments.size < message::MARK_BYTES {
        anyhow::bail!(
            "--size {} is too small: a message has at least {} bytes",
            arguments.size,
            message::MARK_BYTES
        );
    }
    let figures = match arguments.figures.as_slice() {
        [] => Figure::value_variants(),
        named => named,
    };
    let cluster = Cluster::connect(&arguments.brokers)?;
    let mut void = false;
    for figure in figures {
        let topic = cluster.create_topic()?;
        let measured = measure(*figure, &cluster, &topic, arguments.size, seconds);
        // It goes after a failure too; the failure is what is told.
        let deleted = cluster.delete_topics(&[topic]);
        for report in measured.with_context(|| format!("{figure:?}"))? {
            void |= report.void;
            writeln!(io::stdout(), "{}", serde_json::to_string(&report)?)?;
        }
        deleted?;
    }
    Ok(if void {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn measure(
    figure: Figure,
    cluster: &Cluster,
    topic: &str,
    size: usize,
    seconds: Duration,
) -> anyhow::Result<Vec<Report>> {
    match figure {
        Figure::Publish100 => Ok(vec![flood::measure(
            cluster,
            topic,
            size,
            seconds,
            ("publish-100", flood::WINDOW_MESSAGES),
        )?]),
        Figure::Publish1 => Ok(vec![flood::measure(
            cluster,
            topic,
            size,
            seconds,
            ("publish-1", flood::CALLERS),
        )?]),
        Figure::Latency => paced::latency(cluster, topic, size, seconds),
        Figure::Topics => paced::topics(cluster, topic, size, seconds),
    }
}
