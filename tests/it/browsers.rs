//! What web pages, and names that are not the server's, are answered.

use packetboat::auth::web::WebAccess;
use serde_json::{Value, json};
use tonic::transport::Endpoint;
use tower::ServiceExt;

use crate::support::{
    Client, Pubsub,
    admin::topic_name,
    http::{Answer, call, exchange, send},
    process::Process,
    raw,
};

const TOPIC: &str = "/v1/projects/p/topics/letters";
const PULL: &str = "/v1/projects/p/subscriptions/desk:pull";
const PUBLISH: &str = "/v1/projects/p/topics/letters:publish";
const LETTER: &str = r#"{"messages": [{"data": "aGVsbG8="}]}"#;

/// A topic with a subscription and a message.
async fn with_a_letter(address: &str) {
    let made = call(address, "PUT", TOPIC, json!({})).await;
    made.expect(200);
    let desk = json!({"topic": "projects/p/topics/letters"});
    let made = call(address, "PUT", "/v1/projects/p/subscriptions/desk", desk).await;
    made.expect(200);
    call(
        address,
        "POST",
        PUBLISH,
        json!({"messages": [{"data": "aGVsbG8="}]}),
    )
    .await
    .expect(200);
}

/// How many messages can be pulled.
async fn letters(address: &str) -> usize {
    let pull = json!({"maxMessages": 10, "returnImmediately": true});
    let pulled = call(address, "POST", PULL, pull).await.expect(200).json();
    pulled["receivedMessages"].as_array().map_or(0, Vec::len)
}

