//! What a figure's clients tell: what was confirmed, what came, and how long it took.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message as _,
    producer::{DeliveryResult, ProducerContext},
};

use crate::{message::Mark, report::Quantiles};

/// Clock ticks per second in `/proc`: 100 on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Counters of one figure.
#[derive(Debug)]
pub(crate) struct Watch {
    start: Instant,
    pub(crate) confirmed: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) received: AtomicU64,
    /// Latencies are recorded only while this is set.
    measuring: AtomicBool,
    publish_micros: Mutex<Histogram<u64>>,
    receive_micros: Mutex<Histogram<u64>>,
}

/// One sample of a watch.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    confirmed: u64,
    cpu_micros: Option<u64>,
}

/// What happened while something was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    /// CPU of this process.
    pub(crate) cpu_micros: Option<u64>,
    pub(crate) publish: Option<Quantiles>,
    pub(crate) receive: Option<Quantiles>,
}

impl Watch {
    pub(crate) fn new() -> anyhow::Result<Arc<Self>> {
        // Microseconds, up to a minute, in three digits.
        let histogram = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Arc::new(Self {
            start: now(),
            confirmed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            received: AtomicU64::new(0),
            measuring: AtomicBool::new(false),
            publish_micros: Mutex::new(histogram.clone()),
            receive_micros: Mutex::new(histogram),
        }))
    }

    /// Microseconds from the start to `at`.
    pub(crate) fn micros_of(&self, at: Instant) -> u64 {
        let micros = at.saturating_duration_since(self.start).as_micros();
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    /// A message has come.
    pub(crate) fn received(&self, mark: Mark) {
        self.received.fetch_add(1, Relaxed);
        self.took(&self.receive_micros, mark);
    }

    fn took(&self, histogram: &Mutex<Histogram<u64>>, mark: Mark) {
        if self.measuring.load(Relaxed) {
            let micros = self.micros_of(now()).saturating_sub(mark.sent_micros);
            histogram.lock().saturating_record(micros);
        }
    }

    /// Measures while `work` is done.
    pub(crate) fn during(
        &self,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Measured> {
        self.publish_micros.lock().reset();
        self.receive_micros.lock().reset();
        self.measuring.store(true, Relaxed);
        let start = self.sample();
        work()?;
        let end = self.sample();
        self.measuring.store(false, Relaxed);
        let cpu_micros = end.cpu_micros.zip(start.cpu_micros);
        Ok(Measured {
            seconds: (end.at - start.at).as_secs_f64(),
            messages: end.confirmed - start.confirmed,
            cpu_micros: cpu_micros.map(|(end, start)| end.saturating_sub(start)),
            publish: Quantiles::of(&self.publish_micros.lock()),
            receive: Quantiles::of(&self.receive_micros.lock()),
        })
    }

    fn sample(&self) -> Sample {
        Sample {
            at: now(),
            confirmed: self.confirmed.load(Relaxed),
            cpu_micros: cpu_micros(),
        }
    }
}

/// Takes a producer's delivery reports.
#[derive(Debug)]
pub(crate) struct Confirmations(pub(crate) Arc<Watch>);

impl ClientContext for Confirmations {}

impl ProducerContext for Confirmations {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                if let Some(mark) = Mark::of(message.payload()) {
                    self.0.took(&self.0.publish_micros, mark);
                }
                self.0.confirmed.fetch_add(1, Relaxed);
            }
            Err(_) => {
                self.0.failed.fetch_add(1, Relaxed);
            }
        }
    }
}

/// The time at which something is measured.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Microseconds of CPU that this process has used; none if it cannot be told.
fn cpu_micros() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * (1_000_000 / TICKS_PER_SECOND))
}
