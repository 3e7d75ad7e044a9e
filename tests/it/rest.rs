//! HTTP/JSON, by hand: what a REST client sees (docs/behaviour.md, section 20).

use std::io::{Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    PATIENCE, Pubsub,
    http::{Answer, call, send},
};

struct Rest {
    _pubsub: Pubsub,
    address: String,
}

impl Rest {
    async fn start() -> Self {
        let pubsub = Pubsub::on_system_clock().await;
        Self {
            address: pubsub.address(),
            _pubsub: pubsub,
        }
    }

    async fn call(&self, method: &str, target: &str, body: Value) -> Answer {
        call(&self.address, method, target, body).await
    }

    async fn get(&self, target: &str) -> Answer {
        self.call("GET", target, Value::Null).await
    }

    /// A server with one topic and one subscription.
    async fn with_subscription() -> Self {
        let rest = Self::start().await;
        rest.call("PUT", TOPIC, json!({})).await.expect(200);
        rest.call(
            "PUT",
            SUBSCRIPTION,
            json!({"topic": "projects/p/topics/letters"}),
        )
        .await
        .expect(200);
        rest
    }
}

const TOPIC: &str = "/v1/projects/p/topics/letters";
const SUBSCRIPTION: &str = "/v1/projects/p/subscriptions/desk";

fn error(answer: &Answer) -> (u64, String, String) {
    let error = &answer.json()["error"];
    let text = |name: &str| error[name].as_str().expect("a text").to_owned();
    (
        error["code"].as_u64().expect("a code"),
        text("status"),
        text("message"),
    )
}

#[tokio::test]
async fn a_message_goes_from_publish_to_ack() {
    let rest = Rest::with_subscription().await;
    let published = rest
        .call(
            "POST",
            &format!("{TOPIC}:publish"),
            json!({"messages": [
                {"data": "aGVsbG8=", "attributes": {"colour": "green"}, "ordering_key": "k"}
            ]}),
        )
        .await
        .expect(200);
    let id = published.json()["messageIds"][0]
        .as_str()
        .expect("an id")
        .to_owned();

    let pulled = rest
        .call(
            "POST",
            &format!("{SUBSCRIPTION}:pull"),
            json!({"maxMessages": 10}),
        )
        .await
        .expect(200);
    let received = &pulled.json()["receivedMessages"];
    assert_eq!(received.as_array().map(Vec::len), Some(1));
    let message = &received[0]["message"];
    assert_eq!(message["data"], "aGVsbG8=");
    assert_eq!(message["attributes"], json!({"colour": "green"}));
    assert_eq!(message["messageId"], id);
    assert_eq!(message["orderingKey"], "k");
    assert!(
        message["publishTime"]
            .as_str()
            .expect("a time")
            .ends_with('Z')
    );
    assert_eq!(received[0].get("deliveryAttempt"), None);

    let ids = json!({"ackIds": [received[0]["ackId"]]});
    let acked = rest
        .call("POST", &format!("{SUBSCRIPTION}:acknowledge"), ids)
        .await
        .expect(200);
    assert_eq!(acked.text(), "{}\n");
    assert_eq!(
        acked.header("content-type"),
        Some("application/json; charset=UTF-8")
    );
    let again = json!({"maxMessages": 10, "returnImmediately": true});
    let empty = rest
        .call("POST", &format!("{SUBSCRIPTION}:pull"), again)
        .await
        .expect(200);
    assert_eq!(empty.text(), "{}\n");
}

