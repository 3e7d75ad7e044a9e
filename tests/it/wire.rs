//! Checks of every request before a handler gets it.

use futures_util::{StreamExt, stream};
use http::{Request, Version};
use http_body_util::BodyExt;
use packetboat::{
    auth::web::WebAccess,
    clock::Clock,
    limits,
    server::{self, Options, Server},
    storage::Storage,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};
use tower::ServiceExt;

use crate::support::{
    process::connect,
    raw::{assert_invalid, call, frame, gzip},
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const GET_TOPIC: &str = "/google.pubsub.v1.Publisher/GetTopic";
const ACKNOWLEDGE: &str = "/google.pubsub.v1.Subscriber/Acknowledge";
const MODIFY_ACK_DEADLINE: &str = "/google.pubsub.v1.Subscriber/ModifyAckDeadline";

const SERVED: [&str; 7] = [
    "google.iam.v1.IAMPolicy",
    "google.pubsub.v1.Publisher",
    "google.pubsub.v1.Subscriber",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "packetboat.admin.v1.Admin",
];

async fn serve() -> (Server, Channel) {
    let server = server::start(Options {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        web: WebAccess::default(),
        storage: Storage::Memory,
        clock: Clock::system(),
    })
    .await
    .expect("the server starts");
    let channel = connect(server.addresses()[0]).await;
    (server, channel)
}

/// Sends plain text and returns the whole answer.
async fn http1(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.addresses()[0])
        .await
        .expect("the server accepts connections");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the request is sent");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("the answer is text");
    answer
}

/// What another reader of HTTP/1.1 in front of the server may take for fewer requests, or for other ones.
#[tokio::test]
async fn what_another_reader_would_divide_otherwise_is_refused() {
    let (server, _channel) = serve().await;
    let publish = "POST /v1/projects/p/topics/t:publish HTTP/1.1";
    let get = "GET /healthz HTTP/1.1";
    let host = "host: localhost";
    let second = format!("{get}\r\n{host}\r\nconnection: close\r\n\r\n");
    for request in [
        // Ends of lines within a value: one that is none, and one that makes a line that is no header.
        format!("{get}\r\n{host}\r\nx: a\rcontent-length: 3\r\n\r\n"),
        format!("{get}\r\n{host}\r\nx: a\r\r\n\r\n"),
        format!("{get}\r\n{host}\r\nx: a\n{second}"),
        format!("{get}\r\n{host}\r\nx: a\r\n b\r\n\r\n"),
        format!("{get}\r\n{host}\r\nx: a\0b\r\n\r\n"),
        // Several lengths of a body.
        format!("{get}\r\n{host}\r\ncontent-length : 3\r\n\r\n"),
        format!("{get}\r\n{host}\r\ncontent-length: 0\r\ncontent-length: 3\r\n\r\n"),
        format!(
            "{publish}\r\n{host}\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{second}"
        ),
        format!(
            "{publish}\r\n{host}\r\ncontent-length: 5\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{second}"
        ),
        // Ends of lines between chunks.
        format!(
            "{publish}\r\n{host}\r\ntransfer-encoding: chunked\r\n\r\n2\n{{}}\r\n0\r\n\r\n{second}"
        ),
        format!(
            "{publish}\r\n{host}\r\ntransfer-encoding: chunked\r\n\r\n2;a\n{{}}\r\n0\r\n\r\n{second}"
        ),
    ] {
        let answer = http1(&server, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{request:?}: {answer}"
        );
    }
    // An LF ends a line like CR and LF together, everywhere in a head (RFC 9112, section 2.2), so that a request in
    // which there are both is divided alike by those that follow it. A proxy may pass no LF on within a value (RFC 9110,
    // section 5.5).
    let both = format!("{get}\n{host}\r\nx: a\n\n{second}");
    let answers = http1(&server, &both).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
}

