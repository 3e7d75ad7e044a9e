//! Every RPC asks for its permissions: on a server that allows nothing, nothing can be done, and what it was asked for
//! is what the public documentation says.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, Version};
use http_body_util::BodyExt;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::{
    calls::Calls,
    dispatch::Dispatch,
    grpc::{self, health::Health},
    rest::{self, Rest},
};
use crate::{
    auth::caller::Caller,
    clock::{Clock, Timestamp},
    proto::DESCRIPTORS,
    random::Random,
    resource::{
        name::{SubscriptionName, TopicName},
        subscription::SubscriptionSettings,
        topic::Topic,
    },
    rpc::RPCS,
    service::{Asked, Guarded, Service},
    store::{
        StateStore,
        memory::{MemoryLog, MemoryState},
    },
};

const PROJECT: &str = "projects/p";
const TOPIC: &str = "projects/p/topics/top";
const SUBSCRIPTION: &str = "projects/p/subscriptions/sub";
const SNAPSHOT: &str = "projects/p/snapshots/snap";
const SCHEMA: &str = "projects/p/schemas/sche";

/// A permission and the name on which it is asked for.
type Permission = (&'static str, &'static str);

/// What each RPC has to ask for, of the project, or of the topic, subscription, snapshot or schema that it names.
/// Written down apart from the table that the server reads (docs/behaviour.md, section 19).
const EXPECTED: [(&str, &[Permission]); 40] = [
    (
        "Publisher/CreateTopic",
        &[("pubsub.topics.create", PROJECT)],
    ),
    ("Publisher/UpdateTopic", &[("pubsub.topics.update", TOPIC)]),
    ("Publisher/Publish", &[("pubsub.topics.publish", TOPIC)]),
    ("Publisher/GetTopic", &[("pubsub.topics.get", TOPIC)]),
    ("Publisher/ListTopics", &[("pubsub.topics.list", PROJECT)]),
    (
        "Publisher/ListTopicSubscriptions",
        &[("pubsub.topics.get", TOPIC)],
    ),
    (
        "Publisher/ListTopicSnapshots",
        &[("pubsub.topics.get", TOPIC)],
    ),
    ("Publisher/DeleteTopic", &[("pubsub.topics.delete", TOPIC)]),
    // The request does not say which topic that is, and there is no such subscription here.
    (
        "Publisher/DetachSubscription",
        &[("pubsub.topics.detachSubscription", SUBSCRIPTION)],
    ),
    (
        "Subscriber/CreateSubscription",
        &[
            ("pubsub.subscriptions.create", PROJECT),
            ("pubsub.topics.attachSubscription", TOPIC),
        ],
    ),
    (
        "Subscriber/GetSubscription",
        &[("pubsub.subscriptions.get", SUBSCRIPTION)],
    ),
    (
        "Subscriber/UpdateSubscription",
        &[("pubsub.subscriptions.update", SUBSCRIPTION)],
    ),
    (
        "Subscriber/ListSubscriptions",
        &[("pubsub.subscriptions.list", PROJECT)],
    ),
    (
        "Subscriber/DeleteSubscription",
        &[("pubsub.subscriptions.delete", SUBSCRIPTION)],
    ),
    (
        "Subscriber/ModifyAckDeadline",
        &[("pubsub.subscriptions.consume", SUBSCRIPTION)],
    ),
    (
        "Subscriber/Acknowledge",
        &[("pubsub.subscriptions.consume", SUBSCRIPTION)],
    ),
    (
        "Subscriber/Pull",
        &[("pubsub.subscriptions.consume", SUBSCRIPTION)],
    ),
    (
        "Subscriber/StreamingPull",
        &[("pubsub.subscriptions.consume", SUBSCRIPTION)],
    ),
    (
        "Subscriber/ModifyPushConfig",
        &[("pubsub.subscriptions.update", SUBSCRIPTION)],
    ),
    (
        "Subscriber/GetSnapshot",
        &[("pubsub.snapshots.get", SNAPSHOT)],
    ),
    (
        "Subscriber/ListSnapshots",
        &[("pubsub.snapshots.list", PROJECT)],
    ),
    (
        "Subscriber/CreateSnapshot",
        &[
            ("pubsub.snapshots.create", PROJECT),
            ("pubsub.subscriptions.consume", SUBSCRIPTION),
        ],
    ),
    (
        "Subscriber/UpdateSnapshot",
        &[("pubsub.snapshots.update", SNAPSHOT)],
    ),
    (
        "Subscriber/DeleteSnapshot",
        &[("pubsub.snapshots.delete", SNAPSHOT)],
    ),
    (
        "Subscriber/Seek",
        &[("pubsub.subscriptions.consume", SUBSCRIPTION)],
    ),
    (
        "SchemaService/CreateSchema",
        &[("pubsub.schemas.create", PROJECT)],
    ),
    ("SchemaService/GetSchema", &[("pubsub.schemas.get", SCHEMA)]),
    (
        "SchemaService/ListSchemas",
        &[("pubsub.schemas.list", PROJECT)],
    ),
    (
        "SchemaService/ListSchemaRevisions",
        &[("pubsub.schemas.listRevisions", SCHEMA)],
    ),
    (
        "SchemaService/CommitSchema",
        &[("pubsub.schemas.commit", SCHEMA)],
    ),
    (
        "SchemaService/RollbackSchema",
        &[("pubsub.schemas.rollback", SCHEMA)],
    ),
    (
        "SchemaService/DeleteSchemaRevision",
        &[("pubsub.schemas.delete", SCHEMA)],
    ),
    (
        "SchemaService/DeleteSchema",
        &[("pubsub.schemas.delete", SCHEMA)],
    ),
    (
        "SchemaService/ValidateSchema",
        &[("pubsub.schemas.validate", PROJECT)],
    ),
    (
        "SchemaService/ValidateMessage",
        &[("pubsub.schemas.validate", PROJECT)],
    ),
    (
        "IAMPolicy/SetIamPolicy",
        &[("pubsub.topics.setIamPolicy", TOPIC)],
    ),
    (
        "IAMPolicy/GetIamPolicy",
        &[("pubsub.topics.getIamPolicy", TOPIC)],
    ),
    ("IAMPolicy/TestIamPermissions", &[]),
    ("Admin/AttachTopic", &[("pubsub.topics.create", PROJECT)]),
    ("Admin/DetachTopic", &[("pubsub.topics.delete", TOPIC)]),
];