#[tokio::test]
async fn case_60_resources_are_created_changed_listed_and_deleted() {
    let rest = Rest::with_subscription().await;
    let shown = rest.get(SUBSCRIPTION).await.expect(200).json();
    assert_eq!(
        shown,
        json!({
            "name": "projects/p/subscriptions/desk",
            "topic": "projects/p/topics/letters",
            "pushConfig": {},
            "ackDeadlineSeconds": 10,
            "messageRetentionDuration": "604800s",
            "expirationPolicy": {"ttl": "2678400s"},
            "state": "ACTIVE",
        })
    );
    // The mask may be in the body or in the query, and written either way.
    let change =
        json!({"subscription": {"ackDeadlineSeconds": 20}, "updateMask": "ackDeadlineSeconds"});
    assert_eq!(
        rest.call("PATCH", SUBSCRIPTION, change)
            .await
            .expect(200)
            .json()["ackDeadlineSeconds"],
        20
    );
    for (mask, seconds) in [
        ("ackDeadlineSeconds", 30),
        ("ack_deadline_seconds,labels", 40),
    ] {
        let change = json!({"subscription": {"ackDeadlineSeconds": seconds}});
        let changed = rest
            .call(
                "PATCH",
                &format!("{SUBSCRIPTION}?updateMask={mask}"),
                change,
            )
            .await
            .expect(200);
        assert_eq!(changed.json()["ackDeadlineSeconds"], seconds);
    }
    let listed = rest
        .get("/v1/projects/p/subscriptions?pageSize=10")
        .await
        .expect(200)
        .json();
    assert_eq!(listed["subscriptions"].as_array().map(Vec::len), Some(1));
    let attached = rest
        .get(&format!("{TOPIC}/subscriptions"))
        .await
        .expect(200)
        .json();
    assert_eq!(
        attached,
        json!({"subscriptions": ["projects/p/subscriptions/desk"]})
    );
    assert_eq!(
        rest.get("/v1/projects/q/topics").await.expect(200).text(),
        "{}\n"
    );
    for target in [SUBSCRIPTION, TOPIC] {
        assert_eq!(
            rest.call("DELETE", target, Value::Null)
                .await
                .expect(200)
                .text(),
            "{}\n"
        );
        rest.get(target).await.expect(404);
    }
}

#[tokio::test]
async fn case_60_errors_are_googles_envelope() {
    let rest = Rest::with_subscription().await;
    let missing = rest.get("/v1/projects/p/topics/none").await.expect(404);
    let text = "Resource not found (resource=none).";
    assert_eq!(
        missing.text(),
        format!(
            "{{\n  \"error\": {{\n    \"code\": 404,\n    \"message\": \"{text}\",\n    \"status\": \"NOT_FOUND\"\n  }}\n}}\n"
        )
    );
    let existing = rest.call("PUT", TOPIC, json!({})).await.expect(409);
    assert_eq!(error(&existing).1, "ALREADY_EXISTS");
    let wrong = rest
        .call("PUT", "/v1/projects/p/topics/a$", json!({}))
        .await
        .expect(400);
    assert_eq!(error(&wrong).1, "INVALID_ARGUMENT");
    let unknown = rest
        .call(
            "POST",
            &format!("{TOPIC}:publish"),
            json!({"noSuchField": 1}),
        )
        .await
        .expect(400);
    let text = r#"Invalid JSON payload received. Unknown name "noSuchField": Cannot find field."#;
    assert_eq!(error(&unknown).2, text);
    assert_eq!(
        unknown.json()["error"]["details"],
        json!([{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"description": text}]}])
    );
    let later = rest
        .call("POST", &format!("{SUBSCRIPTION}:seek"), json!({}))
        .await
        .expect(501);
    assert_eq!(error(&later).1, "UNIMPLEMENTED");
    let later = rest.get("/v1/projects/p/schemas/abc").await.expect(501);
    assert_eq!(
        error(&later).2,
        "google.pubsub.v1.SchemaService/GetSchema is not implemented"
    );
    for list in ["schemas", "snapshots"] {
        let none = rest
            .get(&format!("/v1/projects/p/{list}"))
            .await
            .expect(200);
        assert_eq!(none.json(), json!({}), "{list}");
    }
}

#[tokio::test]
async fn case_60_what_is_no_route_is_404_in_html() {
    let rest = Rest::with_subscription().await;
    for (method, target) in [
        ("GET", "/v1/projects/p"),
        ("GET", "/v1/nothing"),
        ("POST", TOPIC),
        ("GET", "/v1/projects/p/topics/letters/"),
        ("DELETE", "/v1/projects/p/topics"),
        ("GET", "/robots.txt"),
        ("GET", "/v1/projects/p/topics/letters:fly"),
    ] {
        let answer = rest.call(method, target, Value::Null).await.expect(404);
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8"),
            "{method} {target}"
        );
    }
    assert_eq!(rest.get("/").await.expect(200).text(), "Ok");
}