#[tokio::test]
async fn health_says_serving_for_the_server_and_each_service() {
    let (_server, channel) = serve().await;
    let mut health = HealthClient::new(channel);
    for service in [
        "",
        "google.pubsub.v1.Publisher",
        "google.pubsub.v1.Subscriber",
    ] {
        let service = service.to_owned();
        let answer = health.check(HealthCheckRequest { service }).await;
        let status = answer.expect("an answer").into_inner().status();
        assert_eq!(status, ServingStatus::Serving);
    }
    let service = "google.pubsub.v1.SchemaService".to_owned();
    let unknown = health.check(HealthCheckRequest { service }).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_what_is_served_and_describes_it() {
    use v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let (_server, channel) = serve().await;
    let ask = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "google.pubsub.v1.Publisher.Publish".to_owned(),
        )),
    ];
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(stream::iter(questions))
        .await
        .expect("an answer")
        .into_inner();
    let mut next = async || {
        let answer = answers.next().await.expect("one answer per question");
        answer.expect("an answer").message_response
    };
    let Some(MessageResponse::ListServicesResponse(listed)) = next().await else {
        panic!("a list was asked for");
    };
    let mut names: Vec<_> = listed.service.into_iter().map(|one| one.name).collect();
    names.sort();
    assert_eq!(names, SERVED);
    let Some(MessageResponse::FileDescriptorResponse(described)) = next().await else {
        panic!("a description was asked for");
    };
    assert!(!described.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn tools_that_speak_the_older_reflection_see_the_same() {
    use v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let (_server, channel) = serve().await;
    let question = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(stream::iter([question]))
        .await
        .expect("an answer")
        .into_inner();
    let answer = answers
        .next()
        .await
        .expect("one answer")
        .expect("an answer");
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
        panic!("a list was asked for");
    };
    let mut names: Vec<_> = listed.service.into_iter().map(|one| one.name).collect();
    names.sort();
    assert_eq!(names, SERVED);
}

#[tokio::test]
async fn a_gzip_request_is_understood_and_answered_without_compression() {
    let (_server, channel) = serve().await;
    let service = "google.pubsub.v1.Publisher".to_owned();
    let message = HealthCheckRequest { service }.encode_to_vec();
    // A client may leave small messages as they are although it named an encoding.
    for body in [frame(1, &gzip(&message)), frame(0, &message)] {
        let (status, answer) = call(&channel, CHECK, Some("gzip"), body).await;
        assert_eq!(status.code(), Code::Ok, "{status:?}");
        assert_eq!(answer[0], 0);
        let answer = HealthCheckResponse::decode(&answer[5..]).expect("a message");
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
}

#[tokio::test]
async fn an_encoding_other_than_gzip_is_refused_with_those_that_are_understood() {
    let (_server, channel) = serve().await;
    let (status, _) = call(&channel, CHECK, Some("zstd"), frame(1, b"x")).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("zstd"), "{status:?}");
    let accepted = status.metadata().get("grpc-accept-encoding");
    assert_eq!(accepted.expect("named"), "identity,gzip");
}

#[tokio::test]
async fn a_request_larger_than_its_limit_gets_the_documented_answer() {
    let (_server, channel) = serve().await;
    let too_long = u32::try_from(limits::REQUEST_BYTES_MAX + 1).expect("fits");
    let header = |claimed: u32| [&[0], &claimed.to_be_bytes()[..]].concat();
    let text = "Request payload size exceeds the limit: 10485760 bytes.";
    // The claim alone is enough: nobody waits for 4 GiB, or makes room for them.
    assert_invalid(&channel, GET_TOPIC, None, header(u32::MAX), text).await;
    assert_invalid(&channel, GET_TOPIC, None, header(too_long), text).await;
    let body = frame(0, &vec![0; limits::REQUEST_BYTES_MAX + 1]);
    assert_invalid(&channel, GET_TOPIC, None, body, text).await;
    let text = "Request payload size exceeds the limit: 1024 bytes.";
    let body = frame(0, &vec![0; limits::QUESTION_BYTES_MAX + 1]);
    assert_invalid(&channel, CHECK, None, header(u32::MAX), text).await;
    assert_invalid(&channel, CHECK, None, body, text).await;
    let text = "Request payload size exceeds the limit: 524288 bytes.";
    for path in [ACKNOWLEDGE, MODIFY_ACK_DEADLINE] {
        let body = frame(0, &vec![0; limits::ACK_REQUEST_BYTES_MAX + 1]);
        assert_invalid(&channel, path, None, body, text).await;
    }
}