/// The answer to a request to `host` with further lines and a body.
async fn ask(address: &str, line: &str, host: &str, headers: &str, body: &str) -> Answer {
    let request = format!(
        "{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    let answer = exchange(address, request.as_bytes()).await;
    answer.expect("an answer")
}

#[track_caller]
fn assert_names(answer: &Answer, setting: &str) {
    let error: Value = answer.json();
    let text = error["error"]["message"].as_str().expect("a text");
    let variable = format!(
        "PACKETBOAT_{}",
        setting
            .trim_start_matches('-')
            .replace('-', "_")
            .to_uppercase()
    );
    assert!(text.contains(setting) && text.contains(&variable), "{text}");
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing_and_changes_nothing() {
    let pubsub = Pubsub::on_system_clock().await;
    let address = pubsub.address();
    with_a_letter(&address).await;
    for origin in [
        "https://evil.example",
        "http://evil.example",
        "null",
        "http://10.0.0.9:8085",
    ] {
        let headers = format!("origin: {origin}\r\ncontent-type: text/plain\r\n");
        let json = format!("origin: {origin}\r\ncontent-type: application/json\r\n");
        let pull = r#"{"maxMessages": 10, "returnImmediately": true}"#;
        for (line, body) in [
            (format!("POST {PULL}"), pull),
            (format!("POST {PUBLISH}"), LETTER),
            (format!("DELETE {TOPIC}"), ""),
            (format!("GET {TOPIC}"), ""),
            ("GET /healthz".to_owned(), ""),
        ] {
            for headers in [&headers, &json] {
                let refused = ask(&address, &line, &address, headers, body)
                    .await
                    .expect(403);
                assert_names(&refused, "--allowed-origin");
                let cors = refused
                    .headers
                    .iter()
                    .find(|(name, _)| name.starts_with("access-control-"));
                assert_eq!(cors, None, "{line}");
            }
        }
        let preflight = format!("{headers}access-control-request-method: DELETE\r\n");
        let refused = ask(
            &address,
            &format!("OPTIONS {TOPIC}"),
            &address,
            &preflight,
            "",
        )
        .await;
        assert_eq!(
            refused.expect(403).header("access-control-allow-origin"),
            None
        );
    }
    assert_eq!(letters(&address).await, 1);
}

#[tokio::test]
async fn a_page_of_this_machine_or_of_a_configured_site_may_do_everything() {
    let access = WebAccess {
        origins: vec!["https://console.example.com".parse().expect("an origin")],
        ..WebAccess::default()
    };
    let pubsub = Pubsub::for_web(access).await;
    let address = pubsub.address();
    with_a_letter(&address).await;
    let own = format!("http://{address}");
    for origin in ["http://localhost:3000", "https://console.example.com", &own] {
        let preflight = format!(
            "origin: {origin}\r\naccess-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n"
        );
        let allowed = ask(
            &address,
            &format!("OPTIONS {PUBLISH}"),
            &address,
            &preflight,
            "",
        )
        .await;
        let allowed = allowed.expect(200);
        assert_eq!(allowed.header("access-control-allow-origin"), Some(origin));
        assert_eq!(allowed.header("access-control-allow-methods"), Some("POST"));
        assert_eq!(
            allowed.header("access-control-allow-headers"),
            Some("content-type")
        );
        let json = format!("origin: {origin}\r\ncontent-type: application/json\r\n");
        let published = ask(
            &address,
            &format!("POST {PUBLISH}"),
            &address,
            &json,
            LETTER,
        )
        .await;
        let published = published.expect(200);
        assert_eq!(
            published.header("access-control-allow-origin"),
            Some(origin)
        );
        let vary = published.header("vary").expect("it depends on the origin");
        assert!(vary.contains("origin"), "{vary}");
        assert_eq!(published.header("access-control-allow-credentials"), None);
        // As a form or a page that asks nobody sends it.
        for content_type in ["content-type: text/plain\r\n", ""] {
            let simple = format!("origin: {origin}\r\n{content_type}");
            let refused = ask(
                &address,
                &format!("POST {PUBLISH}"),
                &address,
                &simple,
                LETTER,
            )
            .await;
            let text = refused.expect(415).json().to_string();
            assert!(text.contains("application/json"), "{text}");
        }
        let grpc_web = format!("origin: {origin}\r\ncontent-type: application/grpc-web+proto\r\n");
        let path = "POST /google.pubsub.v1.Publisher/Publish";
        let answer = ask(&address, path, &address, &grpc_web, "x")
            .await
            .expect(415);
        assert!(
            answer.text().contains("gRPC"),
            "it comes as far as the path: {answer:?}"
        );
    }
    let cross = "sec-fetch-site: cross-site\r\ncontent-type: text/plain\r\n";
    let refused = ask(
        &address,
        &format!("POST {PUBLISH}"),
        &address,
        cross,
        LETTER,
    )
    .await;
    refused.expect(415);
    // A client says neither, and sends what it likes.
    for headers in [
        "",
        "content-type: application/x-www-form-urlencoded\r\n",
        "sec-fetch-site: none\r\n",
    ] {
        let published = ask(
            &address,
            &format!("POST {PUBLISH}"),
            &address,
            headers,
            LETTER,
        )
        .await;
        let published = published.expect(200);
        assert_eq!(published.header("access-control-allow-origin"), None);
    }
    assert_eq!(letters(&address).await, 7);
}

#[tokio::test]
async fn a_name_of_somebody_else_s_that_points_to_this_machine_is_not_answered() {
    let pubsub = Pubsub::on_system_clock().await;
    let address = pubsub.address();
    with_a_letter(&address).await;
    let port = address.rsplit_once(':').expect("a port").1;
    for host in [
        "evil.example",
        "evil.example.",
        "127.0.0.1.evil.example",
        "ai.",
    ] {
        let host = format!("{host}:{port}");
        for line in [
            format!("POST {PULL}"),
            format!("GET {TOPIC}"),
            "GET /docs".to_owned(),
        ] {
            let refused = ask(&address, &line, &host, "", "").await.expect(403);
            assert_names(&refused, "--allowed-host");
        }
    }
    // What reaches a server that only this machine reaches: a port that is forwarded, containers of its own.
    for host in [
        "localhost:50123",
        "pubsub:8085",
        "host.docker.internal:8085",
        "pubsub.shop.svc.cluster.local",
        "[::1]:1",
    ] {
        ask(&address, "GET /healthz", host, "", "")
            .await
            .expect(200);
    }
    assert_eq!(letters(&address).await, 1);
}

#[tokio::test]
async fn a_reverse_proxy_with_a_public_name_needs_both_settings_on_loopback() {
    let host = "pb.example.com";
    let page = "origin: https://pb.example.com\r\n";
    let strict = Pubsub::on_system_clock().await;
    let address = strict.address();
    let refused = ask(&address, "GET /healthz", host, "", "")
        .await
        .expect(403);
    assert_names(&refused, "--allowed-host");

    let arguments = [
        "--ephemeral",
        "--listen",
        "127.0.0.1:0",
        "--allowed-host",
        host,
    ];
    let named = Process::serve(&arguments).await;
    let address = named.addresses[0].to_string();
    ask(&address, "GET /healthz", host, "", "")
        .await
        .expect(200);
    let refused = ask(&address, "GET /healthz", host, page, "")
        .await
        .expect(403);
    assert_names(&refused, "--allowed-origin");

    let environment = [
        ("PACKETBOAT_ALLOWED_HOST", "one.example,pb.example.com"),
        (
            "PACKETBOAT_ALLOWED_ORIGIN",
            "https://one.example,https://pb.example.com",
        ),
    ];
    let both = Process::serve_with(&arguments[..3], &environment).await;
    let address = both.addresses[0].to_string();
    let served = ask(&address, "GET /healthz", host, page, "")
        .await
        .expect(200);
    assert_eq!(
        served.header("access-control-allow-origin"),
        Some("https://pb.example.com")
    );
    ask(&address, "GET /healthz", "two.example", "", "")
        .await
        .expect(403);
}

#[tokio::test]
async fn where_other_machines_connect_any_name_is_answered_and_pages_are_not() {
    let arguments = ["--ephemeral", "--insecure", "--listen", "0.0.0.0:0"];
    let server = Process::serve(&arguments).await;
    let address = format!("127.0.0.1:{}", server.addresses[0].port());
    for host in ["pb.example.com", "pubsub:8085", "evil.example"] {
        ask(&address, "GET /healthz", host, "", "")
            .await
            .expect(200);
        for page in ["https://evil.example", "null"] {
            let page = format!("origin: {page}\r\n");
            ask(&address, "GET /healthz", host, &page, "")
                .await
                .expect(403);
        }
    }
    let own = "origin: http://pubsub:8085\r\n";
    ask(&address, "GET /healthz", "pubsub:8085", own, "")
        .await
        .expect(200);
    let unknown = "origin: http://evil.example\r\n";
    ask(&address, "GET /healthz", "evil.example", unknown, "")
        .await
        .expect(403);
}

#[tokio::test]
async fn grpc_is_answered_under_any_name_and_not_to_pages() {
    let pubsub = Pubsub::on_system_clock().await;
    let address = pubsub.address();
    let origin = "http://pubsub.googleapis.com".parse().expect("a URI");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let channel = endpoint.origin(origin).connect().await.expect("connected");
    let client = Client::new(channel.clone(), address.parse().expect("an address"));
    client.topic("letters").await;

    let page = |origin: &'static str| {
        let request = http::Request::post("/google.pubsub.v1.Publisher/GetTopic")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("origin", origin);
        let topic = topic_name("letters");
        let message = [&[10, topic.len() as u8][..], topic.as_bytes()].concat();
        let body = http_body_util::Full::new(bytes::Bytes::from(raw::frame(0, &message)));
        request
            .body(tonic::body::Body::new(body))
            .expect("a request")
    };
    for origin in ["https://evil.example", "null"] {
        let refused = channel
            .clone()
            .oneshot(page(origin))
            .await
            .expect("an answer");
        assert_eq!(refused.status(), 403);
        let status = tonic::Status::from_header_map(refused.headers()).expect("a status");
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        assert!(status.message().contains("--allowed-origin"), "{status:?}");
    }
    let served = channel.clone().oneshot(page("http://localhost:3000")).await;
    let served = served.expect("an answer");
    assert_eq!(
        (served.status(), served.headers().get("grpc-status")),
        (http::StatusCode::OK, None)
    );
    // The same connection with another protocol is judged by its name.
    let request = http::Request::get("/healthz").body(tonic::body::Body::empty());
    let refused = channel
        .oneshot(request.expect("a request"))
        .await
        .expect("an answer");
    assert_eq!(refused.status(), 403);
}

#[tokio::test]
async fn a_request_names_one_host_unless_it_is_of_http_1_0() {
    let pubsub = Pubsub::on_system_clock().await;
    let address = pubsub.address();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nconnection: close\r\nhost: a\r\nhost: a\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nconnection: close\r\nhost: a b\r\n\r\n",
            400,
        ),
        ("GET / HTTP/1.1\r\nconnection: close\r\nhost:\r\n\r\n", 400),
        (
            "GET http://evil.example/ HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\n\r\n",
            403,
        ),
        (
            "GET http://localhost/ HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\n\r\n",
            200,
        ),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\nhost: evil.example\r\n\r\n", 403),
        ("GET / HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n", 400),
    ] {
        let answer = exchange(&address, request.as_bytes())
            .await
            .expect("an answer");
        assert_eq!(answer.status, status, "{request}");
    }
    // Over HTTP/2 the two places have to agree.
    for (host, status) in [("localhost", 400), (&*address, 200)] {
        let request = http::Request::get("/").header("host", host);
        let request = request.body(tonic::body::Body::empty()).expect("a request");
        let answer = pubsub.channel().oneshot(request).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{host}");
    }
}