#[tokio::test]
async fn names_may_be_encoded_and_projects_domain_scoped() {
    let rest = Rest::start().await;
    rest.call(
        "PUT",
        "/v1/projects/example.com%3Ap/topics/a%2525%2Bb",
        json!({}),
    )
    .await
    .expect(200);
    let name = "projects/example.com:p/topics/a%25+b";
    assert_eq!(
        rest.get("/v1/projects/example.com:p/topics/a%2525+b")
            .await
            .expect(200)
            .json()["name"],
        name
    );
    let body = json!({"messages": [{"data": "AA"}]});
    rest.call(
        "POST",
        "/v1/projects/example.com:p/topics/a%2525+b:publish",
        body,
    )
    .await
    .expect(200);
    let listed = rest
        .get("/v1/projects/example.com:p/topics")
        .await
        .expect(200);
    assert_eq!(listed.json()["topics"][0]["name"], name);
}

#[tokio::test]
async fn the_path_wins_and_a_body_that_contradicts_it_is_refused() {
    let rest = Rest::start().await;
    rest.call("PUT", TOPIC, json!({"name": "projects/p/topics/letters"}))
        .await
        .expect(200);
    let other = json!({"name": "projects/p/topics/other"});
    rest.call("PUT", "/v1/projects/p/topics/third", other)
        .await
        .expect(400);
    let nested = json!({"topic": {"name": "projects/p/topics/other"}, "updateMask": "labels"});
    rest.call("PATCH", TOPIC, nested).await.expect(400);
    rest.get("/v1/projects/p/topics/other").await.expect(404);
    rest.get("/v1/projects/p/topics/third").await.expect(404);
}

#[tokio::test]
async fn case_60_parameters_of_the_system_say_how_the_answer_is_wanted() {
    let rest = Rest::with_subscription().await;
    let compact = rest
        .get(&format!(
            "{TOPIC}?prettyPrint=false&key=k&%24.xgafv=2&quotaUser=q"
        ))
        .await
        .expect(200);
    assert_eq!(compact.text(), "{\"name\":\"projects/p/topics/letters\"}\n");
    let numbers = rest
        .get(&format!("{SUBSCRIPTION}?$alt=json;enum-encoding=int"))
        .await
        .expect(200);
    assert_eq!(numbers.json()["state"], 1);
    let part = rest
        .get("/v1/projects/p/topics?fields=topics(name)&alt=json")
        .await
        .expect(200);
    assert_eq!(
        part.json(),
        json!({"topics": [{"name": "projects/p/topics/letters"}]})
    );
    rest.get(&format!("{TOPIC}?alt=proto")).await.expect(400);
    rest.get(&format!("{TOPIC}?fields=((")).await.expect(400);
    let unknown = rest.get(&format!("{TOPIC}?nope=1")).await.expect(400);
    assert!(
        error(&unknown)
            .2
            .contains("Unknown name \"nope\": Cannot bind query parameter.")
    );
    for query in [
        "pageSize=x",
        "pageSize=1&pageSize=2",
        "pageSize=1&page_size=1",
        "project=projects/q",
    ] {
        rest.get(&format!("/v1/projects/p/topics?{query}"))
            .await
            .expect(400);
    }
    rest.get("/v1/projects/p/topics?project=projects/p&page_size=1")
        .await
        .expect(200);
}

