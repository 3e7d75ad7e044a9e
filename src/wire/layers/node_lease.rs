//! A node that may not speak for the cluster refuses every request: what it knows may have changed elsewhere.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Buf;
use http::Response;
use http_body_util::BodyExt;
use tokio::time::timeout;
use tonic::Status;

use crate::{
    rpc::{OnLostLease, Rpc},
    service::NodeLease,
};

/// The refusal of a call of `rpc`, unless it may be answered.
pub fn refuse(node_lease: &NodeLease, rpc: &Rpc) -> Option<Response<Body>> {
    if node_lease.holds() || rpc.on_lost_lease == OnLostLease::Answered {
        return None;
    }
    let refused = Status::unavailable("this server cannot reach the state store; try again");
    Some(refused.into_http())
}

/// How long, and for how many bytes, the rest of a refused request is waited for.
const ARRIVES_WITHIN: Duration = Duration::from_millis(50);
const ARRIVING_BYTES_MAX: usize = 64 * 1024;

/// Lets a refused request arrive before it is answered, if that is soon: what comes for a stream that is gone counts as
/// the client's error, and HTTP/2 ends a connection with a thousand of those, with whatever else it carries.
pub async fn let_arrive(mut body: impl HttpBody<Data: Buf> + Unpin) {
    let arrives = async {
        let mut arrived = 0;
        while arrived < ARRIVING_BYTES_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            arrived += frame.data_ref().map_or(0, Buf::remaining);
        }
    };
    timeout(ARRIVES_WITHIN, arrives).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};

    #[test]
    fn without_a_lease_only_health_and_reflection_are_answered() {
        let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_000));
        let (node_lease, renewer) = NodeLease::renewable(clock.clone());
        let publish = Rpc::at("/google.pubsub.v1.Publisher/Publish");
        let refused = refuse(&node_lease, publish).expect("refused");
        assert_eq!(refused.headers()["grpc-status"], "14");
        assert!(refuse(&node_lease, Rpc::at("/grpc.health.v1.Health/Check")).is_none());
        renewer.renew(Timestamp::from_millis(2_000), clock.reading());
        assert!(refuse(&node_lease, publish).is_none());
        assert!(refuse(&NodeLease::always(), publish).is_none());
    }
}
