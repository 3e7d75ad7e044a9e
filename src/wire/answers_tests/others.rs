//! What the RPCs of `google.pubsub.v1.SchemaService` and `google.iam.v1.IAMPolicy` are asked.

use serde_json::{Value, json};

use super::cases::{
    Kind::{Project, Resource, Schema},
    Rpc, rpc,
};

const TOP: &str = "projects/p/topics/top";

pub(super) fn schemas() -> Vec<Rpc> {
    let schema = json!({"type": "AVRO", "definition": "{}"});
    let named = json!({"name": "projects/p/schemas/sch"});
    let name = [("name", Schema)];
    let parent = [("parent", Project)];
    let in_project = json!({"parent": "projects/p"});
    let with = |request: &Value, field: &str, value: Value| {
        let mut request = request.clone();
        request[field] = value;
        request
    };
    vec![
        rpc(
            "SchemaService/CreateSchema",
            &json!({"parent": "projects/p", "schema": schema, "schemaId": "sch"}),
            &parent,
            vec![
                ("a short id", json!({"schemaId": "s"})),
                ("no schema", json!({"schema": null})),
                (
                    "a definition of more than 300 KB",
                    json!({"schema": {"definition": "d".repeat(300 * 1024 + 1)}}),
                ),
            ],
        ),
        rpc("SchemaService/GetSchema", &named, &name, Vec::new()),
        rpc(
            "SchemaService/ListSchemas",
            &in_project,
            &parent,
            vec![("page size -1", json!({"pageSize": -1}))],
        ),
        rpc(
            "SchemaService/ListSchemaRevisions",
            &named,
            &name,
            vec![("page size -1", json!({"pageSize": -1}))],
        ),
        rpc(
            "SchemaService/CommitSchema",
            &with(&named, "schema", schema.clone()),
            &name,
            vec![("no schema", json!({"schema": null}))],
        ),
        rpc(
            "SchemaService/RollbackSchema",
            &with(&named, "revisionId", json!("12345678")),
            &name,
            vec![("no revision", json!({"revisionId": null}))],
        ),
        rpc(
            "SchemaService/DeleteSchemaRevision",
            &json!({"name": "projects/p/schemas/sch@12345678"}),
            &name,
            Vec::new(),
        ),
        rpc("SchemaService/DeleteSchema", &named, &name, Vec::new()),
        rpc(
            "SchemaService/ValidateSchema",
            &with(&in_project, "schema", schema.clone()),
            &parent,
            vec![("no schema", json!({"schema": null}))],
        ),
        rpc(
            "SchemaService/ValidateMessage",
            &json!({"parent": "projects/p", "schema": schema, "message": "e30=", "encoding": "JSON"}),
            &parent,
            vec![(
                "a schema's wrong name",
                json!({"schema": null, "name": "x"}),
            )],
        ),
    ]
}

pub(super) fn policies() -> Vec<Rpc> {
    let names = [("resource", Resource)];
    let nothing = "projects/p/topics/nothing";
    vec![
        set_policy(),
        rpc(
            "IAMPolicy/GetIamPolicy",
            &json!({"resource": TOP}),
            &names,
            vec![
                (
                    "version 2",
                    json!({"options": {"requestedPolicyVersion": 2}}),
                ),
                (
                    "version 2 and a wrong name",
                    json!({"options": {"requestedPolicyVersion": 2}, "resource": "x"}),
                ),
                (
                    "version 2, of nothing",
                    json!({"options": {"requestedPolicyVersion": 2}, "resource": nothing}),
                ),
                (
                    "a detached subscription",
                    json!({"resource": "projects/p/subscriptions/detached"}),
                ),
                (
                    "no subscription",
                    json!({"resource": "projects/p/subscriptions/nothing"}),
                ),
                (
                    "a deleted topic",
                    json!({"resource": "projects/p/topics/gone"}),
                ),
            ],
        ),
        rpc(
            "IAMPolicy/TestIamPermissions",
            &json!({"resource": TOP, "permissions": ["pubsub.topics.get", "pubsub.topics.fly"]}),
            &names,
            vec![
                ("no permission", json!({"permissions": []})),
                (
                    "101 permissions",
                    json!({"permissions": vec!["pubsub.topics.get"; 101]}),
                ),
                ("a wildcard", json!({"permissions": ["pubsub.topics.*"]})),
                (
                    "101 wildcards",
                    json!({"permissions": vec!["pubsub.topics.*"; 101]}),
                ),
                (
                    "a wildcard and a wrong name",
                    json!({"permissions": ["*"], "resource": "x"}),
                ),
                (
                    "a wildcard, of nothing",
                    json!({"permissions": ["*"], "resource": nothing}),
                ),
            ],
        ),
    ]
}

fn set_policy() -> Rpc {
    let bindings = |bindings: Value| json!({"policy": {"bindings": bindings}});
    let one = |role: &str, member: &str| bindings(json!([{"role": role, "members": [member]}]));
    let conditional = json!([{
        "role": "roles/a",
        "members": ["allUsers"],
        "condition": {"expression": "true"},
    }]);
    let nothing = "projects/p/topics/nothing";
    rpc(
        "IAMPolicy/SetIamPolicy",
        &json!({
            "resource": TOP,
            "policy": {"bindings": [{"role": "roles/a", "members": ["allUsers"]}]},
        }),
        &[("resource", Resource)],
        vec![
            ("no policy", json!({"policy": null})),
            ("version 2", json!({"policy": {"version": 2}})),
            (
                "a condition in version 1",
                json!({"policy": {"version": 1, "bindings": conditional}}),
            ),
            ("a role that is none", one("a", "allUsers")),
            ("a member that is none", one("roles/a", "ada")),
            (
                "1,501 members",
                bindings(json!([{"role": "roles/a", "members": vec!["allUsers"; 1501]}])),
            ),
            (
                "more than 250,000 bytes",
                one("roles/a", &format!("user:{}", "a".repeat(250_000))),
            ),
            ("audit configs", json!({"policy": {"auditConfigs": [{}]}})),
            (
                "audit configs beside the mask",
                json!({"policy": {"auditConfigs": [{}]}, "updateMask": "bindings"}),
            ),
            (
                "audit configs in the mask",
                json!({"updateMask": "auditConfigs"}),
            ),
            ("a field that is none", json!({"updateMask": "nonsense"})),
            (
                "audit configs and a field that is none",
                json!({"updateMask": "auditConfigs,nonsense"}),
            ),
            ("another etag", json!({"policy": {"etag": "AAAA"}})),
            (
                "another etag beside the mask",
                json!({"policy": {"etag": "AAAA"}, "updateMask": "bindings"}),
            ),
            (
                "a wrong name and no policy",
                json!({"resource": "x", "policy": null}),
            ),
            (
                "version 2 and a role that is none",
                json!({"policy": {"version": 2, "bindings": [{"role": "a"}]}}),
            ),
            (
                "a field that is none, and version 2",
                json!({"policy": {"version": 2}, "updateMask": "nonsense"}),
            ),
            (
                "no policy, of nothing",
                json!({"policy": null, "resource": nothing}),
            ),
            (
                "version 2, of nothing",
                json!({"policy": {"version": 2}, "resource": nothing}),
            ),
            (
                "another etag, of nothing",
                json!({"policy": {"etag": "AAAA"}, "resource": nothing}),
            ),
            (
                "a detached subscription",
                json!({"resource": "projects/p/subscriptions/detached"}),
            ),
            (
                "a deleted topic",
                json!({"resource": "projects/p/topics/gone"}),
            ),
        ],
    )
}
