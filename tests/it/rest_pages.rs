//! What is served over HTTP beside the RPCs: health, the API's description, and a page that shows it.

use std::{io::Read, time::Duration};

use flate2::read::GzDecoder;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::support::{
    Pubsub,
    http::{Answer, call, send},
};

async fn get(address: &str, target: &str) -> Answer {
    call(address, "GET", target, Value::Null).await
}

#[tokio::test]
async fn health_names_both_backends() {
    let pubsub = Pubsub::on_system_clock().await;
    let health = get(&pubsub.address(), "/healthz").await.expect(200);
    assert_eq!(health.header("cache-control"), Some("no-store"));
    let memory = json!({"backend": "memory", "status": "ok"});
    let node = json!({"status": "ok"});
    let good = json!({"status": "ok", "node": node, "log": memory, "store": memory});
    assert_eq!(health.json(), good);
}

#[tokio::test]
async fn the_description_has_every_call_and_is_sent_compressed_to_those_who_ask() {
    let pubsub = Pubsub::start().await;
    let description = get(&pubsub.address(), "/openapi.json").await.expect(200);
    let document = description.json();
    assert_eq!(document["openapi"], "3.1.0");
    let publish = &document["paths"]["/v1/projects/{project}/topics/{topic}:publish"]["post"];
    let text = publish["description"].as_str().expect("a text");
    assert!(
        text.starts_with("Adds one or more messages to the topic."),
        "{text}"
    );
    let gzip = [("accept-encoding", "gzip")];
    let packed = send(&pubsub.address(), "GET", "/openapi.json", &gzip, b"").await;
    assert_is_packed(&packed);
    assert_eq!(unpacked(&packed.body), description.body);
}

/// Its length is known when it begins, so it was compressed before, once for everybody.
#[track_caller]
fn assert_is_packed(answer: &Answer) {
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let length = answer.header("content-length");
    assert_eq!(length, Some(&*answer.body.len().to_string()));
    let vary = answer.header("vary").expect("it depends on the client");
    assert!(vary.contains("accept-encoding"), "{vary}");
}

fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let read = GzDecoder::new(body).read_to_end(&mut content);
    read.expect("gzip");
    content
}

#[tokio::test]
async fn the_page_of_the_api_has_all_that_it_needs_in_the_server() {
    let pubsub = Pubsub::start().await;
    let address = pubsub.address();
    let page = get(&address, "/docs").await.expect(200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        !page.text().contains("//"),
        "it names another place: {}",
        page.text()
    );
    for (name, content_type) in [
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("swagger-ui.css", "text/css; charset=utf-8"),
    ] {
        let path = format!("/docs/{name}");
        assert!(page.text().contains(&path), "{path}");
        let plain = get(&address, &path).await.expect(200);
        assert_eq!(plain.header("content-type"), Some(content_type));
        assert!(plain.text().len() > 100_000, "{name} is whole");
        let gzip = [("accept-encoding", "br, gzip;q=0.8")];
        let packed = send(&address, "GET", &path, &gzip, b"").await.expect(200);
        assert_is_packed(&packed);
        assert_eq!(unpacked(&packed.body), plain.body);
    }
    let licence = get(&address, "/docs/LICENSE").await.expect(200);
    assert!(licence.text().contains("Apache License"));
    get(&address, "/docs/NOTICE").await.expect(200);
    get(&address, "/docs/index.html").await.expect(404);
}

#[tokio::test]
async fn a_head_request_is_answered_without_a_body_on_both_versions_of_http() {
    let pubsub = Pubsub::on_system_clock().await;
    let address = pubsub.address();
    for (path, status) in [
        ("/", 200),
        ("/healthz", 200),
        ("/docs", 200),
        ("/nothing", 404),
    ] {
        let answer = send(&address, "HEAD", path, &[], b"").await.expect(status);
        assert!(answer.body.is_empty(), "{path}");
        let request = http::Request::head(path).body(tonic::body::Body::empty());
        let answer = pubsub.channel().oneshot(request.expect("a request")).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let body = answer.into_body().collect().await.expect("no body");
        assert!(body.to_bytes().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn a_client_may_say_how_long_it_waits() {
    let pubsub = Pubsub::on_system_clock().await;
    let address = pubsub.address();
    let put = |target: &'static str, body: Value| {
        let address = address.clone();
        async move { call(&address, "PUT", target, body).await.expect(200) }
    };
    put("/v1/projects/p/topics/letters", json!({})).await;
    let desk = json!({"topic": "projects/p/topics/letters"});
    put("/v1/projects/p/subscriptions/desk", desk).await;
    let pull = "/v1/projects/p/subscriptions/desk:pull";
    let timeout = [("x-server-timeout", "0.4")];
    let started = Instant::now();
    let answer = send(&address, "POST", pull, &timeout, br#"{"maxMessages": 1}"#).await;
    assert_eq!(answer.expect(200).text(), "{}\n");
    assert!(started.elapsed() > Duration::from_millis(150));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn case_60_every_route_that_is_described_is_there() {
    let pubsub = Pubsub::start().await;
    let address = pubsub.address();
    let description = get(&address, "/openapi.json").await.expect(200).json();
    let paths = description["paths"].as_object().expect("paths");
    assert!(paths.len() > 20);
    for (path, methods) in paths {
        let path = path.replace(['{', '}'], "");
        for method in methods.as_object().expect("methods").keys() {
            let method = method.to_ascii_uppercase();
            let answer = call(&address, &method, &path, Value::Null).await;
            let json = answer.header("content-type") == Some("application/json; charset=UTF-8");
            let expected = [200, 400, 404, 501].contains(&answer.status);
            assert!(json && expected, "{method} {path}: {answer:?}");
        }
    }
}
