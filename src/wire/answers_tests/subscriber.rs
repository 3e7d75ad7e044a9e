//! What the RPCs of `google.pubsub.v1.Subscriber` are asked that are not about messages.

use serde_json::{Value, json};

use super::{
    cases::{
        Kind::{Project, Snapshot, Subscription, Topic},
        Rpc, entries, entry, rpc, wrong_labels,
    },
    consumer,
    publisher::pages,
};

const TOP: &str = "projects/p/topics/top";
pub(super) const SUB: &str = "projects/p/subscriptions/sub";
pub(super) const DETACHED: &str = "projects/p/subscriptions/detached";
const ORPHAN: &str = "projects/p/subscriptions/orphan";
pub(super) const NOTHING: &str = "projects/p/subscriptions/nothing";

pub(super) fn rpcs() -> Vec<Rpc> {
    let named = json!({"subscription": SUB});
    let fields = [("subscription", Subscription)];
    vec![
        create_subscription(),
        rpc("Subscriber/GetSubscription", &named, &fields, others()),
        update_subscription(),
        rpc(
            "Subscriber/ListSubscriptions",
            &json!({"project": "projects/p"}),
            &[("project", Project)],
            pages(&json!({"project": "x"})),
        ),
        rpc("Subscriber/DeleteSubscription", &named, &fields, others()),
        consumer::modify_ack_deadline(),
        consumer::acknowledge(),
        consumer::pull(),
        rpc(
            "Subscriber/ModifyPushConfig",
            &json!({"subscription": SUB, "pushConfig": {}}),
            &fields,
            vec![(
                "a wrong endpoint",
                json!({"pushConfig": {"pushEndpoint": "x"}}),
            )],
        ),
    ]
}

pub(super) fn snapshots() -> Vec<Rpc> {
    let named = json!({"snapshot": "projects/p/snapshots/snap"});
    let snapshot = [("snapshot", Snapshot)];
    vec![
        rpc("Subscriber/GetSnapshot", &named, &snapshot, Vec::new()),
        rpc(
            "Subscriber/ListSnapshots",
            &json!({"project": "projects/p"}),
            &[("project", Project)],
            pages(&json!({"project": "x"})),
        ),
        rpc(
            "Subscriber/CreateSnapshot",
            &json!({"name": "projects/p/snapshots/snap", "subscription": SUB}),
            &[("name", Snapshot), ("subscription", Subscription)],
            vec![("65 labels", json!({"labels": entries(65)}))],
        ),
        rpc(
            "Subscriber/UpdateSnapshot",
            &json!({"snapshot": {"name": "projects/p/snapshots/snap"}, "updateMask": "labels"}),
            &[("snapshot.name", Snapshot)],
            vec![
                ("no snapshot", json!({"snapshot": null})),
                ("no mask", json!({"updateMask": null})),
            ],
        ),
        rpc("Subscriber/DeleteSnapshot", &named, &snapshot, Vec::new()),
        rpc(
            "Subscriber/Seek",
            &json!({"subscription": SUB, "time": "2020-01-01T00:00:00Z"}),
            &[("subscription", Subscription)],
            vec![
                ("to nothing", json!({"time": null})),
                (
                    "to a snapshot",
                    json!({"time": null, "snapshot": "projects/p/snapshots/snap"}),
                ),
                ("a detached one", json!({"subscription": DETACHED})),
            ],
        ),
    ]
}

/// Subscriptions that are not as others are.
pub(super) fn others() -> Vec<(&'static str, Value)> {
    vec![
        ("a detached one", json!({"subscription": DETACHED})),
        ("one of a deleted topic", json!({"subscription": ORPHAN})),
    ]
}

