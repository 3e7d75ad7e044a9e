//! Access policies of topics and subscriptions (docs/behaviour.md, section 19).

use bytes::Bytes;
use packetboat::proto::google::{
    iam::v1::{
        Binding, GetIamPolicyRequest, GetPolicyOptions, Policy, SetIamPolicyRequest,
        TestIamPermissionsRequest, iam_policy_client::IamPolicyClient,
    },
    r#type::Expr,
};
use prost_types::FieldMask;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::{
    Client, Pubsub,
    admin::{subscription_name, topic_name},
    http, ok,
    transport::Transport,
};

struct Policies(IamPolicyClient<Transport>);

impl Policies {
    fn of(pubsub: &Pubsub) -> Self {
        Self(IamPolicyClient::new(pubsub.transport()))
    }

    async fn get(&self, resource: &str) -> Result<Policy, Status> {
        let request = GetIamPolicyRequest {
            resource: resource.to_owned(),
            options: None,
        };
        Ok(self.0.clone().get_iam_policy(request).await?.into_inner())
    }

    async fn set(&self, resource: &str, policy: Policy, mask: &[&str]) -> Result<Policy, Status> {
        let paths: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
        let request = SetIamPolicyRequest {
            resource: resource.to_owned(),
            policy: Some(policy),
            update_mask: (!paths.is_empty()).then_some(FieldMask { paths }),
        };
        Ok(self.0.clone().set_iam_policy(request).await?.into_inner())
    }

    async fn test(&self, resource: &str, permissions: &[&str]) -> Result<Vec<String>, Status> {
        let request = TestIamPermissionsRequest {
            resource: resource.to_owned(),
            permissions: permissions.iter().map(|name| (*name).to_owned()).collect(),
        };
        let tested = self.0.clone().test_iam_permissions(request).await?;
        Ok(tested.into_inner().permissions)
    }
}

