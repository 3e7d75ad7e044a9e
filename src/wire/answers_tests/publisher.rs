//! What the RPCs of `google.pubsub.v1.Publisher` and of `packetboat.admin.v1.Admin` are asked.

use serde_json::{Value, json};

use super::cases::{
    Kind::{Project, Subscription, Topic},
    Rpc, entries, entry, rpc, wrong_labels, wrong_pages,
};

const TOP: &str = "projects/p/topics/top";

pub(super) fn rpcs() -> Vec<Rpc> {
    let topic = json!({"topic": TOP});
    let subscription = json!({"subscription": "projects/p/subscriptions/sub"});
    let project = json!({"project": "projects/p"});
    vec![
        create_topic(),
        update_topic(),
        publish(),
        rpc(
            "Publisher/GetTopic",
            &topic,
            &[("topic", Topic)],
            vec![(
                "a deleted topic",
                json!({"topic": "projects/p/topics/gone"}),
            )],
        ),
        rpc(
            "Publisher/ListTopics",
            &project,
            &[("project", Project)],
            pages(&json!({"project": "x"})),
        ),
        rpc(
            "Publisher/ListTopicSubscriptions",
            &topic,
            &[("topic", Topic)],
            [
                pages(&json!({"topic": "x"})),
                vec![
                    (
                        "of nothing, and page size",
                        json!({"topic": "projects/p/topics/nothing", "pageSize": -1}),
                    ),
                    (
                        "of a deleted topic",
                        json!({"topic": "projects/p/topics/gone"}),
                    ),
                ],
            ]
            .concat(),
        ),
        rpc(
            "Publisher/ListTopicSnapshots",
            &topic,
            &[("topic", Topic)],
            wrong_pages(),
        ),
        rpc(
            "Publisher/DeleteTopic",
            &topic,
            &[("topic", Topic)],
            vec![(
                "a deleted topic",
                json!({"topic": "projects/p/topics/gone"}),
            )],
        ),
        rpc(
            "Publisher/DetachSubscription",
            &subscription,
            &[("subscription", Subscription)],
            vec![
                (
                    "a detached one",
                    json!({"subscription": "projects/p/subscriptions/detached"}),
                ),
                (
                    "one of a deleted topic",
                    json!({"subscription": "projects/p/subscriptions/orphan"}),
                ),
            ],
        ),
    ]
}

pub(super) fn admin() -> Vec<Rpc> {
    vec![
        rpc(
            "Admin/AttachTopic",
            &json!({"topic": "projects/p/topics/new", "kafkaTopic": "orders"}),
            &[("topic", Topic)],
            vec![
                ("no Kafka topic", json!({"kafkaTopic": null})),
                ("a topic that exists", json!({"topic": TOP})),
                (
                    "no Kafka topic, and a wrong name",
                    json!({"kafkaTopic": null, "topic": "x"}),
                ),
            ],
        ),
        rpc(
            "Admin/DetachTopic",
            &json!({"topic": TOP}),
            &[("topic", Topic)],
            vec![(
                "a deleted topic",
                json!({"topic": "projects/p/topics/gone"}),
            )],
        ),
    ]
}

/// Wrong pages, and one of a wrong name.
pub(super) fn pages(wrong_name: &Value) -> Vec<(&'static str, Value)> {
    let mut both = wrong_name.clone();
    both["pageSize"] = json!(-1);
    let mut pages = wrong_pages();
    pages.push(("a wrong name, and page size", both));
    pages
}