/// What is wrong with the settings of a subscription.
fn settings() -> Vec<(&'static str, Value)> {
    let wrong_labels = wrong_labels().into_iter();
    let mut settings: Vec<_> = wrong_labels
        .map(|(title, labels)| (title, json!({"labels": labels})))
        .collect();
    let deadline = |seconds: i32| json!({"ackDeadlineSeconds": seconds});
    let retention = |given: &str| json!({"messageRetentionDuration": given});
    let ttl = |given: &str| json!({"expirationPolicy": {"ttl": given}});
    let push = |config: Value| json!({"pushConfig": config});
    let dead = |topic: &str, attempts: i32| json!({"deadLetterPolicy": {"deadLetterTopic": topic, "maxDeliveryAttempts": attempts}});
    let retry = |min: &str, max: &str| json!({"retryPolicy": {"minimumBackoff": min, "maximumBackoff": max}});
    let url = "https://example.com/push";
    settings.extend([
        ("ack deadline of 9 seconds", deadline(9)),
        ("ack deadline of 601 seconds", deadline(601)),
        ("ack deadline of -1 seconds", deadline(-1)),
        ("retention of 599 seconds", retention("599s")),
        ("retention of more than 31 days", retention("2678400.000000001s")),
        ("negative retention", retention("-1s")),
        ("ttl of less than a day", ttl("86399s")),
        ("negative ttl", ttl("-1s")),
        (
            "retention above the ttl",
            json!({"messageRetentionDuration": "172801s", "expirationPolicy": {"ttl": "172800s"}}),
        ),
        ("a push endpoint that is none", push(json!({"pushEndpoint": "x"}))),
        (
            "a push format that is none",
            push(json!({"attributes": {"x-goog-version": "v9"}})),
        ),
        ("a push attribute that is none", push(json!({"attributes": {"a": "b"}}))),
        ("push", push(json!({"pushEndpoint": url}))),
        ("BigQuery", json!({"bigqueryConfig": {"table": "p.d.t"}})),
        ("Cloud Storage", json!({"cloudStorageConfig": {"bucket": "b"}})),
        (
            "Bigtable",
            json!({"bigtableConfig": {"table": "projects/p/instances/i/tables/t"}}),
        ),
        ("retained acks", json!({"retainAckedMessages": true})),
        ("dead letters to no topic", dead("", 5)),
        ("dead letters to a wrong name", dead("x", 5)),
        ("4 attempts", dead(TOP, 4)),
        ("101 attempts", dead(TOP, 101)),
        ("dead letters", dead(TOP, 5)),
        ("a negative backoff", retry("-1s", "10s")),
        ("a backoff of 601 seconds", retry("1s", "601s")),
        ("a smallest backoff above the largest", retry("20s", "10s")),
        ("a retry policy", retry("10s", "20s")),
        ("exactly once", json!({"enableExactlyOnceDelivery": true})),
        ("a transform", json!({"messageTransforms": [{}]})),
        (
            "an ack deadline and retention",
            json!({"ackDeadlineSeconds": 9, "messageRetentionDuration": "1s"}),
        ),
        (
            "retention and a ttl",
            json!({"messageRetentionDuration": "1s", "expirationPolicy": {"ttl": "1s"}}),
        ),
        (
            "a ttl and labels",
            json!({"expirationPolicy": {"ttl": "1s"}, "labels": entries(65)}),
        ),
        (
            "labels and dead letters",
            json!({"labels": entry("Key", ""), "deadLetterPolicy": {"deadLetterTopic": "x"}}),
        ),
        (
            "dead letters and a retry policy",
            json!({"deadLetterPolicy": {"deadLetterTopic": "x"}, "retryPolicy": {"minimumBackoff": "-1s"}}),
        ),
        (
            "a retry policy and a push endpoint",
            json!({"retryPolicy": {"minimumBackoff": "-1s"}, "pushConfig": {"pushEndpoint": "x"}}),
        ),
        (
            "exactly once, and a wrong retry policy",
            json!({"enableExactlyOnceDelivery": true, "retryPolicy": {"minimumBackoff": "-1s"}}),
        ),
        (
            "retention above the ttl, and exactly once",
            json!({
                "messageRetentionDuration": "172801s",
                "expirationPolicy": {"ttl": "172800s"},
                "enableExactlyOnceDelivery": true,
            }),
        ),
        (
            "two destinations",
            json!({"pushConfig": {"pushEndpoint": url}, "bigqueryConfig": {"table": "p.d.t"}}),
        ),
        (
            "push and exactly once",
            json!({"pushConfig": {"pushEndpoint": url}, "enableExactlyOnceDelivery": true}),
        ),
    ]);
    settings
}

