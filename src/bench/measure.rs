//! Counters of a running load, and what happened between two samples of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::sleep;

use super::{Plan, process, report};

/// How often memory is sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// How long the memory of the server does not grow before it counts as settled.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How long that is waited for.
const SETTLING_MAX: Duration = Duration::from_secs(30);

/// What a load has done so far, for a progress line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Messages published and answered.
    pub published: u64,
    /// Messages received.
    pub received: u64,
}

/// Counters of publishers and readers.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) published: AtomicU64,
    pub(super) received: AtomicU64,
    /// Messages whose last call was answered, where streams are answered by calls.
    pub(super) replied: AtomicU64,
    /// Latencies are recorded only while this is set.
    pub(super) measuring: AtomicBool,
    publish_micros: Mutex<Histogram<u64>>,
    receive_micros: Mutex<Histogram<u64>>,
    ack_micros: Mutex<Histogram<u64>>,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            published: AtomicU64::new(0),
            received: AtomicU64::new(0),
            replied: AtomicU64::new(0),
            measuring: AtomicBool::new(false),
            publish_micros: Mutex::new(report::micros_histogram()),
            receive_micros: Mutex::new(report::micros_histogram()),
            ack_micros: Mutex::new(report::micros_histogram()),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            published: self.published.load(Relaxed),
            received: self.received.load(Relaxed),
        }
    }

    /// Records how long a publish took.
    pub(super) fn publish_took(&self, micros: u64) {
        if self.measuring.load(Relaxed) {
            self.publish_micros.lock().saturating_record(micros);
        }
    }

    /// Records how long messages took to arrive.
    pub(super) fn receives_took(&self, micros: &[u64]) {
        if self.measuring.load(Relaxed) {
            let mut histogram = self.receive_micros.lock();
            for &micros in micros {
                histogram.saturating_record(micros);
            }
        }
    }

    /// Records how long an acknowledgement took.
    pub(super) fn ack_took(&self, micros: u64) {
        if self.measuring.load(Relaxed) {
            self.ack_micros.lock().saturating_record(micros);
        }
    }

    /// Forgets how long everything took so far.
    pub(super) fn forget_latencies(&self) {
        self.publish_micros.lock().reset();
        self.receive_micros.lock().reset();
        self.ack_micros.lock().reset();
    }

    pub(super) fn publish_quantiles(&self) -> Option<report::Quantiles> {
        report::Quantiles::of(&self.publish_micros.lock())
    }

    pub(super) fn receive_quantiles(&self) -> Option<report::Quantiles> {
        report::Quantiles::of(&self.receive_micros.lock())
    }

    pub(super) fn ack_quantiles(&self) -> Option<report::Quantiles> {
        report::Quantiles::of(&self.ack_micros.lock())
    }
}

/// One sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    at: Instant,
    progress: Progress,
    generator_cpu_micros: Option<u64>,
    server_cpu_micros: Option<u64>,
}

impl Sample {
    pub(super) fn take(counters: &Counters, plan: &Plan) -> Self {
        Self {
            at: now(),
            progress: counters.progress(),
            generator_cpu_micros: process::cpu_micros("self"),
            server_cpu_micros: plan
                .pid
                .and_then(|pid| process::cpu_micros(&pid.to_string())),
        }
    }

    /// What happened from `self` to `end`.
    pub(super) fn until(self, end: Self) -> Measured {
        let between = |start: Option<u64>, end: Option<u64>| Some(end?.saturating_sub(start?));
        Measured {
            seconds: (end.at - self.at).as_secs_f64(),
            published: end.progress.published - self.progress.published,
            received: end.progress.received - self.progress.received,
            generator_cpu_micros: between(self.generator_cpu_micros, end.generator_cpu_micros),
            server_cpu_micros: between(self.server_cpu_micros, end.server_cpu_micros),
        }
    }
}

/// What happened between two samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    pub(super) published: u64,
    pub(super) received: u64,
    generator_cpu_micros: Option<u64>,
    server_cpu_micros: Option<u64>,
}

impl Measured {
    /// Puts rate and costs per one of `messages` into a report.
    pub(super) fn fill(self, messages: u64, report: &mut report::Report) {
        let per_message = |micros: Option<u64>| {
            Some(micros? as f64 / messages as f64).filter(|each| each.is_finite())
        };
        report.seconds = self.seconds;
        report.messages_per_second = messages as f64 / self.seconds;
        report.generator_cpu_micros_per_message = per_message(self.generator_cpu_micros);
        report.server_cpu_micros_per_message = per_message(self.server_cpu_micros);
        report.server_cpu_percent = self
            .server_cpu_micros
            .map(|micros| micros as f64 / self.seconds / 10_000.0);
    }
}

/// Watches the server's memory until it is dropped.
#[derive(Debug)]
pub(super) struct MemoryWatch {
    peak_kb: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl MemoryWatch {
    pub(super) fn start(pid: Option<u32>) -> Self {
        let peak_kb = Arc::new(AtomicU64::new(0));
        let watched = Arc::clone(&peak_kb);
        let task = tokio::spawn(async move {
            let Some(pid) = pid.map(|pid| pid.to_string()) else {
                return;
            };
            let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
            loop {
                ticks.tick().await;
                watched.fetch_max(process::resident_kb(&pid).unwrap_or(0), Relaxed);
            }
        });
        Self { peak_kb, task }
    }

    /// MB of 1,000,000 bytes; none if nothing was seen.
    pub(super) fn peak_mb(&self) -> Option<f64> {
        let peak_kb = self.peak_kb.load(Relaxed);
        (peak_kb > 0).then(|| megabytes(peak_kb))
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Resident memory of the server now, MB of 1,000,000 bytes; none if it cannot be told.
pub(super) fn resident_mb(plan: &Plan) -> Option<f64> {
    process::resident_kb(&plan.pid?.to_string()).map(megabytes)
}

/// Waits until the memory of the server grows no more.
pub(super) async fn settle(plan: &Plan) {
    let mut most = 0.0;
    let (start, mut since) = (now(), now());
    while now() - since < SETTLED_AFTER && now() - start < SETTLING_MAX {
        sleep(SETTLED_AFTER / 8).await;
        let resident = resident_mb(plan).unwrap_or(0.0);
        if resident > most {
            (most, since) = (resident, now());
        }
    }
}

fn megabytes(kb: u64) -> f64 {
    kb as f64 * 1_024.0 / 1_000_000.0
}

/// The time at which something is measured.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) fn now() -> Instant {
    Instant::now()
}
