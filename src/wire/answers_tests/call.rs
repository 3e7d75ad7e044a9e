//! One call over gRPC and over REST, and its answers as text.

use std::{fmt::Write as _, sync::LazyLock};

use axum::body::Body;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde::Serialize;
use serde_json::Value;
use tonic::{Code, Status};

use super::{
    rest_form::{NoForm, RestForm},
    text,
    world::World,
};
use crate::proto::{DESCRIPTORS, google::rpc};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("descriptors"));

/// The packages whose RPCs are asked.
const PACKAGES: [&str; 3] = ["google.pubsub.v1", "google.iam.v1", "packetboat.admin.v1"];

/// Every RPC, as `Publisher/CreateTopic`, in the order of the protos.
pub(super) fn rpcs() -> Vec<String> {
    let services = POOL
        .services()
        .filter(|service| PACKAGES.contains(&service.package_name()));
    let methods = services.flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .map(|rpc| format!("{}/{}", rpc.parent_service().name(), rpc.name()))
        .collect()
}

/// The RPC that is `Publisher/CreateTopic`.
pub(super) fn method(rpc: &str) -> MethodDescriptor {
    let (service, method) = rpc.split_once('/').expect("a service and an RPC");
    let service = PACKAGES
        .iter()
        .find_map(|package| POOL.get_service_by_name(&format!("{package}.{service}")));
    let mut methods = service.expect("a service").methods().collect::<Vec<_>>();
    methods.retain(|one| one.name() == method);
    methods.pop().unwrap_or_else(|| panic!("{rpc} is no RPC"))
}

/// What was answered over gRPC.
pub(super) struct Answer {
    /// Messages, before the end.
    pub(super) messages: Vec<Value>,
    code: Code,
    message: String,
    details: Vec<String>,
    /// Headers and trailers that are not part of every answer.
    metadata: Vec<String>,
}

impl Answer {
    /// The messages of an answer that has to be OK.
    pub(super) fn expect_ok(self, what: &str) -> Vec<Value> {
        assert_eq!(self.code, Code::Ok, "{what}: {}", self.message);
        self.messages
    }

    pub(super) fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }

    /// The name of its code.
    pub(super) fn code(&self) -> &'static str {
        code_name(self.code)
    }

    /// All of it, a line for each part.
    pub(super) fn text(&self, ack_id: &str) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "gRPC {line}").expect("a string takes it");
        for message in &self.messages {
            line(format!(
                "sends {}",
                text::json(&text::scrubbed(message.clone(), ack_id))
            ));
        }
        let message = text::line(&self.message).replace(ack_id, text::ACK_ID);
        line(format!("{} {message}", self.code()).trim_end().to_owned());
        for detail in self.details.iter().chain(&self.metadata) {
            line(format!("with {detail}"));
        }
        text
    }

    /// The body of a REST error that says the same.
    fn in_json(&self, http: u16) -> String {
        #[derive(Serialize)]
        struct Envelope<'a> {
            error: Error<'a>,
        }
        #[derive(Serialize)]
        struct Error<'a> {
            code: u16,
            message: &'a str,
            status: &'a str,
        }
        let error = Error {
            code: http,
            message: &self.message,
            status: self.code(),
        };
        let mut body = serde_json::to_string_pretty(&Envelope { error }).expect("JSON");
        body.push('\n');
        body
    }
}

/// Asks `rpc` over gRPC and waits for the end of the answer. Several requests are those of a stream.
pub(super) async fn grpc(world: &World, rpc: &str, requests: &[Value]) -> Answer {
    let method = method(rpc);
    let frames = requests
        .iter()
        .map(|request| frame(&message(&method.input(), request).encode_to_vec()));
    bytes(world, &path(&method), frames.collect()).await
}

/// Asks with these frames, whatever is in them.
pub(super) async fn bytes(world: &World, path: &str, frames: Vec<Bytes>) -> Answer {
    let response = world.answer(request(path, stream::iter(frames))).await;
    finished(world, path, response).await
}

/// A call whose requests are `frames`.
pub(super) fn request(
    path: &str,
    frames: impl stream::Stream<Item = Bytes> + Send + 'static,
) -> Request<Body> {
    let frames = frames.map(|frame| Ok::<_, std::convert::Infallible>(Frame::data(frame)));
    Request::post(path)
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(frames)))
        .expect("a request")
}