fn create_subscription() -> Rpc {
    let no_topic = "projects/p/topics/nothing";
    let mut wrong = settings();
    wrong.extend([
        ("a filter of 257 bytes", json!({"filter": "f".repeat(257)})),
        ("a filter", json!({"filter": "attributes:kind"})),
        ("what is no filter", json!({"filter": "attributes.kind = 'x'"})),
        (
            "AND and OR in one filter",
            json!({"filter": "attributes:a AND attributes:b OR attributes:c"}),
        ),
        ("ordering", json!({"enableMessageOrdering": true})),
        (
            "a long filter and dead letters",
            json!({"filter": "f".repeat(257), "deadLetterPolicy": {"deadLetterTopic": "x"}}),
        ),
        (
            "labels and a long filter",
            json!({"labels": entries(65), "filter": "f".repeat(257)}),
        ),
        (
            "ordering and a wrong retry policy",
            json!({"enableMessageOrdering": true, "retryPolicy": {"minimumBackoff": "-1s"}}),
        ),
        (
            "a transform, ordering and a filter",
            json!({"messageTransforms": [{}], "enableMessageOrdering": true, "filter": "attributes:a"}),
        ),
        ("one that exists", json!({"name": SUB})),
        ("one that exists, to nothing", json!({"name": SUB, "topic": no_topic})),
        (
            "one that exists, and an ack deadline",
            json!({"name": SUB, "ackDeadlineSeconds": 9}),
        ),
        (
            "one that exists, and ordering",
            json!({"name": SUB, "enableMessageOrdering": true}),
        ),
        (
            "one that exists, and retention above the ttl",
            json!({
                "name": SUB,
                "messageRetentionDuration": "172801s",
                "expirationPolicy": {"ttl": "172800s"},
            }),
        ),
        ("to a deleted topic", json!({"topic": "projects/p/topics/gone"})),
        (
            "to nothing, and retention above the ttl",
            json!({
                "topic": no_topic,
                "messageRetentionDuration": "172801s",
                "expirationPolicy": {"ttl": "172800s"},
            }),
        ),
        ("both names are wrong", json!({"name": "x", "topic": "y"})),
        ("no name, and a wrong topic", json!({"name": null, "topic": "y"})),
        ("no name, to nothing", json!({"name": null, "topic": no_topic})),
        (
            "a wrong topic and an ack deadline",
            json!({"topic": "y", "ackDeadlineSeconds": 9}),
        ),
    ]);
    rpc(
        "Subscriber/CreateSubscription",
        &json!({"name": "projects/p/subscriptions/new", "topic": TOP}),
        &[("name", Subscription), ("topic", Topic)],
        wrong,
    )
}

fn update_subscription() -> Rpc {
    const EVERY_FIELD: &str = "ackDeadlineSeconds,messageRetentionDuration,labels,expirationPolicy,pushConfig,bigqueryConfig,cloudStorageConfig,bigtableConfig,retainAckedMessages,deadLetterPolicy,retryPolicy,enableExactlyOnceDelivery,messageTransforms";
    let settings = settings().into_iter();
    let mut wrong: Vec<_> = settings
        .map(|(title, subscription)| {
            (
                title,
                json!({"subscription": subscription, "updateMask": EVERY_FIELD}),
            )
        })
        .collect();
    wrong.extend([
        ("no subscription", json!({"subscription": null})),
        ("no mask", json!({"updateMask": null})),
        ("an empty mask", json!({"updateMask": ""})),
        ("a field that never changes", json!({"updateMask": "filter"})),
        ("a field of the server's", json!({"updateMask": "state"})),
        ("a field that is none", json!({"updateMask": "nonsense"})),
        ("a field of a field", json!({"updateMask": "pushConfig.pushEndpoint"})),
        (
            "a field that never changes, and one that is none",
            json!({"updateMask": "labels,topic,nonsense"}),
        ),
        (
            "retention above the ttl that it has",
            json!({
                "subscription": {"expirationPolicy": {"ttl": "86400s"}},
                "updateMask": "expirationPolicy",
            }),
        ),
        (
            "a wrong ack deadline beside the mask",
            json!({"subscription": {"ackDeadlineSeconds": 9}}),
        ),
        (
            "a wrong name and no mask",
            json!({"subscription": {"name": "x"}, "updateMask": null}),
        ),
        (
            "a wrong mask and ack deadline",
            json!({"subscription": {"ackDeadlineSeconds": 9}, "updateMask": "ackDeadlineSeconds,topic"}),
        ),
        (
            "labels before an ack deadline in the mask",
            json!({
                "subscription": {"ackDeadlineSeconds": 9, "labels": entries(65)},
                "updateMask": "labels,ackDeadlineSeconds",
            }),
        ),
        (
            "of nothing, and no mask",
            json!({"subscription": {"name": NOTHING}, "updateMask": null}),
        ),
        (
            "of nothing, and an ack deadline",
            json!({
                "subscription": {"name": NOTHING, "ackDeadlineSeconds": 9},
                "updateMask": "ackDeadlineSeconds",
            }),
        ),
        (
            "of nothing, and exactly once",
            json!({
                "subscription": {"name": NOTHING, "enableExactlyOnceDelivery": true},
                "updateMask": "enableExactlyOnceDelivery",
            }),
        ),
        ("a detached one", json!({"subscription": {"name": DETACHED}})),
        ("one of a deleted topic", json!({"subscription": {"name": ORPHAN}})),
    ]);
    rpc(
        "Subscriber/UpdateSubscription",
        &json!({"subscription": {"name": SUB, "labels": {"a": "b"}}, "updateMask": "labels"}),
        &[("subscription.name", Subscription)],
        wrong,
    )
}