/// What is wrong with the settings of a topic.
fn settings() -> Vec<(&'static str, Value)> {
    let wrong_labels = wrong_labels().into_iter();
    let mut settings: Vec<_> = wrong_labels
        .map(|(title, labels)| (title, json!({"labels": labels})))
        .collect();
    let retention = |given: &str| json!({"messageRetentionDuration": given});
    let regions =
        |regions: Value| json!({"messageStoragePolicy": {"allowedPersistenceRegions": regions}});
    settings.extend([
        ("no region", regions(json!([]))),
        ("101 regions", regions(json!(vec!["r"; 101]))),
        ("a region of 256 bytes", regions(json!(["r".repeat(256)]))),
        ("a KMS key that is none", json!({"kmsKeyName": "key"})),
        (
            "a KMS key of more than 1,024 bytes",
            json!({"kmsKeyName": format!("projects/p/locations/l/keyRings/r/cryptoKeys/{}", "k".repeat(1024))}),
        ),
        ("retention of 599 seconds", retention("599s")),
        ("retention of more than 31 days", retention("2678400.000000001s")),
        ("negative retention", retention("-1s")),
        ("retention", retention("600s")),
        (
            "a schema",
            json!({"schemaSettings": {"schema": "projects/p/schemas/sch"}}),
        ),
        ("a schema's wrong name", json!({"schemaSettings": {"schema": "x"}})),
        (
            "ingestion",
            json!({"ingestionDataSourceSettings": {"awsKinesis": {"streamArn": "a"}}}),
        ),
        (
            "a transform",
            json!({"messageTransforms": [{"javascriptUdf": {"functionName": "f"}}]}),
        ),
        (
            "labels and regions",
            json!({"labels": entries(65), "messageStoragePolicy": {}}),
        ),
        (
            "regions and a KMS key",
            json!({"messageStoragePolicy": {}, "kmsKeyName": "key"}),
        ),
        (
            "a KMS key and retention",
            json!({"kmsKeyName": "key", "messageRetentionDuration": "1s"}),
        ),
        (
            "a schema and wrong retention",
            json!({"schemaSettings": {"schema": "s"}, "messageRetentionDuration": "1s"}),
        ),
        (
            "retention and a schema",
            json!({"messageRetentionDuration": "600s", "schemaSettings": {"schema": "s"}}),
        ),
        (
            "a transform and labels",
            json!({"messageTransforms": [{}], "labels": entry("Key", "")}),
        ),
    ]);
    settings
}

fn create_topic() -> Rpc {
    let mut wrong = settings();
    wrong.extend([
        ("a topic that exists", json!({"name": TOP})),
        ("a deleted topic", json!({"name": "projects/p/topics/gone"})),
        (
            "a wrong name and labels",
            json!({"name": "x", "labels": entries(65)}),
        ),
        (
            "a topic that exists, and labels",
            json!({"name": TOP, "labels": entries(65)}),
        ),
        (
            "a topic that exists, and a schema",
            json!({"name": TOP, "schemaSettings": {"schema": "s"}}),
        ),
    ]);
    rpc(
        "Publisher/CreateTopic",
        &json!({"name": "projects/p/topics/new"}),
        &[("name", Topic)],
        wrong,
    )
}

