//! What a load came to, as one JSON object.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Figures of one load. What was not measured is null.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Which load, as on the command line; some have two reports, as `backlog-publish` and `backlog-drain`.
    pub load: &'static str,
    /// Messages per publish request.
    pub batch: usize,
    /// Bytes of data per message.
    pub size: usize,
    /// Topics published to.
    pub topics: usize,
    /// Subscriptions of each topic.
    pub subscriptions: usize,
    /// Subscriptions of each topic whose reader never acknowledges.
    pub silent: usize,
    /// Streams, or clients that pull, over all subscriptions.
    pub streams: usize,
    /// Topics that were made meanwhile, or whose subscriptions were first asked meanwhile.
    pub new_topics: Option<usize>,
    /// Messages per second that were asked for.
    pub rate: Option<u64>,
    /// Length of the measurement.
    pub seconds: f64,
    /// Messages published in the whole run, and answered.
    pub published: u64,
    /// Messages that arrived in the whole run, each once per subscription.
    pub received: Option<u64>,
    /// What the load is about, per second of the measurement: publishes, deliveries or creations.
    pub messages_per_second: f64,
    /// Published, but not received in time after the last arrival. Null: this server sends messages of its own.
    pub lost: Option<u64>,
    /// Arrivals of a message that had arrived before, which make exactly-once delivery and backoff void.
    pub duplicates: Option<u64>,
    /// Arrivals after a later message of the same publisher, expected with more than one stream; or of the same ordering
    /// key, if messages have one, which makes the run void.
    pub reordered: Option<u64>,
    /// The run lost messages, broke the order of a key, or delivered twice what is to come once: none of its figures
    /// counts.
    pub void: bool,
    /// CPU of this process.
    pub generator_cpu_micros_per_message: Option<f64>,
    /// CPU of the process that `--pid` names.
    pub server_cpu_micros_per_message: Option<f64>,
    /// The same in percent of one core.
    pub server_cpu_percent: Option<f64>,
    /// Its largest resident memory, MB of 1,000,000 bytes, sampled every 100 ms.
    pub server_rss_peak_mb: Option<f64>,
    /// The same at the end of the load.
    pub server_rss_mb: Option<f64>,
    /// By how much the files in the server's data directory have grown from the run's beginning to the end of the
    /// measurement, MB of 1,000,000 bytes.
    pub data_mb: Option<f64>,
    /// Milliseconds from the last publish to the last arrival, where filters leave messages out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_ms: Option<f64>,
    /// Messages that were nacked meanwhile on other topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nacks_per_second: Option<f64>,
    /// From the moment a publish was due to its answer.
    pub publish_ms: Option<Quantiles>,
    /// From the moment a publish was due to its message's arrival; in redelivery, from the answer to a nack.
    pub receive_ms: Option<Quantiles>,
    /// From an Acknowledge to its answer, in cold, receipts and the loads of exactly-once delivery.
    pub ack_ms: Option<Quantiles>,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half were faster.
    pub p50: f64,
    /// One in a hundred was slower.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Quantiles {
    /// Of a histogram of microseconds; none if it is empty.
    pub(super) fn of(micros: &Histogram<u64>) -> Option<Self> {
        let millis = |micros: u64| micros as f64 / 1_000.0;
        (!micros.is_empty()).then(|| Self {
            p50: millis(micros.value_at_quantile(0.5)),
            p99: millis(micros.value_at_quantile(0.99)),
            max: millis(micros.max()),
        })
    }
}

/// An empty histogram of microseconds, up to a minute, in three digits.
pub(super) fn micros_histogram() -> Histogram<u64> {
    let mut histogram =
        Histogram::new_with_bounds(1, 60_000_000, 3).expect("these are valid bounds");
    histogram.auto(false);
    histogram
}