#[tokio::test]
async fn gzip_goes_both_ways() {
    let rest = Rest::with_subscription().await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let data = "QUFB".repeat(1000);
    let body = json!({"messages": [{"data": data}]}).to_string();
    gzip.write_all(body.as_bytes()).expect("memory takes it");
    let gzip = gzip.finish().expect("memory takes it");
    let publish = format!("{TOPIC}:publish");
    send(
        &rest.address,
        "POST",
        &publish,
        &[("content-encoding", "gzip")],
        &gzip,
    )
    .await
    .expect(200);
    send(
        &rest.address,
        "POST",
        &publish,
        &[("content-encoding", "gzip")],
        &gzip[..20],
    )
    .await
    .expect(400);

    let pull = json!({"maxMessages": 1}).to_string();
    let headers = [("accept-encoding", "gzip")];
    let pulled = send(
        &rest.address,
        "POST",
        &format!("{SUBSCRIPTION}:pull"),
        &headers,
        pull.as_bytes(),
    )
    .await
    .expect(200);
    assert_eq!(pulled.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    GzDecoder::new(&pulled.body[..])
        .read_to_string(&mut text)
        .expect("gzip");
    assert!(text.contains(&data));
}

#[tokio::test]
async fn what_googles_reader_takes_beside_json_is_carried_out() {
    let rest = Rest::with_subscription().await;
    let ask = async |target: &str, body: &str| {
        let target = format!("/v1/projects/p/{target}");
        send(&rest.address, "POST", &target, &[], body.as_bytes()).await
    };
    let body = "\u{feff}{'messages': [{data: 'b25l', attributes: {'a': \"it's\"},},]}";
    ask("topics/letters:publish", body).await.expect(200);
    let body = r#"{"maxMessages": 10, "returnImmediately": "true"}"#;
    let pulled = ask("subscriptions/desk:pull", body).await.expect(200);
    let message = &pulled.json()["receivedMessages"][0]["message"];
    assert_eq!(message["data"], json!("b25l"));
    assert_eq!(message["attributes"], json!({"a": "it's"}));
    // A mark alone is an empty request.
    let refused = ask("topics/letters:publish", "\u{feff}").await.expect(400);
    assert!(error(&refused).2.contains("message_count"));
    ask("topics/letters:publish", "{'messages': [}")
        .await
        .expect(400);
}

#[tokio::test]
async fn the_largest_publish_fits_and_a_larger_one_is_refused() {
    let rest = Rest::with_subscription().await;
    let publish = format!("{TOPIC}:publish");
    // 9,999,000 bytes of data, which with their names are less than the 10,000,000 of a request.
    let large = json!({"messages": [{"data": "AAAA".repeat(3_333_000)}]});
    rest.call("POST", &publish, large).await.expect(200);
    let larger = json!({"messages": [{"data": "AAAA".repeat(3_334_000)}]});
    let refused = rest.call("POST", &publish, larger).await.expect(400);
    assert!(
        error(&refused)
            .2
            .starts_with("The value for request_size is too large."),
        "{}",
        refused.text()
    );
    let huge = json!({"messages": [{"data": "AAAA".repeat(4_500_000)}]});
    let refused = rest.call("POST", &publish, huge).await.expect(400);
    assert_eq!(
        error(&refused).2,
        "Request payload size exceeds the limit: 10485760 bytes."
    );
}

#[tokio::test]
async fn a_pull_whose_client_went_away_takes_nothing() {
    let rest = Rest::with_subscription().await;
    let pull = r#"{"maxMessages": 10}"#;
    let mut gone = TcpStream::connect(&rest.address)
        .await
        .expect("a connection");
    let head = format!(
        "POST {SUBSCRIPTION}:pull HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{pull}",
        pull.len()
    );
    gone.write_all(head.as_bytes())
        .await
        .expect("the request is sent");
    drop(gone);
    let body = json!({"messages": [{"data": "AA"}]});
    rest.call("POST", &format!("{TOPIC}:publish"), body)
        .await
        .expect(200);
    let pull = format!("{SUBSCRIPTION}:pull");
    let pulled = rest.call("POST", &pull, json!({"maxMessages": 10}));
    let pulled = tokio::time::timeout(PATIENCE, pulled)
        .await
        .expect("the message is there for others")
        .expect(200);
    assert_eq!(
        pulled.json()["receivedMessages"].as_array().map(Vec::len),
        Some(1)
    );
}
