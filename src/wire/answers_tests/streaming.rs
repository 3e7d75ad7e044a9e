//! What `google.pubsub.v1.Subscriber/StreamingPull` is asked, in the first request of a stream and later.

use serde_json::{Value, json};

use super::{
    cases::{Case, Kind::Subscription, Rpc, rpc},
    subscriber::{DETACHED, NOTHING, SUB},
    text::ACK_ID,
};

const NAME: &str = "Subscriber/StreamingPull";

pub(super) fn rpcs() -> Vec<Rpc> {
    let first = json!({"subscription": SUB, "streamAckDeadlineSeconds": 10});
    let mut streaming_pull = rpc(NAME, &first, &[("subscription", Subscription)], at_first());
    streaming_pull.cases.push(Case {
        title: "no request".to_owned(),
        requests: Vec::new(),
    });
    // Pings are answered, so that it shows where a stream ends.
    let first =
        json!({"subscription": SUB, "streamAckDeadlineSeconds": 10, "protocolVersion": "1"});
    let later = later().into_iter().map(|(title, second)| Case {
        title: format!("later: {title}"),
        requests: vec![first.clone(), second],
    });
    streaming_pull.cases.extend(later);
    vec![streaming_pull]
}

fn at_first() -> Vec<(&'static str, Value)> {
    vec![
        ("no deadline", json!({"streamAckDeadlineSeconds": 0})),
        ("9 seconds", json!({"streamAckDeadlineSeconds": 9})),
        ("601 seconds", json!({"streamAckDeadlineSeconds": 601})),
        ("-1 messages", json!({"maxOutstandingMessages": "-1"})),
        ("-1 bytes", json!({"maxOutstandingBytes": "-1"})),
        ("an ack id of nobody", json!({"ackIds": ["x"]})),
        (
            "a deadline without an ack id",
            json!({"modifyDeadlineSeconds": [10]}),
        ),
        (
            "an ack id without a deadline",
            json!({"modifyDeadlineAckIds": [ACK_ID]}),
        ),
        (
            "a deadline of 601 seconds",
            json!({"modifyDeadlineAckIds": [ACK_ID], "modifyDeadlineSeconds": [601]}),
        ),
        (
            "a wrong name and 9 seconds",
            json!({"subscription": "x", "streamAckDeadlineSeconds": 9}),
        ),
        (
            "of nothing, and 9 seconds",
            json!({"subscription": NOTHING, "streamAckDeadlineSeconds": 9}),
        ),
        (
            "of nothing, and a deadline without an ack id",
            json!({"subscription": NOTHING, "modifyDeadlineSeconds": [10]}),
        ),
        ("a detached one", json!({"subscription": DETACHED})),
        (
            "a detached one, and 9 seconds",
            json!({"subscription": DETACHED, "streamAckDeadlineSeconds": 9}),
        ),
        (
            "one of a deleted topic",
            json!({"subscription": "projects/p/subscriptions/orphan"}),
        ),
    ]
}

fn later() -> Vec<(&'static str, Value)> {
    vec![
        ("empty", json!({})),
        ("the subscription", json!({"subscription": SUB})),
        ("messages", json!({"maxOutstandingMessages": "1"})),
        ("bytes", json!({"maxOutstandingBytes": "1"})),
        ("a version", json!({"protocolVersion": "1"})),
        ("a client", json!({"clientId": "c"})),
        ("9 seconds", json!({"streamAckDeadlineSeconds": 9})),
        ("601 seconds", json!({"streamAckDeadlineSeconds": 601})),
        ("an ack id of nobody", json!({"ackIds": ["x"]})),
        (
            "a deadline without an ack id",
            json!({"modifyDeadlineSeconds": [10]}),
        ),
        (
            "a deadline of 601 seconds for an ack id of nobody",
            json!({"modifyDeadlineAckIds": ["x"], "modifyDeadlineSeconds": [601]}),
        ),
        (
            "a deadline of -1 seconds",
            json!({"modifyDeadlineAckIds": [ACK_ID], "modifyDeadlineSeconds": [-1]}),
        ),
        (
            "a version, bytes and messages",
            json!({"protocolVersion": "1", "maxOutstandingBytes": "1", "maxOutstandingMessages": "1"}),
        ),
        (
            "messages and 9 seconds",
            json!({"maxOutstandingMessages": "1", "streamAckDeadlineSeconds": 9}),
        ),
        (
            "9 seconds and a deadline without an ack id",
            json!({"streamAckDeadlineSeconds": 9, "modifyDeadlineSeconds": [10]}),
        ),
    ]
}