/// A server that allows nothing.
struct Closed {
    service: Arc<Service>,
    guarded: Guarded,
    calls: Calls,
    rest: Rest,
}

impl Closed {
    async fn new() -> Self {
        let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_000_000_000));
        let state = MemoryState::new().expect("random bytes");
        let state = StateStore::new(Arc::new(state));
        let log = Arc::new(MemoryLog::new(clock.clone(), usize::MAX));
        let service = Arc::new(Service::start(state, log, clock, Random::seeded(1)));
        let (_health, rpcs) = Health::new().await;
        let guarded = Guarded::closed(Arc::clone(&service));
        let services = grpc::services(&guarded, rpcs).expect("descriptors");
        let calls = Calls::new(services, guarded.node_lease(), CancellationToken::new());
        let rest = rest::service(calls.clone(), guarded.clone()).expect("routes");
        Self {
            service,
            guarded,
            calls,
            rest,
        }
    }

    /// What a request is answered with that enters where all do.
    async fn enter(&self, request: Request<Body>) -> http::Response<Body> {
        let dispatch = Dispatch::new(self.calls.clone(), self.rest.clone());
        let Ok(answer) = dispatch.oneshot(request).await;
        answer
    }

    /// What was asked for since the last time.
    fn asked(&self) -> Vec<(&'static str, String)> {
        let asked = self.guarded.asked().into_iter();
        asked
            .map(|asked| {
                let Asked {
                    caller,
                    permission,
                    on,
                } = asked;
                assert_eq!(caller, Caller::Anonymous);
                (permission, on)
            })
            .collect()
    }
}