fn update_topic() -> Rpc {
    const EVERY_FIELD: &str = "labels,messageStoragePolicy,kmsKeyName,schemaSettings,messageRetentionDuration,ingestionDataSourceSettings,messageTransforms";
    let nothing = "projects/p/topics/nothing";
    let settings = settings().into_iter();
    let mut wrong: Vec<_> = settings
        .map(|(title, topic)| (title, json!({"topic": topic, "updateMask": EVERY_FIELD})))
        .collect();
    wrong.extend([
        ("no topic", json!({"topic": null})),
        ("no mask", json!({"updateMask": null})),
        ("an empty mask", json!({"updateMask": ""})),
        ("a field that never changes", json!({"updateMask": "name"})),
        ("a field of the server's", json!({"updateMask": "state"})),
        ("a field that is none", json!({"updateMask": "nonsense"})),
        ("a field of a field", json!({"updateMask": "labels.a"})),
        (
            "a field that never changes, and one that is none",
            json!({"updateMask": "labels,name,nonsense"}),
        ),
        ("a field twice", json!({"updateMask": "labels,labels"})),
        (
            "wrong labels beside the mask",
            json!({"updateMask": "kmsKeyName", "topic": {"labels": entries(65)}}),
        ),
        (
            "a wrong name and no mask",
            json!({"topic": {"name": "x"}, "updateMask": null}),
        ),
        (
            "a wrong mask and labels",
            json!({"topic": {"labels": entries(65)}, "updateMask": "labels,name"}),
        ),
        (
            "of nothing, and no mask",
            json!({"topic": {"name": nothing}, "updateMask": null}),
        ),
        (
            "of nothing, and labels",
            json!({"topic": {"name": nothing, "labels": entries(65)}}),
        ),
        (
            "of nothing, and a schema",
            json!({"topic": {"name": nothing, "schemaSettings": {"schema": "s"}}, "updateMask": "schemaSettings"}),
        ),
        (
            "a deleted topic",
            json!({"topic": {"name": "projects/p/topics/gone"}}),
        ),
    ]);
    rpc(
        "Publisher/UpdateTopic",
        &json!({"topic": {"name": TOP, "labels": {"a": "b"}}, "updateMask": "labels"}),
        &[("topic.name", Topic)],
        wrong,
    )
}

fn publish() -> Rpc {
    let messages = |messages: Value| json!({"messages": messages});
    let one = |message: Value| messages(json!([message]));
    let attributes = |attributes: Value| one(json!({"attributes": attributes}));
    let data = |bytes: usize| {
        // Three bytes are four characters.
        let text = "AAAA".repeat(bytes / 3);
        one(json!({"data": text}))
    };
    let nothing = "projects/p/topics/nothing";
    rpc(
        "Publisher/Publish",
        &json!({"topic": TOP, "messages": [{"data": "b25l"}]}),
        &[("topic", Topic)],
        vec![
            ("no message", messages(json!([]))),
            (
                "1,000 messages",
                messages(json!(vec![json!({"data": "b25l"}); 1000])),
            ),
            (
                "1,001 messages",
                messages(json!(vec![json!({"data": "b25l"}); 1001])),
            ),
            ("a message without anything", one(json!({}))),
            (
                "a message with a key alone",
                one(json!({"orderingKey": "k"})),
            ),
            (
                "a second message without anything",
                messages(json!([{"data": "b25l"}, {}])),
            ),
            ("101 attributes", attributes(entries(101))),
            ("an attribute without a key", attributes(entry("", "a"))),
            ("a reserved attribute", attributes(entry("googx", "a"))),
            (
                "a reserved attribute that every client writes",
                attributes(entry("googclient_x", "a")),
            ),
            (
                "an attribute's key of 257 bytes",
                attributes(entry(&"k".repeat(257), "a")),
            ),
            (
                "an attribute's value of 1,025 bytes",
                attributes(entry("a", &"v".repeat(1025))),
            ),
            (
                "an ordering key of 1,025 bytes",
                one(json!({"data": "b25l", "orderingKey": "k".repeat(1025)})),
            ),
            (
                "an attribute and an ordering key",
                one(json!({"attributes": entry("googx", ""), "orderingKey": "k".repeat(1025)})),
            ),
            (
                "101 attributes and an ordering key",
                one(json!({"attributes": entries(101), "orderingKey": "k".repeat(1025)})),
            ),
            ("10,000,000 bytes of data", data(10_000_002)),
            ("more than 10 MiB of data", data(10 * 1024 * 1024 + 2)),
            (
                "a wrong name and no message",
                json!({"topic": "x", "messages": []}),
            ),
            (
                "1,001 messages without anything",
                messages(json!(vec![json!({}); 1001])),
            ),
            (
                "of nothing, and no message",
                json!({"topic": nothing, "messages": []}),
            ),
            (
                "of nothing, and a message without anything",
                json!({"topic": nothing, "messages": [{}]}),
            ),
            (
                "a deleted topic",
                json!({"topic": "projects/p/topics/gone"}),
            ),
        ],
    )
}
