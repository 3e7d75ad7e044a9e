//! The order of checks (docs/behaviour.md, section 1.4), of every RPC that is here: the request itself, names,
//! permission, existence, contents. Each step is asked with whatever may be wrong at later ones.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    call,
    cases::{entries, patched},
    subscriber::{DETACHED, NOTHING, SUB},
    world::{Situation, World},
};

const TOP: &str = "projects/p/topics/top";
const NO_TOPIC: &str = "projects/p/topics/nothing";

/// What is wrong with requests of one RPC.
struct Wrong {
    rpc: &'static str,
    /// Every name is good, and what it names exists.
    good: Value,
    /// Replaces a name by a malformed one.
    name: Value,
    /// Replaces a name by that of nothing, where that is an error.
    missing: Option<Value>,
    /// Makes the rest wrong, if there is any.
    contents: Option<Value>,
}

/// An RPC whose field names a resource that has to exist.
fn about(rpc: &'static str, field: &str, name: &str, contents: Option<Value>) -> Wrong {
    let nothing = if name == TOP { NO_TOPIC } else { NOTHING };
    Wrong {
        rpc,
        good: json!({ field: name }),
        name: json!({ field: "x" }),
        missing: Some(json!({ field: nothing })),
        contents,
    }
}

/// An RPC whose field names a project, or what is to be made.
fn in_project(rpc: &'static str, field: &str, name: &str, contents: Option<Value>) -> Wrong {
    Wrong {
        missing: None,
        ..about(rpc, field, name, contents)
    }
}

fn table() -> Vec<Wrong> {
    let labels = || json!({"labels": entries(65)});
    let page = || Some(json!({"pageSize": -1}));
    let update = |rpc, field: &'static str, name: &str, nothing: &str| Wrong {
        rpc,
        good: json!({ field: {"name": name} }),
        name: json!({ field: {"name": "x"} }),
        missing: Some(json!({ field: {"name": nothing} })),
        contents: Some(json!({ field: labels(), "updateMask": "labels" })),
    };
    let no_ack_id = || Some(json!({"ackIds": []}));
    vec![
        in_project("Publisher/CreateTopic", "name", TOP, Some(labels())),
        update("Publisher/UpdateTopic", "topic", TOP, NO_TOPIC),
        about(
            "Publisher/Publish",
            "topic",
            TOP,
            Some(json!({"messages": [{}]})),
        ),
        about("Publisher/GetTopic", "topic", TOP, None),
        in_project("Publisher/ListTopics", "project", "projects/p", page()),
        about("Publisher/ListTopicSubscriptions", "topic", TOP, page()),
        about("Publisher/ListTopicSnapshots", "topic", TOP, page()),
        about("Publisher/DeleteTopic", "topic", TOP, None),
        about("Publisher/DetachSubscription", "subscription", SUB, None),
        Wrong {
            // The name is taken, which comes last.
            good: json!({"name": SUB, "topic": TOP}),
            ..about(
                "Subscriber/CreateSubscription",
                "topic",
                TOP,
                Some(labels()),
            )
        },
        about("Subscriber/GetSubscription", "subscription", SUB, None),
        update(
            "Subscriber/UpdateSubscription",
            "subscription",
            SUB,
            NOTHING,
        ),
        in_project(
            "Subscriber/ListSubscriptions",
            "project",
            "projects/p",
            page(),
        ),
        about("Subscriber/DeleteSubscription", "subscription", SUB, None),
        about(
            "Subscriber/ModifyAckDeadline",
            "subscription",
            SUB,
            Some(json!({"ackIds": ["x"], "ackDeadlineSeconds": 601})),
        ),
        about("Subscriber/Acknowledge", "subscription", SUB, no_ack_id()),
        about(
            "Subscriber/Pull",
            "subscription",
            // That nothing more can be had of it comes after what was asked.
            DETACHED,
            Some(json!({"maxMessages": 0})),
        ),
        about(
            "Subscriber/StreamingPull",
            "subscription",
            DETACHED,
            Some(json!({"streamAckDeadlineSeconds": 9})),
        ),
        about(
            "IAMPolicy/SetIamPolicy",
            "resource",
            TOP,
            Some(json!({"policy": {"version": 2}})),
        ),
        about(
            "IAMPolicy/GetIamPolicy",
            "resource",
            TOP,
            Some(json!({"options": {"requestedPolicyVersion": 2}})),
        ),
        in_project("Subscriber/ListSnapshots", "project", "projects/p", page()),
        in_project("SchemaService/ListSchemas", "parent", "projects/p", page()),
        // Of nothing it answers an empty list.
        in_project(
            "IAMPolicy/TestIamPermissions",
            "resource",
            TOP,
            Some(json!({"permissions": ["*"]})),
        ),
        in_project("Admin/AttachTopic", "topic", TOP, None),
        about("Admin/DetachTopic", "topic", TOP, None),
    ]
}

