//! What was measured, and what is too much.

use std::{
    fmt::{self, Display},
    time::Duration,
};

use crate::{
    neighbour::{Latencies, Times},
    server::Usage,
};

/// What a stretch of time cost the server and its neighbour.
pub(crate) struct Figures {
    lasted: Duration,
    cpu: Duration,
    /// By how much the most that was resident exceeds what was at the beginning.
    growth_bytes: u64,
    latencies: Latencies,
}

impl Figures {
    pub(crate) fn between(before: &Usage, after: &Usage, latencies: Latencies) -> Self {
        Self {
            lasted: after.at.saturating_duration_since(before.at),
            cpu: after.cpu.saturating_sub(before.cpu),
            growth_bytes: after.peak_bytes.saturating_sub(before.rss_bytes),
            latencies,
        }
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latencies {
            calls,
            deliveries,
            failed,
        } = &self.latencies;
        write!(
            f,
            "{:.1} s, CPU {:.2} s, RSS +{} MiB; neighbour: {} calls, p99 {:.1} ms, longest {:.1} ms; {} deliveries, p99 \
             {:.1} ms; {} failed",
            self.lasted.as_secs_f64(),
            self.cpu.as_secs_f64(),
            mib(self.growth_bytes),
            calls.len(),
            millis(calls.p99()),
            millis(calls.longest()),
            deliveries.len(),
            millis(deliveries.p99()),
            failed.len(),
        )
    }
}

/// What an attack may cost.
pub(crate) struct Limits {
    /// The neighbour's p99, unless its control was slow already.
    pub(crate) p99: Duration,
    /// By how much the server's memory may grow.
    pub(crate) growth_mib: u64,
    /// CPU of one request or connection of the attack; the control's share is not counted.
    pub(crate) cpu_of_one: Duration,
}

/// So many times the control's p99 is no fault, whatever the limit says: the machine is slow.
const SLOWER_MAX: u32 = 5;
/// But this is: what an attack leaves behind makes the control after it slow, too.
const P99_MAX: Duration = Duration::from_secs(1);
/// Where the neighbour waits so long before the attack, other processes have the machine, and its p99 tells nothing.
const TELLING_MAX: Duration = Duration::from_millis(100);

impl Default for Limits {
    fn default() -> Self {
        Self {
            p99: Duration::from_millis(50),
            growth_mib: 100,
            cpu_of_one: Duration::from_millis(100),
        }
    }
}

impl Limits {
    /// What was too much in an attack of so many requests.
    pub(crate) fn faults(
        &self,
        control: &[Figures; 2],
        figures: &Figures,
        requests: u64,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        let calls: fn(&Latencies) -> &Times = |latencies| &latencies.calls;
        let deliveries: fn(&Latencies) -> &Times = |latencies| &latencies.deliveries;
        for (what, of) in [("calls", calls), ("deliveries", deliveries)] {
            let during = of(&figures.latencies);
            let alone = control.iter().map(|control| of(&control.latencies).p99());
            let alone = alone.max().unwrap_or_default();
            let max = self.p99.max((alone * SLOWER_MAX).min(P99_MAX));
            let is_telling = of(&control[0].latencies).p99() <= TELLING_MAX;
            if is_telling && (during.is_empty() || during.p99() > max) {
                let (p99, max) = (millis(during.p99()), millis(max));
                faults.push(format!(
                    "the p99 of the neighbour's {what} was {p99:.1} ms, at most {max:.1} are allowed"
                ));
            }
        }
        if let Some(failed) = figures.latencies.failed.first() {
            faults.push(format!("a call of the neighbour failed: {failed}"));
        }
        if mib(figures.growth_bytes) > self.growth_mib {
            faults.push(format!(
                "the server's memory grew by {} MiB, at most {} are allowed",
                mib(figures.growth_bytes),
                self.growth_mib
            ));
        }
        let control = &control[0];
        let idle = control.cpu.as_secs_f64() / control.lasted.as_secs_f64();
        let idle = idle * figures.lasted.as_secs_f64();
        let requests = requests.max(1);
        let of_one = (figures.cpu.as_secs_f64() - idle) / requests as f64;
        if of_one > self.cpu_of_one.as_secs_f64() {
            faults.push(format!(
                "each of {requests} took {:.1} ms of CPU, at most {:.1} are allowed",
                of_one * 1000.0,
                millis(self.cpu_of_one)
            ));
        }
        faults
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}