#[tokio::test]
async fn a_gzip_bomb_gets_the_answer_to_a_request_that_is_too_large() {
    let (_server, channel) = serve().await;
    // One field of 200 MiB.
    let field = [
        &[0x0a, 0x80, 0x80, 0x80, 0x64],
        &vec![0; 200 * 1024 * 1024][..],
    ]
    .concat();
    let bomb = frame(1, &gzip(&field));
    let text = "Request payload size exceeds the limit: 10485760 bytes.";
    assert_invalid(&channel, GET_TOPIC, Some("gzip"), bomb, text).await;
}

#[tokio::test]
async fn broken_frames_are_answered_with_invalid_argument() {
    let (_server, channel) = serve().await;
    let whole = gzip(b"a message");
    let cut = &whole[..whole.len() - 4];
    for (encoding, body, text) in [
        (Some("gzip"), frame(1, b"not gzip"), "not valid gzip"),
        (Some("gzip"), frame(1, cut), "not valid gzip"),
        (None, frame(1, &whole), "grpc-encoding"),
        (None, frame(7, b""), "compression flag 7"),
        (None, frame(0, b"cut off")[..8].to_vec(), "8 of 12 bytes"),
        (None, vec![0, 0], "2 of 5 bytes"),
        (None, Vec::new(), "no message"),
    ] {
        assert_invalid(&channel, CHECK, encoding, body, text).await;
    }
    // The connection serves on.
    let (status, _) = call(&channel, CHECK, None, frame(0, b"")).await;
    assert_eq!(status.code(), Code::Ok);
}

#[tokio::test]
async fn a_message_that_is_not_protobuf_or_not_utf8_is_answered_with_invalid_argument() {
    let (_server, channel) = serve().await;
    // Field 1, which is a string, with a byte that is not UTF-8; one that is longer than the message; a group.
    for message in [&[0x0a, 1, 0xff][..], &[0x0a, 200, 1], &[0x0b]] {
        assert_invalid(&channel, GET_TOPIC, None, frame(0, message), "").await;
    }
}

#[tokio::test]
async fn an_rpc_that_is_not_served_is_named_in_the_answer() {
    let (_server, channel) = serve().await;
    for method in [
        "google.pubsub.v1.SchemaService/CreateSchema",
        "google.iam.v1.IAMPolicy/NoSuchMethod",
        "google.pubsub.v1.Publisher/NoSuchMethod",
        "no.such.Service/Method",
        "nothing",
    ] {
        let path = format!("/{method}");
        let (status, _) = call(&channel, &path, None, frame(0, b"")).await;
        assert_eq!(status.code(), Code::Unimplemented, "{method}");
        assert_eq!(
            status.message(),
            format!("{method} is not implemented"),
            "{method}"
        );
    }
}

#[tokio::test]
async fn http1_and_http2_without_grpc_are_answered_in_plain_text() {
    let (server, channel) = serve().await;
    let answer = http1(
        &server,
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nOk"), "{answer}");
    let answer = http1(
        &server,
        "GET /v1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let post = format!(
        "POST {GET_TOPIC} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    let answer = http1(&server, &post).await;
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");

    let request = Request::get("/")
        .body(tonic::body::Body::empty())
        .expect("a request");
    let response = channel.oneshot(request).await.expect("an answer");
    assert_eq!(response.version(), Version::HTTP_2);
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "Ok");
}

#[tokio::test]
async fn a_server_that_stops_tells_health_watchers_and_then_ends_their_streams() {
    let (server, channel) = serve().await;
    let mut watched = HealthClient::new(channel)
        .watch(HealthCheckRequest::default())
        .await
        .expect("an answer")
        .into_inner();
    let first = watched.next().await.expect("a status").expect("a status");
    assert_eq!(first.status(), ServingStatus::Serving);
    let stopped = tokio::spawn(server.stop());
    let second = watched.next().await.expect("a status").expect("a status");
    assert_eq!(second.status(), ServingStatus::NotServing);
    let end = watched.next().await.expect("an end");
    assert_eq!(end.expect_err("an end").code(), Code::Unavailable);
    stopped.await.expect("the server stops");
}
