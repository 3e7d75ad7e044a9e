//! A node that may not speak for the cluster refuses every request: what it knows may have changed elsewhere.

use axum::body::Body;
use http::Response;
use tonic::Status;

use crate::service::Lease;

/// Calls that ask about this server only.
const ALWAYS_ANSWERED: &str = "/grpc.";

/// The refusal of a gRPC request for `path`, unless it may be answered.
pub fn refuse(lease: &Lease, path: &str) -> Option<Response<Body>> {
    if lease.holds() || path.starts_with(ALWAYS_ANSWERED) {
        return None;
    }
    let refused = Status::unavailable("this server cannot reach the state store; try again");
    Some(refused.into_http())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};

    #[test]
    fn without_a_lease_only_health_and_reflection_are_answered() {
        let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_000));
        let (lease, keeper) = Lease::kept(clock);
        let publish = "/google.pubsub.v1.Publisher/Publish";
        let refused = refuse(&lease, publish).expect("refused");
        assert_eq!(refused.headers()["grpc-status"], "14");
        assert!(refuse(&lease, "/grpc.health.v1.Health/Check").is_none());
        keeper.renew(Timestamp::from_millis(2_000));
        assert!(refuse(&lease, publish).is_none());
        assert!(refuse(&Lease::always(), publish).is_none());
    }
}
