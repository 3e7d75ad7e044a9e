//! How the clients of the tests reach a server: over gRPC, or, with `PACKETBOAT_TEST_TRANSPORT=rest`, over REST for every
//! call that has a REST form. The same tests then say the same of both.

use std::{
    net::SocketAddr,
    sync::LazyLock,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use packetboat::proto::{
    DESCRIPTORS,
    google::{
        iam::v1::{GetIamPolicyRequest, GetPolicyOptions},
        pubsub::v1::{ListTopicsRequest, Topic, UpdateTopicRequest},
    },
};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::json;
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::Service;

use super::{
    admin::bare,
    backlog::pull_request,
    http::{Answer, try_send},
    rest_form::{NoForm, RestForm},
    values::{map, mask},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The way to one server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Transport {
    grpc: Channel,
    /// Where REST goes, if it does.
    rest: Option<SocketAddr>,
}

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("descriptors"));

impl Transport {
    pub(crate) fn new(grpc: Channel, address: SocketAddr) -> Self {
        let rest = match std::env::var("PACKETBOAT_TEST_TRANSPORT").as_deref() {
            Err(_) | Ok("grpc") => None,
            Ok("rest") => Some(address),
            Ok(other) => panic!("PACKETBOAT_TEST_TRANSPORT={other} is neither grpc nor rest"),
        };
        Self { grpc, rest }
    }

    /// The gRPC connection.
    pub(crate) const fn channel(&self) -> &Channel {
        &self.grpc
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::poll_ready(&mut self.grpc, context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let rpc = rpc(request.uri().path()).filter(|rpc| !rpc.is_client_streaming());
        let (Some(address), Some(rpc)) = (self.rest, rpc) else {
            let answer = self.grpc.call(request);
            return Box::pin(async { Ok(answer.await?) });
        };
        // The connection that is ready, for what turns out to have no REST form.
        let spare = self.grpc.clone();
        let grpc = std::mem::replace(&mut self.grpc, spare);
        Box::pin(over_rest(address, rpc, request, grpc))
    }
}

/// The RPC at a path of gRPC.
fn rpc(path: &str) -> Option<MethodDescriptor> {
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    let service = POOL.get_service_by_name(service)?;
    service.methods().find(|rpc| rpc.name() == name)
}

async fn over_rest(
    address: SocketAddr,
    rpc: MethodDescriptor,
    request: Request<Body>,
    mut grpc: Channel,
) -> Result<Response<Body>, BoxError> {
    let (head, body) = request.into_parts();
    let frame = body.collect().await?.to_bytes();
    let message = DynamicMessage::decode(rpc.input(), &frame[FRAME_HEADER_BYTES..]);
    let form = match message {
        Ok(message) => RestForm::of(&rpc, &message),
        Err(_) => Err(NoForm::NotJson),
    };
    let Ok(form) = form else {
        let body = http_body_util::Full::new(frame);
        return Ok(grpc
            .call(Request::from_parts(head, Body::new(body)))
            .await?);
    };
    let timeout = head.headers.get("grpc-timeout").map(seconds);
    let mut headers = vec![("content-type", "application/json")];
    if let Some(timeout) = &timeout {
        headers.push(("x-server-timeout", timeout));
    }
    let address = address.to_string();
    let body = form
        .body
        .map_or_else(Vec::new, |body| body.to_string().into());
    let answer = try_send(&address, &form.method, &form.target, &headers, &body).await;
    Ok(match answer {
        Ok(answer) => of_answer(&rpc, &answer),
        Err(error) => Status::unavailable(error.to_string()).into_http(),
    })
}

const FRAME_HEADER_BYTES: usize = 5;

/// A timeout of gRPC, which our clients give in microseconds, in seconds.
fn seconds(timeout: &HeaderValue) -> String {
    let micros = timeout
        .to_str()
        .ok()
        .and_then(|text| text.strip_suffix('u'));
    let micros: f64 = micros
        .and_then(|micros| micros.parse().ok())
        .expect("tonic gives microseconds");
    (micros / 1e6).to_string()
}

/// The answer as gRPC has it.
fn of_answer(rpc: &MethodDescriptor, answer: &Answer) -> Response<Body> {
    if answer.status != 200 {
        return status(answer).into_http();
    }
    let message = DynamicMessage::deserialize(rpc.output(), answer.json());
    let message = message.unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    let message = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(FRAME_HEADER_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("an answer is small"));
    frame.put_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(frame.freeze()), Frame::trailers(trailers)];
    let frames = frames.map(Ok::<Frame<Bytes>, Status>);
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(stream::iter(frames))))
        .expect("a response")
}