#[tokio::test]
async fn no_answer_is_framed_sniffed_or_run_by_another_page() {
    let pubsub = Pubsub::on_system_clock().await;
    let address = pubsub.address();
    with_a_letter(&address).await;
    for path in [
        "/",
        "/docs",
        "/docs/start.js",
        "/openapi.json",
        "/healthz",
        "/nothing",
        TOPIC,
    ] {
        let answer = send(&address, "GET", path, &[], b"").await;
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = answer.header("content-security-policy").expect(path);
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(!policy.contains("script-src") || path == "/docs", "{path}");
    }
    let page = send(&address, "GET", "/docs", &[], b"").await.expect(200);
    let inline = page
        .text()
        .split("<script")
        .skip(1)
        .find(|script| !script.starts_with(" src="));
    assert_eq!(inline, None);
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_refused() {
    use crate::support::{
        process::refusal,
        starts::{File, assert_says},
    };
    let arguments = ["serve", "--ephemeral", "--listen", "127.0.0.1:0"];
    let file = File::new("allowed_origin = ['console.example.com']\n");
    let line = refusal(&[&arguments[..], &["--config", file.path()]].concat()).await;
    assert_says(
        &line,
        &["allowed_origin", "console.example.com", "https://"],
    );
    let file = File::new("allowed_host = ['pb.example.com']\nallowed_origin = ['null']\n");
    let server = Process::serve(&[&arguments[1..], &["--config", file.path()]].concat()).await;
    let address = server.addresses[0].to_string();
    ask(&address, "GET /", "pb.example.com", "origin: null\r\n", "")
        .await
        .expect(200);
}