/// The answer, once it has ended.
pub(super) async fn finished(world: &World, path: &str, response: http::Response<Body>) -> Answer {
    let (head, body) = response.into_parts();
    let collected = world.in_time(body.collect()).await.expect("a whole answer");
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let status = Status::from_header_map(&trailers)
        .or_else(|| Status::from_header_map(&head.headers))
        .expect("an answer ends with a status");
    let rpc = POOL
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    let output = rpc
        .into_iter()
        .find(|rpc| self::path(rpc) == path)
        .map(|rpc| rpc.output());
    let mut rest = collected.to_bytes();
    let mut messages = Vec::new();
    while rest.len() >= HEADER_BYTES {
        let header = rest.split_to(HEADER_BYTES);
        let length: [u8; 4] = header[1..].try_into().expect("four bytes");
        let message = rest.split_to(u32::from_be_bytes(length) as usize);
        let output = output.clone().expect("an answer of a known RPC");
        messages.push(json(
            &DynamicMessage::decode(output, message).expect("an answer"),
        ));
    }
    Answer {
        messages,
        code: status.code(),
        message: status.message().to_owned(),
        details: details(status.details()),
        metadata: metadata(&head.headers).chain(metadata(&trailers)).collect(),
    }
}

const HEADER_BYTES: usize = 5;

/// A message with its gRPC header.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a test's message is small"));
    frame.put_slice(message);
    frame.freeze()
}

/// Where gRPC has the RPC.
pub(super) fn path(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    format!("/{}/{}", service.full_name(), method.name())
}

fn message(descriptor: &MessageDescriptor, request: &Value) -> DynamicMessage {
    let message = DynamicMessage::deserialize(descriptor.clone(), request);
    let message = message.unwrap_or_else(|error| panic!("{error}: {}", text::json(request)));
    // A default that was given is no different from one that was not.
    let bytes = message.encode_to_vec();
    DynamicMessage::decode(descriptor.clone(), &*bytes).expect("our own bytes")
}

fn json(message: &DynamicMessage) -> Value {
    serde_json::to_value(message).expect("an answer has a form in JSON")
}

/// The details of a status; as bytes where they are of no known type.
fn details(bytes: &[u8]) -> Vec<String> {
    let Ok(status) = rpc::Status::decode(bytes) else {
        return vec![format!("damaged details {}", hex(bytes))];
    };
    let detail = |any: &prost_types::Any| {
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let known = POOL.get_message_by_name(name);
        let known = known.and_then(|known| DynamicMessage::decode(known, &*any.value).ok());
        match known {
            Some(known) => format!("{} {}", any.type_url, text::json(&json(&known))),
            None => format!("{} {}", any.type_url, hex(&any.value)),
        }
    };
    status.details.iter().map(detail).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes it");
        hex
    })
}

fn metadata(headers: &HeaderMap) -> impl Iterator<Item = String> {
    const OF_EVERY_ANSWER: [&str; 7] = [
        "content-type",
        "content-length",
        "date",
        "grpc-accept-encoding",
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
    ];
    let others = headers
        .iter()
        .filter(|(name, _)| !OF_EVERY_ANSWER.contains(&name.as_str()));
    others.map(|(name, value)| format!("{name}: {value:?}"))
}

/// Asks `rpc` over REST and compares with what gRPC answered; one line, or more where it is not the same.
pub(super) async fn rest(world: &World, rpc: &str, asked: &Value, grpc: &Answer) -> String {
    let method = method(rpc);
    let form = match RestForm::of(&method, &message(&method.input(), asked)) {
        Ok(form) => form,
        Err(NoForm::NoRoute) => return "REST has no such route\n".to_owned(),
        Err(NoForm::NotInPath) => return "REST has no path for it\n".to_owned(),
        Err(NoForm::NotJson) => return "REST has no JSON for it\n".to_owned(),
    };
    let body = form.body.map_or_else(String::new, |body| body.to_string());
    let answered = plain(world, &form.method, &form.target, body).await;
    let target = text::line(&form.target).replace(&world.ack_id, text::ACK_ID);
    let (status, body) = answered;
    let same = if grpc.is_ok() {
        let body = serde_json::from_str::<Value>(&body).ok();
        let output = |body| DynamicMessage::deserialize(method.output(), body).ok();
        let body = body.and_then(output).map(|body| json(&body));
        let scrub = |value: Value| text::scrubbed(value, &world.ack_id);
        status == 200 && body.map(scrub) == grpc.messages.first().cloned().map(scrub)
    } else {
        grpc.details.is_empty() && body == grpc.in_json(status)
    };
    let method = form.method;
    if same {
        format!("REST {status} the same to {method} {target}\n")
    } else {
        let body = text::body(&body, &world.ack_id);
        format!("REST {status} to {method} {target}\n{body}")
    }
}

/// Asks over HTTP; the answer's status and body.
pub(super) async fn plain(
    world: &World,
    method: &str,
    target: &str,
    body: String,
) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .expect("a request");
    let response = world.answer(request).await;
    let status = response.status().as_u16();
    let body = world.in_time(response.into_body().collect()).await;
    let body = body.expect("a whole answer").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
