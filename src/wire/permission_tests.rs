//! Every RPC asks for its permission: on a server that allows nothing, nothing can be done.

use std::{collections::BTreeSet, sync::Arc};

use axum::body::Body;
use http::{Method, Request};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tower::ServiceExt;

use super::{
    calls::Calls,
    grpc::{self, health::Health},
    rest::{call::unary, service},
};
use crate::{
    auth::permission::{RPCS, rpc},
    clock::{Clock, Timestamp},
    proto::DESCRIPTORS,
    service::{Guarded, Service},
    store::{
        StateStore,
        memory::{MemoryLog, MemoryState},
    },
};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTORS).expect("descriptors")
}

/// A server that allows nothing, and what answers for it.
async fn closed() -> (Calls, Guarded) {
    let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_000_000_000));
    let state = MemoryState::new().expect("random bytes");
    let state = StateStore::new(Arc::new(state));
    let log = Arc::new(MemoryLog::new(clock.clone(), usize::MAX));
    let service = Service::start(state, log, clock).await.expect("a service");
    let service = Arc::new(service);
    let (_health, rpcs) = Health::new().await;
    let guarded = Guarded::closed(service);
    let routes = grpc::routes(&guarded, rpcs).expect("descriptors");
    let calls = Calls::new(routes, guarded.lease(), CancellationToken::new());
    (calls, guarded)
}

/// Every RPC of Pub/Sub, of policies and of ours.
fn rpcs() -> Vec<(String, MessageDescriptor)> {
    let pool = pool();
    let services = pool.services().filter(|service| {
        let name = service.full_name();
        name.starts_with("google.pubsub.")
            || name.starts_with("google.iam.")
            || name.starts_with("packetboat.")
    });
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .map(|rpc| {
            let name = format!("{}/{}", rpc.parent_service().full_name(), rpc.name());
            (name, rpc.input())
        })
        .collect()
}

/// A request in which every name is a valid one, so that nothing but the permission is missing.
fn request(message: &MessageDescriptor) -> DynamicMessage {
    let mut request = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let name = match (field.name(), message.name()) {
            ("project", _) => "projects/p",
            ("topic", _) | ("name", "Topic") if field.kind() == Kind::String => {
                "projects/p/topics/top"
            }
            ("resource", _) => "projects/p/topics/top",
            ("subscription", _) | ("name", "Subscription") if field.kind() == Kind::String => {
                "projects/p/subscriptions/sub"
            }
            ("snapshot", _) | ("name", "Snapshot") if field.kind() == Kind::String => {
                "projects/p/snapshots/snap"
            }
            ("topic" | "subscription" | "snapshot" | "policy", _) => {
                let Kind::Message(inner) = field.kind() else {
                    continue;
                };
                let inner = self::request(&inner);
                request.set_field(&field, Value::Message(inner));
                continue;
            }
            ("update_mask", _) => {
                let Kind::Message(mask) = field.kind() else {
                    continue;
                };
                let path = if message.name() == "SetIamPolicyRequest" {
                    "bindings"
                } else {
                    "labels"
                };
                let mut mask = DynamicMessage::new(mask);
                let paths = Value::List(vec![Value::String(path.to_owned())]);
                mask.set_field_by_name("paths", paths);
                request.set_field(&field, Value::Message(mask));
                continue;
            }
            _ => continue,
        };
        request.set_field(&field, Value::String(name.to_owned()));
    }
    request
}

#[test]
fn the_table_has_every_rpc() {
    let table: BTreeSet<_> = RPCS.iter().map(|rpc| rpc.name.to_owned()).collect();
    let served: BTreeSet<_> = rpcs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(table, served);
    for rpc in RPCS.iter().filter(|rpc| rpc.needs.is_empty()) {
        assert_eq!(rpc.name, rpc::TEST_PERMISSIONS.name);
    }
}

#[tokio::test]
async fn every_rpc_asks_before_it_does_anything() {
    let (calls, _service) = closed().await;
    for (name, message) in rpcs() {
        let request = request(&message).encode_to_vec();
        let answer = unary(&calls, &format!("/{name}"), request, None).await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        let expected = match name.as_str() {
            name if name == rpc::TEST_PERMISSIONS.name => Code::Ok,
            _ => Code::PermissionDenied,
        };
        assert_eq!(code, expected, "{name}");
    }
}

#[tokio::test]
async fn it_is_the_same_over_rest() {
    let (calls, guarded) = closed().await;
    let rest = service(calls, guarded).expect("routes");
    for (method, target) in [
        (Method::GET, "/v1/projects/p/topics"),
        (Method::PUT, "/v1/projects/p/topics/top"),
        (Method::POST, "/v1/projects/p/topics/top:publish"),
        (Method::POST, "/v1/projects/p/subscriptions/sub:pull"),
        (Method::DELETE, "/v1/projects/p/subscriptions/sub"),
        (Method::GET, "/v1/projects/p/topics/top:getIamPolicy"),
    ] {
        let request = Request::builder().method(&method).uri(target);
        let request = request.body(Body::empty()).expect("a request");
        let Ok(answer) = rest.clone().oneshot(request).await;
        assert_eq!(answer.status(), 403, "{method} {target}");
    }
}
