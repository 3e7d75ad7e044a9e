//! What is answered to what is no request of any RPC, or is one that cannot be read, over gRPC and over REST.

use std::fmt::Write as _;

use bytes::Bytes;

use super::{
    call, text,
    world::{Situation, World},
};

const GET_TOPIC: &str = "/google.pubsub.v1.Publisher/GetTopic";
const STREAMING_PULL: &str = "/google.pubsub.v1.Subscriber/StreamingPull";
const TOPICS: &str = "/v1/projects/p/topics";

pub(super) async fn answers() -> String {
    let world = World::new(&Situation::Serving).await;
    let mut answers = String::new();
    for (title, path, frames) in bytes() {
        let answer = call::bytes(&world, path, frames).await.text(&world.ack_id);
        writeln!(answers, "== {title}\n{path}\n{answer}").expect("a string takes it");
    }
    for (method, target, body) in plain() {
        let (status, answer) = call::plain(&world, method, &target, body.clone()).await;
        let target = text::line(&target);
        let body = text::line(&body);
        let answer = text::body(&answer, &world.ack_id);
        let asked = format!("{method} {target} {body}");
        writeln!(answers, "== {}\nREST {status}\n{answer}", asked.trim_end())
            .expect("a string takes it");
    }
    answers
}

fn bytes() -> Vec<(&'static str, &'static str, Vec<Bytes>)> {
    let frame = call::frame;
    let large = vec![0; 10 * 1024 * 1024 + 1];
    let ack_ids = vec![0; 512 * 1024 + 1];
    vec![
        ("no message", GET_TOPIC, Vec::new()),
        ("two messages", GET_TOPIC, vec![frame(b""), frame(b"")]),
        (
            "half a header",
            GET_TOPIC,
            vec![Bytes::from_static(&[0, 0])],
        ),
        (
            "half a message",
            GET_TOPIC,
            vec![Bytes::from_static(&[0, 0, 0, 0, 9, 1])],
        ),
        (
            "a flag that is none",
            GET_TOPIC,
            vec![Bytes::from_static(&[7, 0, 0, 0, 0])],
        ),
        (
            "compressed, not said how",
            GET_TOPIC,
            vec![Bytes::from_static(&[1, 0, 0, 0, 0])],
        ),
        ("no protobuf", GET_TOPIC, vec![frame(&[0xff])]),
        (
            "a name that is no text",
            GET_TOPIC,
            vec![frame(&[0x0a, 1, 0xff])],
        ),
        (
            "a name that is cut off",
            GET_TOPIC,
            vec![frame(&[0x0a, 200, 1])],
        ),
        (
            "a field that is unknown",
            GET_TOPIC,
            vec![frame(&[0xf8, 0x07, 1])],
        ),
        ("more than 10 MiB", GET_TOPIC, vec![frame(&large)]),
        (
            "more than 512 KiB of ack ids",
            "/google.pubsub.v1.Subscriber/Acknowledge",
            vec![frame(&ack_ids)],
        ),
        (
            "a message of a publish that is none",
            "/google.pubsub.v1.Publisher/Publish",
            // {topic: "projects/p/topics/top", messages: [0xff]}
            vec![frame(b"\x0a\x15projects/p/topics/top\x12\x01\xff")],
        ),
        ("a stream without a request", STREAMING_PULL, Vec::new()),
        (
            "a stream that is no protobuf",
            STREAMING_PULL,
            vec![frame(&[0xff])],
        ),
        (
            "an RPC that is none",
            "/google.pubsub.v1.Publisher/Fly",
            vec![frame(b"")],
        ),
        (
            "a service that is none",
            "/google.pubsub.v1.Pilot/Fly",
            vec![frame(b"")],
        ),
    ]
}