/// Every RPC of Pub/Sub, of policies and of ours: its path and its request.
fn rpcs() -> Vec<(String, MessageDescriptor)> {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("descriptors");
    let methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .map(|rpc| {
            let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
            (path, rpc.input())
        })
        .collect()
}

/// A request in which every name is a valid one, so that nothing but the permission is missing.
fn request(message: &MessageDescriptor) -> DynamicMessage {
    let mut request = DynamicMessage::new(message.clone());
    let of = message.name();
    for field in message.fields() {
        if let Kind::Message(inner) = field.kind() {
            let value = match field.name() {
                "topic" | "subscription" | "snapshot" | "policy" => self::request(&inner),
                "update_mask" => {
                    let path = match of {
                        "SetIamPolicyRequest" => "bindings",
                        _ => "labels",
                    };
                    let mut mask = DynamicMessage::new(inner);
                    let paths = Value::List(vec![Value::String(path.to_owned())]);
                    mask.set_field_by_name("paths", paths);
                    mask
                }
                _ => continue,
            };
            request.set_field(&field, Value::Message(value));
            continue;
        }
        let name = match field.name() {
            "project" | "parent" => PROJECT,
            "topic" | "resource" => TOPIC,
            "subscription" => SUBSCRIPTION,
            "snapshot" => SNAPSHOT,
            "name" => match of {
                "Topic" => TOPIC,
                "Subscription" => SUBSCRIPTION,
                "Snapshot" | "CreateSnapshotRequest" => SNAPSHOT,
                _ => SCHEMA,
            },
            _ => continue,
        };
        request.set_field(&field, Value::String(name.to_owned()));
    }
    request
}

fn call(path: &str, message: &[u8]) -> Request<Body> {
    let length = u32::try_from(message.len()).expect("small");
    let frame = [&[0], &length.to_be_bytes()[..], message].concat();
    Request::post(path)
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .body(Body::from(frame))
        .expect("a request")
}

fn ask(method: &Method, target: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(target);
    request.body(Body::empty()).expect("a request")
}

async fn status(answer: http::Response<Body>) -> Status {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a whole answer");
    let trailers = body.trailers().and_then(Status::from_header_map);
    let status = trailers.or_else(|| Status::from_header_map(&head.headers));
    status.expect("an answer ends with a status")
}

/// What the RPC at `path` has to ask for.
fn expected(path: &str) -> Vec<(&'static str, String)> {
    let name = path.rsplit(['.']).next().unwrap_or_default();
    let found = EXPECTED.iter().find(|(rpc, _)| *rpc == name);
    let (_, permissions) = found.unwrap_or_else(|| panic!("say what {name} has to ask for"));
    let permissions = permissions.iter();
    permissions
        .map(|(permission, on)| (*permission, (*on).to_owned()))
        .collect()
}

#[tokio::test]
async fn every_rpc_asks_for_its_permissions_before_it_does_anything() {
    let closed = Closed::new().await;
    let rpcs = rpcs();
    assert_eq!(rpcs.len(), EXPECTED.len());
    for (path, message) in rpcs {
        let request = call(&path, &request(&message).encode_to_vec());
        let code = status(closed.enter(request).await).await.code();
        let permissions = expected(&path);
        let allowed = if permissions.is_empty() {
            Code::Ok
        } else {
            Code::PermissionDenied
        };
        assert_eq!(code, allowed, "{path}");
        assert_eq!(closed.asked(), permissions, "{path}");
    }
}

