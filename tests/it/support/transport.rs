//! How the clients of the tests reach a server: over gRPC, or, with `PACKETBOAT_TEST_TRANSPORT=rest`, over REST for every
//! call that has a REST form. The same tests then say the same of both.

use std::{
    fmt::Write as _,
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
use prost_reflect::{
    DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, SerializeOptions,
};
use serde_json::{Map, Value, json};
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::Service;

use super::{
    admin::bare,
    backlog::pull_request,
    http::{Answer, try_send},
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

/// A call as REST has it.
struct RestForm {
    method: String,
    target: String,
    body: Option<Value>,
}

/// Why a call has no such form and goes over gRPC after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoForm {
    /// The RPC has no route.
    NoRoute,
    /// The name is not one that a path can hold: that it is refused shows over gRPC only.
    NotInPath,
    /// JSON cannot hold a value.
    NotJson,
}

/// Where an RPC is, as its annotation says; that of a policy as Google's service configuration says.
struct Rule {
    method: &'static str,
    template: String,
    body: String,
}

impl Rule {
    fn of(rpc: &MethodDescriptor, fields: &Map<String, Value>) -> Option<Self> {
        if rpc.parent_service().name() == "IAMPolicy" {
            let (method, verb, body) = match rpc.name() {
                "GetIamPolicy" => ("get", "getIamPolicy", ""),
                "SetIamPolicy" => ("post", "setIamPolicy", "*"),
                _ => ("post", "testIamPermissions", "*"),
            };
            let resource = fields.get("resource")?.as_str()?;
            let collection = resource.split('/').nth(2)?;
            return Some(Self {
                method,
                template: format!("/v1/{{resource=projects/*/{collection}/*}}:{verb}"),
                body: body.to_owned(),
            });
        }
        let http = POOL.get_extension_by_name("google.api.http");
        let http = http.expect("it is in the descriptors");
        let options = rpc.options();
        if !options.has_extension(&http) {
            return None;
        }
        let rule = options.get_extension(&http);
        let rule = rule.as_message().expect("a rule");
        let text = |name: &str| {
            let text = rule.get_field_by_name(name).expect("a field of a rule");
            text.as_str().expect("a text").to_owned()
        };
        let method = ["get", "put", "post", "delete", "patch"];
        let method = method.into_iter().find(|one| rule.has_field_by_name(one));
        let method = method.expect("a method");
        Some(Self {
            method,
            template: text(method),
            body: text("body"),
        })
    }
}

impl RestForm {
    fn of(rpc: &MethodDescriptor, message: &DynamicMessage) -> Result<Self, NoForm> {
        let mut fields = to_json(message).ok_or(NoForm::NotJson)?;
        let rule = Rule::of(rpc, &fields).ok_or(NoForm::NoRoute)?;
        let target = path(&rule.template, &mut fields).ok_or(NoForm::NotInPath)?;
        let (target, body) = match rule.body.as_str() {
            "*" => (target, Some(Value::Object(fields))),
            "" => (with_query(target, &fields), None),
            name => {
                let body = fields.remove(name);
                (with_query(target, &fields), body)
            }
        };
        Ok(Self {
            method: rule.method.to_ascii_uppercase(),
            target,
            body,
        })
    }
}

/// `None` if JSON cannot say the same, such as that a field mask has an empty path.
fn to_json(message: &DynamicMessage) -> Option<Map<String, Value>> {
    // Names as in the protos, as those of the templates are.
    let options = SerializeOptions::new().use_proto_field_name(true);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    let json = json.ok()?;
    let same = DynamicMessage::deserialize(message.descriptor(), &json).ok()? == *message;
    match json {
        Value::Object(fields) if same => Some(fields),
        _ => None,
    }
}

/// The template with the values of its variables, which are taken out of `fields`.
fn path(template: &str, fields: &mut Map<String, Value>) -> Option<String> {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, variable)) = rest.split_once('{') {
        let (variable, after) = variable.split_once('}')?;
        let (name, pattern) = variable.split_once('=')?;
        path.push_str(before);
        path.push_str(&encoded(&take(fields, name)?, pattern)?);
        rest = after;
    }
    path.push_str(rest);
    Some(path)
}

/// The value of a field whose name may have dots.
fn take(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    match name.split_once('.') {
        Some((outer, inner)) => take(fields.get_mut(outer)?.as_object_mut()?, inner),
        None => Some(fields.remove(name)?.as_str()?.to_owned()),
    }
}

/// `value` for a path, if it is of that pattern.
fn encoded(value: &str, pattern: &str) -> Option<String> {
    let (values, patterns) = (value.split('/'), pattern.split('/'));
    if values.clone().count() != patterns.clone().count() {
        return None;
    }
    let mut path = Vec::new();
    for (value, pattern) in values.zip(patterns) {
        if value.is_empty() || (pattern != "*" && pattern != value) {
            return None;
        }
        path.push(percent_encoded(value));
    }
    Some(path.join("/"))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes it");
        }
    }
    encoded
}

fn with_query(path: String, fields: &Map<String, Value>) -> String {
    let mut parameters = Vec::new();
    add_parameters("", fields, &mut parameters);
    if parameters.is_empty() {
        path
    } else {
        format!("{path}?{}", parameters.join("&"))
    }
}

/// Fields inside of fields have names with dots.
fn add_parameters(prefix: &str, fields: &Map<String, Value>, parameters: &mut Vec<String>) {
    for (name, value) in fields {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => add_parameters(&format!("{name}."), inner, parameters),
            Value::String(text) => parameters.push(format!("{name}={}", percent_encoded(text))),
            other => parameters.push(format!("{name}={other}")),
        }
    }
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
            let route = Rule::of(&rpc, &Map::new());
            assert_eq!(
                route.is_some(),
                !rpc.is_client_streaming(),
                "{}",
                rpc.name()
            );
        }
    }
}
