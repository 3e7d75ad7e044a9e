use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, MethodDescriptor};

use super::*;
use crate::proto::DESCRIPTORS;

/// Every RPC that is served, and those of Pub/Sub that are not here yet.
fn served() -> Vec<MethodDescriptor> {
    let files = [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let pools = files.map(|files| DescriptorPool::decode(files).expect("descriptors"));
    let services = pools.iter().flat_map(DescriptorPool::services);
    services
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

fn path(rpc: &MethodDescriptor) -> String {
    format!("/{}/{}", rpc.parent_service().full_name(), rpc.name())
}

#[test]
fn the_table_has_every_rpc_once_and_says_which_take_streams() {
    let known: BTreeSet<_> = RPCS.iter().map(|rpc| rpc.path.to_owned()).collect();
    let served = served();
    assert_eq!(known, served.iter().map(path).collect());
    assert_eq!(known.len(), RPCS.len());
    for descriptor in &served {
        let rpc = Rpc::at(&path(descriptor));
        let streams = rpc.requests == Requests::Stream;
        assert_eq!(streams, descriptor.is_client_streaming(), "{}", rpc.path);
        let names = (descriptor.parent_service(), descriptor);
        assert_eq!(rpc.names(), (names.0.full_name(), names.1.name()));
    }
}

#[test]
fn what_an_rpc_needs_is_a_permission_of_pubsub() {
    let needs = RPCS.iter().flat_map(|rpc| rpc.needs.concat());
    for Need { permission, .. } in needs {
        assert_eq!(Permission::named(permission.name()), Some(permission));
    }
}

#[test]
fn where_there_is_no_rpc_the_usual_limits_hold() {
    for path in [
        "",
        "/",
        "/google.pubsub.v1.Publisher/Fly",
        "/a/b/c",
        "google",
    ] {
        let rpc = Rpc::at(path);
        assert_eq!(rpc.path, "");
        assert_eq!(rpc.requests, Requests::One);
        assert_eq!(rpc.on_lost_lease, OnLostLease::Refused, "{path}");
    }
    let fly = Rpc::at("/grpc.health.v1.Health/Fly");
    assert_eq!((fly.path, fly.on_lost_lease), ("", OnLostLease::Answered));
}