#[tokio::test]
async fn policies_of_subscriptions_are_asked_for_as_such() {
    let closed = Closed::new().await;
    for (path, permission) in [
        (
            "/google.iam.v1.IAMPolicy/GetIamPolicy",
            "pubsub.subscriptions.getIamPolicy",
        ),
        (
            "/google.iam.v1.IAMPolicy/SetIamPolicy",
            "pubsub.subscriptions.setIamPolicy",
        ),
    ] {
        let mut rpcs = rpcs().into_iter();
        let (_, message) = rpcs.find(|rpc| rpc.0 == path).expect("an RPC");
        let mut message = request(&message);
        message.set_field_by_name("resource", Value::String(SUBSCRIPTION.to_owned()));
        let answer = closed.enter(call(path, &message.encode_to_vec())).await;
        assert_eq!(status(answer).await.code(), Code::PermissionDenied);
        assert_eq!(closed.asked(), [(permission, SUBSCRIPTION.to_owned())]);
    }
}

#[tokio::test]
async fn a_subscription_without_a_name_is_asked_for_in_its_topics_project() {
    let closed = Closed::new().await;
    let path = "/google.pubsub.v1.Subscriber/CreateSubscription";
    let mut rpcs = rpcs().into_iter();
    let (_, message) = rpcs.find(|rpc| rpc.0 == path).expect("an RPC");
    let mut message = request(&message);
    message.clear_field_by_name("name");
    closed.enter(call(path, &message.encode_to_vec())).await;
    assert_eq!(closed.asked(), expected(path));
}

#[tokio::test]
async fn to_detach_a_subscription_is_asked_for_on_its_topic() {
    let closed = Closed::new().await;
    let topic = TopicName::parse("name", TOPIC).expect("valid");
    let made = closed.service.create_topic(Topic::new(topic.clone()));
    made.await.expect("made");
    let name = SubscriptionName::parse("name", SUBSCRIPTION).expect("valid");
    let settings = SubscriptionSettings::default();
    let made = closed
        .service
        .create_subscription(Some(name), topic, settings);
    made.await.expect("made");
    let path = "/google.pubsub.v1.Publisher/DetachSubscription";
    let mut rpcs = rpcs().into_iter();
    let (_, message) = rpcs.find(|rpc| rpc.0 == path).expect("an RPC");
    let message = request(&message).encode_to_vec();
    let answer = closed.enter(call(path, &message)).await;
    assert_eq!(status(answer).await.code(), Code::PermissionDenied);
    let permission = "pubsub.topics.detachSubscription";
    assert_eq!(closed.asked(), [(permission, TOPIC.to_owned())]);
}

#[tokio::test]
async fn it_is_the_same_over_rest() {
    let closed = Closed::new().await;
    for (method, target, rpc) in [
        (Method::GET, "/v1/projects/p/topics", "ListTopics"),
        (Method::PUT, "/v1/projects/p/topics/top", "CreateTopic"),
        (Method::POST, "/v1/projects/p/topics/top:publish", "Publish"),
        (
            Method::POST,
            "/v1/projects/p/subscriptions/sub:pull",
            "Pull",
        ),
        (
            Method::DELETE,
            "/v1/projects/p/subscriptions/sub",
            "DeleteSubscription",
        ),
        (
            Method::GET,
            "/v1/projects/p/topics/top:getIamPolicy",
            "GetIamPolicy",
        ),
    ] {
        let answer = closed.enter(ask(&method, target)).await;
        assert_eq!(answer.status(), 403, "{method} {target}");
        let mut rpcs = RPCS.iter().filter(|known| known.names().1 == rpc);
        let path = rpcs.next().expect("an RPC").path;
        assert_eq!(closed.asked(), expected(path), "{method} {target}");
    }
}

#[tokio::test]
async fn what_comes_in_another_way_has_no_caller_and_is_not_carried_out() {
    let closed = Closed::new().await;
    for (path, message) in rpcs() {
        let request = call(&path, &request(&message).encode_to_vec());
        let held = closed.calls.budget().connection().request(0);
        let refused = status(closed.calls.clone().call(request, held).await).await;
        assert_eq!(refused.code(), Code::Internal, "{path}");
    }
    let request = ask(&Method::GET, "/v1/projects/p/topics");
    let Ok(answer) = closed.rest.clone().oneshot(request).await;
    assert_eq!(answer.status(), 500);
    assert_eq!(closed.asked(), []);
}