fn plain() -> Vec<(&'static str, String, String)> {
    let mut asked = Vec::new();
    let mut ask = |method, target: &str, body: &str| {
        asked.push((method, target.to_owned(), body.to_owned()));
    };
    let top = format!("{TOPICS}/top");
    let sub = "/v1/projects/p/subscriptions/sub";
    // No route.
    ask("GET", "/v1", "");
    ask("GET", "/v1/projects/p", "");
    ask("GET", "/v1/projects/p/planes", "");
    ask("GET", "/v2/projects/p/topics", "");
    ask("POST", TOPICS, "{}");
    ask("PATCH", TOPICS, "{}");
    ask("PUT", "/v1/projects/p/subscriptions", "{}");
    ask("POST", &top, "{}");
    ask("POST", &format!("{top}:fly"), "{}");
    ask("GET", &format!("{top}:publish"), "");
    ask("GET", &format!("{top}/"), "");
    ask("GET", &format!("{top}/more"), "");
    ask("GET", "/v1//topics/top", "");
    ask("GET", "/v1/projects/p/topics/%ff", "");
    ask("GET", "/v1/projects/p/topics/a%2Fb", "");
    ask("GET", "/v1/projects/p/topics/ab", "");
    ask("GET", "/v1/projects/p/planes/top:getIamPolicy", "");
    // Queries.
    ask("GET", &format!("{top}?alt=xml"), "");
    ask("GET", &format!("{top}?fields=name("), "");
    ask("GET", &format!("{top}?fields=nonsense"), "");
    ask("GET", &format!("{top}?nonsense=1"), "");
    ask("GET", &format!("{top}?topic=projects/p/topics/other"), "");
    ask("GET", &format!("{TOPICS}?pageSize=x"), "");
    ask("GET", &format!("{TOPICS}?pageSize=1001"), "");
    ask("GET", &format!("{TOPICS}?page_size=1&pageSize=2"), "");
    ask("GET", &format!("{TOPICS}?pageSize=x&nonsense=1"), "");
    ask("GET", "/v1/projects/p/topics/ab?nonsense=1", "");
    ask("GET", "/v1/projects/p/topics/ab?prettyPrint=false", "");
    ask(
        "GET",
        &format!("{top}:getIamPolicy?options.requestedPolicyVersion=2"),
        "",
    );
    // Bodies.
    for body in [
        "",
        "{",
        "[]",
        "1",
        "null",
        "{}x",
        r#"{"nonsense":1}"#,
        r#"{"messages":1}"#,
        r#"{"messages":[1]}"#,
        r#"{"messages":[{"data":1}]}"#,
        r#"{"messages":[{"data":"!"}]}"#,
        r#"{"messages":[{"data":"b25l","nonsense":1}]}"#,
        r#"{"messages":[{"attributes":{"a":1}}]}"#,
        r#"{"messages":[{"data":"b25l","publishTime":"yesterday"}]}"#,
        r#"{"messages":[],"messages":[]}"#,
        r#"{"topic":"projects/p/topics/other","messages":[]}"#,
    ] {
        ask("POST", &format!("{top}:publish"), body);
    }
    let patch = |mask: &str| format!(r#"{{"topic":{{"labels":{{}}}},"updateMask":"{mask}"}}"#);
    ask("PATCH", &top, &patch("labels,name"));
    ask("PATCH", &top, &patch("a.b,"));
    ask("PATCH", &top, &patch("fooBar"));
    ask("PATCH", &top, &patch("foo_bar"));
    ask("PATCH", &top, r#"{"labels":{}}"#);
    ask(
        "PATCH",
        &format!("{top}?updateMask=name"),
        r#"{"topic":{}}"#,
    );
    ask(
        "PATCH",
        &top,
        r#"{"topic":{"name":"projects/p/topics/other"},"updateMask":"labels"}"#,
    );
    ask("PUT", &format!("{TOPICS}/new"), r#"{"labels":{"Key":1}}"#);
    ask(
        "PUT",
        &format!("{TOPICS}/new"),
        r#"{"messageRetentionDuration":"1h"}"#,
    );
    ask("PUT", &format!("{TOPICS}/new"), r#"{"state":"FLYING"}"#);
    ask("POST", &format!("{sub}:pull"), r#"{"maxMessages":"x"}"#);
    ask("POST", &format!("{sub}:pull"), r#"{"maxMessages":1.5}"#);
    ask(
        "POST",
        &format!("{sub}:pull"),
        r#"{"maxMessages":9999999999}"#,
    );
    ask("POST", &format!("{sub}:acknowledge"), r#"{"ackIds":[1]}"#);
    ask("POST", &format!("{sub}:acknowledge"), r#"{"ackIds":"x"}"#);
    ask(
        "POST",
        &format!("{sub}:acknowledge"),
        &" ".repeat(1024 * 1024 + 1),
    );
    ask("POST", &format!("{sub}:seek"), r#"{"time":"yesterday"}"#);
    asked
}
