//! What a figure came to, in the words of `packetboat bench`.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::watch::Measured;

/// One line. What was not measured is null.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) load: &'static str,
    pub(crate) size: usize,
    /// Messages that may be in flight, where there is no rate.
    pub(crate) in_flight: Option<usize>,
    pub(crate) rate: Option<u32>,
    pub(crate) new_topics: Option<usize>,
    pub(crate) seconds: f64,
    pub(crate) messages_per_second: f64,
    /// Messages of the whole figure.
    pub(crate) published: u64,
    /// How many of these were confirmed, and how many the consumer got, if there was one.
    pub(crate) confirmed: u64,
    pub(crate) received: Option<u64>,
    /// Not all were: the figure says nothing.
    pub(crate) void: bool,
    pub(crate) generator_cpu_micros_per_message: Option<f64>,
    /// From the moment a message was due to its confirmation, or to its arrival.
    pub(crate) publish_ms: Option<Quantiles>,
    pub(crate) receive_ms: Option<Quantiles>,
}

impl Report {
    #[expect(
        clippy::cast_precision_loss,
        reason = "far below the 2^52 that a float holds"
    )]
    pub(crate) fn new(load: &'static str, size: usize, measured: Measured) -> Self {
        let messages = measured.messages as f64;
        let per_message = |micros: u64| micros as f64 / messages;
        Self {
            load,
            size,
            in_flight: None,
            rate: None,
            new_topics: None,
            seconds: measured.seconds,
            messages_per_second: messages / measured.seconds,
            published: 0,
            confirmed: 0,
            received: None,
            void: true,
            generator_cpu_micros_per_message: measured.cpu_micros.map(per_message),
            publish_ms: measured.publish,
            receive_ms: measured.receive,
        }
    }
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Quantiles {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Quantiles {
    /// Of a histogram of microseconds; none if it is empty.
    #[expect(clippy::cast_precision_loss, reason = "at most a minute")]
    pub(crate) fn of(micros: &Histogram<u64>) -> Option<Self> {
        let millis = |micros: u64| micros as f64 / 1_000.0;
        (!micros.is_empty()).then(|| Self {
            p50: millis(micros.value_at_quantile(0.5)),
            p99: millis(micros.value_at_quantile(0.99)),
            max: millis(micros.max()),
        })
    }
}
