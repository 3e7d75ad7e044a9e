//! Commits one after the other, or each at its time, and how long they took.

use std::{thread, time::Duration};

use tokio::time::Instant;

use crate::writer::Writer;

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) commits: usize,
    pub(crate) elapsed: Duration,
    /// From the start of a commit to its end.
    pub(crate) from_call: Latency,
    /// From the time a commit was due: includes what it waited for those before it. Only at a rate.
    pub(crate) from_schedule: Option<Latency>,
}

/// How long it took.
#[derive(Debug)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Latency {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(index).copied().unwrap_or_default()
        };
        Self {
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

/// Commits for `duration`, `rate` times per second if there is one.
pub(crate) async fn measure(
    writer: &mut Writer,
    rate: Option<u32>,
    duration: Duration,
) -> anyhow::Result<Measured> {
    let interval = rate.map(|rate| Duration::from_secs(1) / rate);
    let mut from_call = Vec::new();
    let mut from_schedule = Vec::new();
    let start = Instant::now();
    let mut due = start;
    while start.elapsed() < duration {
        if interval.is_some() {
            // Not tokio's sleep, whose timer has ticks of a millisecond. Nothing else runs on this thread.
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let called = Instant::now();
        writer.commit().await?;
        let done = Instant::now();
        from_call.push(done - called);
        if let Some(interval) = interval {
            from_schedule.push(done - due);
            due += interval;
        }
    }
    Ok(Measured {
        commits: from_call.len(),
        elapsed: start.elapsed(),
        from_call: Latency::of(from_call),
        from_schedule: interval.map(|_| Latency::of(from_schedule)),
    })
}