/// The error in Google's envelope, whose HTTP status has to be that of its word.
fn status(answer: &Answer) -> Status {
    let json = answer.json();
    let error = &json["error"];
    let word = error["status"].as_str().expect("an error has a status");
    let (_, code, http) = CODES
        .into_iter()
        .find(|(known, _, _)| *known == word)
        .unwrap_or_else(|| panic!("{word} is no status that a test expects"));
    assert_eq!(
        (answer.status, error["code"].as_u64()),
        (http, Some(u64::from(http)))
    );
    let message = error["message"].as_str().expect("an error has a message");
    let Some(details) = error.get("details") else {
        return Status::new(code, message);
    };
    let status = json!({"code": code as i32, "message": message, "details": details});
    let descriptor = POOL.get_message_by_name("google.rpc.Status");
    let descriptor = descriptor.expect("it is in the descriptors");
    let status = DynamicMessage::deserialize(descriptor, status).expect("details are messages");
    Status::with_details(code, message, status.encode_to_vec().into())
}

const CODES: [(&str, Code, u16); 10] = [
    ("INVALID_ARGUMENT", Code::InvalidArgument, 400),
    ("FAILED_PRECONDITION", Code::FailedPrecondition, 400),
    ("PERMISSION_DENIED", Code::PermissionDenied, 403),
    ("NOT_FOUND", Code::NotFound, 404),
    ("ALREADY_EXISTS", Code::AlreadyExists, 409),
    ("ABORTED", Code::Aborted, 409),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted, 429),
    ("INTERNAL", Code::Internal, 500),
    ("UNIMPLEMENTED", Code::Unimplemented, 501),
    ("UNAVAILABLE", Code::Unavailable, 503),
];

/// The form of a call, as one line.
fn form(path: &str, request: &impl prost::Message) -> Result<String, NoForm> {
    let rpc = rpc(path).expect("an RPC");
    let message = DynamicMessage::decode(rpc.input(), &*request.encode_to_vec());
    let form = RestForm::of(&rpc, &message.expect("a request"))?;
    let body = form.body.map_or_else(String::new, |body| body.to_string());
    Ok(format!("{} {} {body}", form.method, form.target))
}

const UPDATE_TOPIC: &str = "/google.pubsub.v1.Publisher/UpdateTopic";

fn update_topic(mask: &str) -> UpdateTopicRequest {
    UpdateTopicRequest {
        topic: Some(Topic {
            name: "projects/p/topics/a%b".to_owned(),
            labels: map(&[("a", "b")]),
            ..Topic::default()
        }),
        update_mask: self::mask(&[mask]),
    }
}

#[test]
fn calls_have_the_form_that_rest_gives_them() {
    let patch = r#"PATCH /v1/projects/p/topics/a%25b {"topic":{"labels":{"a":"b"}},"update_mask":"labels"}"#;
    let labels = update_topic("labels");
    assert_eq!(form(UPDATE_TOPIC, &labels).as_deref(), Ok(patch));
    let list = ListTopicsRequest {
        project: "projects/p".to_owned(),
        page_size: 3,
        page_token: "a/b".to_owned(),
    };
    assert_eq!(
        form("/google.pubsub.v1.Publisher/ListTopics", &list).as_deref(),
        Ok("GET /v1/projects/p/topics?page_size=3&page_token=a%2Fb ")
    );
    let pull = pull_request("projects/p/subscriptions/s", 1, false);
    assert_eq!(
        form("/google.pubsub.v1.Subscriber/Pull", &pull).as_deref(),
        Ok(r#"POST /v1/projects/p/subscriptions/s:pull {"max_messages":1}"#)
    );
    let get = GetIamPolicyRequest {
        resource: "projects/p/topics/t".to_owned(),
        options: Some(GetPolicyOptions {
            requested_policy_version: 3,
        }),
    };
    assert_eq!(
        form("/google.iam.v1.IAMPolicy/GetIamPolicy", &get).as_deref(),
        Ok("GET /v1/projects/p/topics/t:getIamPolicy?options.requested_policy_version=3 ")
    );
}

#[test]
fn only_what_rest_cannot_say_goes_over_grpc() {
    let create = "/google.pubsub.v1.Subscriber/CreateSubscription";
    let nameless = bare("", "projects/p/topics/t");
    assert_eq!(form(create, &nameless), Err(NoForm::NotInPath));
    assert_eq!(form(UPDATE_TOPIC, &update_topic("")), Err(NoForm::NotJson));
    for service in ["Publisher", "Subscriber"] {
        let service = POOL.get_service_by_name(&format!("google.pubsub.v1.{service}"));
        for rpc in service.expect("a service").methods() {
            let form = RestForm::of(&rpc, &DynamicMessage::new(rpc.input()));
            let has_route = !matches!(form, Err(NoForm::NoRoute));
            assert_eq!(has_route, !rpc.is_client_streaming(), "{}", rpc.name());
        }
    }
}