fn policy(role: &str, members: &[&str]) -> Policy {
    Policy {
        bindings: vec![Binding {
            role: role.to_owned(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            condition: None,
        }],
        ..Policy::default()
    }
}

async fn start() -> (Pubsub, Client, Policies) {
    let pubsub = Pubsub::start().await;
    let client = pubsub.client();
    let topic = client.topic("letters").await;
    client.subscription("desk", &topic).await;
    let policies = Policies::of(&pubsub);
    (pubsub, client, policies)
}

fn code<T: std::fmt::Debug>(answer: Result<T, Status>) -> Code {
    answer.expect_err("refused").code()
}

#[tokio::test]
async fn case_60_a_policy_is_shown_as_it_was_set_until_its_resource_is_deleted() {
    let (_pubsub, client, policies) = start().await;
    for resource in [topic_name("letters"), subscription_name("desk")] {
        let first = policies.get(&resource).await.expect("no policy yet");
        assert_eq!((first.version, first.bindings.len()), (0, 0));
        assert!(!first.etag.is_empty());
        let wanted = policy("roles/pubsub.editor", &["user:ada@example.com", "allUsers"]);
        let set = policies
            .set(&resource, wanted.clone(), &[])
            .await
            .expect("valid");
        assert_eq!((set.version, &set.bindings), (1, &wanted.bindings));
        assert_ne!(set.etag, first.etag);
        assert_eq!(policies.get(&resource).await.expect("a policy"), set);
    }
    ok(client.delete_topic(&topic_name("letters")).await);
    assert_eq!(
        code(policies.get(&topic_name("letters")).await),
        Code::NotFound
    );
    client.topic("letters").await;
    let new = policies
        .get(&topic_name("letters"))
        .await
        .expect("no policy yet");
    assert!(new.bindings.is_empty(), "a policy dies with its resource");
}

#[tokio::test]
async fn an_update_of_the_resource_keeps_its_policy_and_does_not_show_it() {
    let (pubsub, client, policies) = start().await;
    let topic = topic_name("letters");
    let set = policies
        .set(&topic, policy("roles/pubsub.viewer", &["allUsers"]), &[])
        .await
        .expect("valid");
    let before = ok(client.get_topic(&topic).await);
    let change = json!({"topic": {"labels": {"a": "b"}}, "updateMask": "labels"});
    http::call(&pubsub.address(), "PATCH", &format!("/v1/{topic}"), change)
        .await
        .expect(200);
    assert_eq!(policies.get(&topic).await.expect("a policy"), set);
    assert!(before.labels.is_empty());
}

#[tokio::test]
async fn case_60_an_old_etag_is_aborted_and_none_overwrites() {
    let (_pubsub, _client, policies) = start().await;
    let topic = topic_name("letters");
    let old = policies.get(&topic).await.expect("no policy yet").etag;
    let with = |etag: &Bytes| Policy {
        etag: etag.clone(),
        ..policy("roles/pubsub.viewer", &["allUsers"])
    };
    let first = policies
        .set(&topic, with(&old), &[])
        .await
        .expect("nobody was faster");
    assert_eq!(
        code(policies.set(&topic, with(&old), &[]).await),
        Code::Aborted
    );
    let second = policies
        .set(&topic, with(&first.etag), &[])
        .await
        .expect("nobody was faster");
    policies
        .set(&topic, with(&old), &["bindings"])
        .await
        .expect("the etag is not checked");
    policies
        .set(&topic, Policy::default(), &[])
        .await
        .expect("no etag");
    let empty = policies.get(&topic).await.expect("a policy");
    assert!(empty.bindings.is_empty());
    assert_ne!(empty.etag, second.etag);
}

#[tokio::test]
async fn what_is_wrong_with_a_policy_is_refused() {
    let (_pubsub, _client, policies) = start().await;
    let topic = topic_name("letters");
    let conditional = |version| {
        let mut policy = policy("roles/pubsub.viewer", &["allUsers"]);
        policy.version = version;
        policy.bindings[0].condition = Some(Expr {
            expression: "true".into(),
            ..Expr::default()
        });
        policy
    };
    let version = |version| Policy {
        version,
        ..policy("roles/pubsub.viewer", &["allUsers"])
    };
    for wrong in [
        policy("", &["allUsers"]),
        policy("roles/pubsub.viewer", &["ada"]),
        version(2),
        conditional(1),
    ] {
        assert_eq!(
            code(policies.set(&topic, wrong, &[]).await),
            Code::InvalidArgument
        );
    }
    let set = policies
        .set(&topic, conditional(3), &[])
        .await
        .expect("valid");
    assert_eq!(set.version, 3);
    assert_eq!(
        code(policies.set(&topic, version(1), &["members"]).await),
        Code::InvalidArgument
    );
    for (resource, expected) in [
        (topic_name("none").as_str(), Code::NotFound),
        (topic_name("a$").as_str(), Code::InvalidArgument),
        ("projects/p", Code::InvalidArgument),
        ("", Code::InvalidArgument),
        ("projects/p/snapshots/snap", Code::Unimplemented),
        ("projects/p/schemas/sche", Code::Unimplemented),
    ] {
        assert_eq!(code(policies.get(resource).await), expected, "{resource}");
        assert_eq!(
            code(policies.set(resource, version(1), &[]).await),
            expected,
            "{resource}"
        );
    }
    let unknown_version = GetIamPolicyRequest {
        resource: topic,
        options: Some(GetPolicyOptions {
            requested_policy_version: 2,
        }),
    };
    let refused = policies.0.clone().get_iam_policy(unknown_version).await;
    assert_eq!(code(refused), Code::InvalidArgument);
}

#[tokio::test]
async fn case_60_everybody_holds_every_permission_on_what_exists() {
    let (_pubsub, _client, policies) = start().await;
    let asked = [
        "pubsub.topics.get",
        "pubsub.topics.fly",
        "storage.buckets.get",
        "pubsub.topics.publish",
    ];
    let held = policies
        .test(&topic_name("letters"), &asked)
        .await
        .expect("a list");
    assert_eq!(held, ["pubsub.topics.get", "pubsub.topics.publish"]);
    let held = policies
        .test(&topic_name("none"), &asked)
        .await
        .expect("an empty list");
    assert!(held.is_empty());
    let wildcard = policies
        .test(&topic_name("letters"), &["pubsub.topics.*"])
        .await;
    assert_eq!(code(wildcard), Code::InvalidArgument);
}

#[tokio::test]
async fn policies_have_their_routes_in_rest() {
    let (pubsub, _client, _policies) = start().await;
    let address = pubsub.address();
    let target = |verb: &str| format!("/v1/{}:{verb}", topic_name("letters"));
    let get = http::call(
        &address,
        "GET",
        &target("getIamPolicy?options.requestedPolicyVersion=3"),
        Value::Null,
    )
    .await
    .expect(200);
    assert_eq!(get.json(), json!({"etag": "ACAB"}));
    let bindings = json!([{"role": "roles/pubsub.viewer", "members": ["allUsers"]}]);
    let set = json!({"policy": {"bindings": bindings, "etag": "ACAB"}});
    let set_once = http::call(&address, "POST", &target("setIamPolicy"), set.clone())
        .await
        .expect(200);
    assert_eq!(set_once.json()["bindings"], bindings);
    http::call(&address, "POST", &target("setIamPolicy"), set)
        .await
        .expect(409);
    let tested = json!({"permissions": ["pubsub.topics.get"]});
    let tested_once = http::call(
        &address,
        "POST",
        &target("testIamPermissions"),
        tested.clone(),
    )
    .await
    .expect(200);
    assert_eq!(tested_once.json(), tested);
}
