use std::collections::BTreeSet;

use super::*;
use crate::proto::DESCRIPTORS;

fn routes() -> Routes {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("descriptors");
    Routes::read(&pool).expect("routes")
}

/// The RPC that a request means, with the values of its path.
fn found(method: &Method, path: &str) -> Option<(String, Vec<String>)> {
    let routes = routes();
    let (route, values) = routes.find(method, path).expect("UTF-8")?;
    Some((route.descriptor.name().to_owned(), values))
}

#[test]
fn every_rpc_of_pubsub_and_of_policies_but_the_stream_has_a_route() {
    let routes = routes();
    let known: BTreeSet<_> = routes.iter().map(|route| route.rpc.path).collect();
    let missing: Vec<_> = RPCS
        .iter()
        .map(|rpc| rpc.path)
        .filter(|path| path.starts_with("/google.") && !known.contains(path))
        .collect();
    assert_eq!(missing, ["/google.pubsub.v1.Subscriber/StreamingPull"]);
    assert!(known.iter().all(|path| path.starts_with("/google.")));
}

/// A browser sends GET for any page, without `Origin`.
#[test]
fn what_shows_messages_or_changes_anything_is_not_called_by_get() {
    for route in routes().iter().filter(|route| route.method == Method::GET) {
        let name = route.descriptor.name();
        assert!(
            name.starts_with("Get") || name.starts_with("List"),
            "{name}"
        );
    }
    for name in ["Pull", "Publish", "Acknowledge", "DeleteTopic"] {
        let routes = routes();
        let mut methods = routes
            .iter()
            .filter(|route| route.descriptor.name() == name);
        assert!(methods.any(|route| route.method != Method::GET), "{name}");
    }
}

#[test]
fn a_verb_is_not_part_of_a_name() {
    let topic = vec!["projects/p/topics/t".to_owned()];
    let path = "/v1/projects/p/topics/t:getIamPolicy";
    assert_eq!(
        found(&Method::GET, path),
        Some(("GetIamPolicy".into(), topic.clone()))
    );
    let path = "/v1/projects/p/topics/t";
    assert_eq!(
        found(&Method::GET, path),
        Some(("GetTopic".into(), topic.clone()))
    );
    assert_eq!(
        found(&Method::PATCH, path),
        Some(("UpdateTopic".into(), topic))
    );
    assert_eq!(found(&Method::POST, path), None);
}

#[test]
fn policies_have_the_routes_of_googles_service_configuration() {
    for collection in WITH_POLICY {
        let path = format!("/v1/projects/p/{collection}/x:getIamPolicy");
        assert!(found(&Method::GET, &path).is_some(), "{path}");
        assert!(found(&Method::POST, &path).is_none(), "{path}");
    }
    assert_eq!(found(&Method::GET, "/v1/projects/p:getIamPolicy"), None);
}