async fn ask(world: &World, rpc: &str, good: &Value, patches: &[Option<&Value>]) -> String {
    let patches = patches.iter().copied().flatten();
    let request = patches.fold(good.clone(), |request, patch| patched(&request, patch));
    let answer = call::grpc(world, rpc, &[request]).await;
    answer.text(&world.ack_id)
}

#[tokio::test]
async fn of_several_faults_the_first_in_the_documented_order_is_told() {
    let serving = World::new(&Situation::Serving).await;
    let denying = World::new(&Situation::Denying).await;
    for wrong in table() {
        let Wrong { rpc, good, .. } = &wrong;
        let (missing, contents) = (wrong.missing.as_ref(), wrong.contents.as_ref());

        let path = call::path(&call::method(rpc));
        let garbage = vec![call::frame(&[0xff])];
        let answer = call::bytes(&denying, &path, garbage).await;
        let answer = answer.text(&denying.ack_id);
        let told = "gRPC INVALID_ARGUMENT The request cannot be decoded";
        assert!(answer.starts_with(told), "{rpc}: {answer}");

        let answer = ask(&denying, rpc, good, &[contents, Some(&wrong.name)]).await;
        let told = "gRPC INVALID_ARGUMENT Invalid resource name given";
        assert!(answer.starts_with(told), "{rpc}: {answer}");

        if *rpc != "IAMPolicy/TestIamPermissions" {
            let answer = ask(&denying, rpc, good, &[contents, missing]).await;
            let told = "gRPC PERMISSION_DENIED";
            assert!(answer.starts_with(told), "{rpc}: {answer}");
        }
        if missing.is_some() {
            let answer = ask(&serving, rpc, good, &[contents, missing]).await;
            let told = "gRPC NOT_FOUND Resource not found (resource=nothing).";
            assert!(answer.starts_with(told), "{rpc}: {answer}");
        }
        if contents.is_some() {
            let answer = ask(&serving, rpc, good, &[contents]).await;
            assert!(
                answer.starts_with("gRPC INVALID_ARGUMENT")
                    && !answer.contains("Invalid resource name"),
                "{rpc}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_message_is_told_before_the_topics_name() {
    let world = World::new(&Situation::Denying).await;
    let path = call::path(&call::method("Publisher/Publish"));
    // The topic is `x`; the message claims nine bytes that are not there.
    let request = Bytes::from_static(&[0x0a, 1, b'x', 0x12, 2, 0x0a, 9]);
    let answer = call::bytes(&world, &path, vec![call::frame(&request)]).await;
    let answer = answer.text(&world.ack_id);
    assert!(answer.contains("not a valid PubsubMessage"), "{answer}");
}

#[tokio::test]
async fn every_rpc_that_is_here_is_in_the_table() {
    let world = World::new(&Situation::Serving).await;
    let table = table();
    for rpc in call::rpcs() {
        if !table.iter().any(|wrong| wrong.rpc == rpc) {
            let answer = ask(&world, &rpc, &json!({}), &[]).await;
            let told = "gRPC UNIMPLEMENTED";
            assert!(answer.starts_with(told), "{rpc}: {answer}");
        }
    }
}
