//! Many connections with a thousand requests each of which only the beginning arrives.

use std::time::Duration;

use async_trait::async_trait;

use super::unfinished;
use crate::{Attack, Target, figures::Limits, is_long};

const REQUESTS: usize = 1000;

/// See the module.
pub(crate) struct HalfRequests;

/// Connections, and bytes of each request.
fn extent() -> (usize, usize) {
    if is_long() {
        (24, 64 * 1024)
    } else {
        (4, 32 * 1024)
    }
}

#[async_trait]
impl Attack for HalfRequests {
    fn name(&self) -> &'static str {
        "half requests"
    }

    fn limits(&self) -> Limits {
        let (connections, bytes) = extent();
        let sent_mib = connections * REQUESTS * bytes / (1024 * 1024);
        // No more than what all may hold, and as much again for what is beside the bodies.
        let growth_mib = sent_mib.min(1024) * 2;
        Limits {
            growth_mib: growth_mib as u64,
            p99: Duration::from_millis(500),
            ..Limits::default()
        }
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        let (connections, bytes) = extent();
        let open = unfinished::open(target, connections, REQUESTS, bytes).await;
        drop(open);
        Ok((connections * REQUESTS) as u64)
    }
}
