//! What the unary RPCs of `google.pubsub.v1.Subscriber` are asked that are about messages.

use serde_json::{Value, json};

use super::{
    cases::{Kind::Subscription, Rpc, rpc},
    subscriber::{DETACHED, NOTHING, SUB, others},
    text::ACK_ID,
};

/// What is wrong with ack ids.
fn ack_ids() -> Vec<(&'static str, Value)> {
    let mut wrong = others();
    wrong.extend([
        ("no ack id", json!({"ackIds": []})),
        ("an ack id of nobody", json!({"ackIds": ["x"]})),
        ("an empty ack id", json!({"ackIds": [""]})),
        (
            "an ack id of nobody behind a good one",
            json!({"ackIds": [ACK_ID, "x"]}),
        ),
        (
            "512 KiB of ack ids",
            json!({"ackIds": vec!["x".repeat(180); 3000]}),
        ),
        (
            "a wrong name and no ack id",
            json!({"subscription": "x", "ackIds": []}),
        ),
        (
            "a wrong name and an ack id of nobody",
            json!({"subscription": "x", "ackIds": ["x"]}),
        ),
        (
            "of nothing, and no ack id",
            json!({"subscription": NOTHING, "ackIds": []}),
        ),
        (
            "of nothing, and an ack id of nobody",
            json!({"subscription": NOTHING, "ackIds": ["x"]}),
        ),
        (
            "a detached one, and no ack id",
            json!({"subscription": DETACHED, "ackIds": []}),
        ),
        (
            "a detached one, and an ack id of nobody",
            json!({"subscription": DETACHED, "ackIds": ["x"]}),
        ),
    ]);
    wrong
}

pub(super) fn acknowledge() -> Rpc {
    rpc(
        "Subscriber/Acknowledge",
        &json!({"subscription": SUB, "ackIds": [ACK_ID]}),
        &[("subscription", Subscription)],
        ack_ids(),
    )
}

pub(super) fn modify_ack_deadline() -> Rpc {
    let mut wrong = ack_ids();
    wrong.extend([
        ("-1 seconds", json!({"ackDeadlineSeconds": -1})),
        ("0 seconds", json!({"ackDeadlineSeconds": 0})),
        ("601 seconds", json!({"ackDeadlineSeconds": 601})),
        (
            "601 seconds and a wrong name",
            json!({"ackDeadlineSeconds": 601, "subscription": "x"}),
        ),
        (
            "601 seconds and no ack id",
            json!({"ackDeadlineSeconds": 601, "ackIds": []}),
        ),
        (
            "601 seconds, of nothing",
            json!({"ackDeadlineSeconds": 601, "subscription": NOTHING}),
        ),
    ]);
    rpc(
        "Subscriber/ModifyAckDeadline",
        &json!({"subscription": SUB, "ackIds": [ACK_ID], "ackDeadlineSeconds": 20}),
        &[("subscription", Subscription)],
        wrong,
    )
}

pub(super) fn pull() -> Rpc {
    let mut wrong = others();
    wrong.extend([
        ("no number of messages", json!({"maxMessages": 0})),
        ("-1 messages", json!({"maxMessages": -1})),
        ("2,147,483,647 messages", json!({"maxMessages": i32::MAX})),
        (
            "a wrong name and no number",
            json!({"subscription": "x", "maxMessages": 0}),
        ),
        (
            "of nothing, and no number",
            json!({"subscription": NOTHING, "maxMessages": 0}),
        ),
        (
            "a detached one, and no number",
            json!({"subscription": DETACHED, "maxMessages": 0}),
        ),
    ]);
    rpc(
        "Subscriber/Pull",
        &json!({"subscription": SUB, "maxMessages": 1, "returnImmediately": true}),
        &[("subscription", Subscription)],
        wrong,
    )
}
