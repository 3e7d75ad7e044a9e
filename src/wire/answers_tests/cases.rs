//! What is asked of an RPC: one request that works, and what is wrong with others.

use serde_json::{Map, Value, json};

/// What a field names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Project,
    Topic,
    Subscription,
    Snapshot,
    Schema,
    /// Anything that has a policy.
    Resource,
}

/// One way to ask an RPC.
pub(super) struct Case {
    pub(super) title: String,
    /// Several are those of a stream.
    pub(super) requests: Vec<Value>,
}

/// An RPC with everything that it is asked.
pub(super) struct Rpc {
    /// `Publisher/CreateTopic`
    pub(super) name: &'static str,
    pub(super) cases: Vec<Case>,
}

/// The RPC `name`: `good` is a request that works, `names` are the fields of it that name something, and each of
/// `wrong` is what makes another request of it: fields that replace those of `good`, where null takes one away.
pub(super) fn rpc(
    name: &'static str,
    good: &Value,
    names: &[(&str, Kind)],
    wrong: Vec<(&str, Value)>,
) -> Rpc {
    let mut cases = vec![
        case("as it should be", good.clone()),
        case("empty", json!({})),
    ];
    for (field, kind) in names {
        for (what, value) in wrong_names(*kind) {
            cases.push(case(
                &format!("{field}: {what}"),
                patched(good, &at(field, value)),
            ));
        }
    }
    for (title, patch) in wrong {
        cases.push(case(title, patched(good, &patch)));
    }
    Rpc { name, cases }
}

fn case(title: &str, request: Value) -> Case {
    Case {
        title: title.to_owned(),
        requests: vec![request],
    }
}

/// The names that are not what a field wants: malformed ones, those of something else, and those of nothing.
fn wrong_names(kind: Kind) -> Vec<(&'static str, Value)> {
    let collection = match kind {
        Kind::Project => {
            return vec![
                ("missing", Value::Null),
                ("no name", json!("x")),
                ("no id", json!("projects/")),
                ("one segment too many", json!("projects/p/more")),
                ("a long id", json!(format!("projects/{}", "x".repeat(256)))),
                ("a topic's", json!("projects/p/topics/top")),
                ("of nothing", json!("projects/nowhere")),
            ];
        }
        Kind::Topic | Kind::Resource => "topics",
        Kind::Subscription => "subscriptions",
        Kind::Snapshot => "snapshots",
        Kind::Schema => "schemas",
    };
    let with_id = |id: &str| json!(format!("projects/p/{collection}/{id}"));
    let mut names = vec![
        ("missing", Value::Null),
        ("no name", json!("x")),
        ("no id", with_id("")),
        ("a short id", with_id("ab")),
        ("a long id", with_id(&"x".repeat(256))),
        ("a wrong character", with_id("or$ders")),
        ("a reserved id", with_id("googx")),
        ("one segment too many", with_id("top/more")),
        ("no project", json!(format!("projects//{collection}/abc"))),
        ("a deleted topic's", json!("_deleted-topic_")),
        ("of nothing", with_id("nothing")),
        (
            "of nothing in no project",
            json!(format!("projects/nowhere/{collection}/nothing")),
        ),
    ];
    let kinds = [
        ("a project's", "projects/p"),
        ("a topic's", "projects/p/topics/top"),
        ("a subscription's", "projects/p/subscriptions/sub"),
        ("a snapshot's", "projects/p/snapshots/snap"),
        ("a schema's", "projects/p/schemas/sch"),
    ];
    let others = kinds
        .into_iter()
        .filter(|(_, name)| !name.contains(collection));
    names.extend(others.map(|(what, name)| (what, json!(name))));
    names
}

/// `{"a": {"b": value}}` for `a.b`.
fn at(field: &str, value: Value) -> Value {
    let parts = field.rsplit('.');
    parts.fold(value, |value, part| {
        Value::Object(Map::from_iter([(part.to_owned(), value)]))
    })
}

/// `to` with the fields of `patch`, as in RFC 7396.
pub(super) fn patched(to: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut fields = to.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            let before = fields.get(name).cloned().unwrap_or_default();
            fields.insert(name.clone(), patched(&before, value));
        }
    }
    Value::Object(fields)
}

/// So many entries `k0` with an empty value.
pub(super) fn entries(count: usize) -> Value {
    let entries = (0..count).map(|number| (format!("k{number:03}"), json!("")));
    Value::Object(entries.collect())
}

/// One entry.
pub(super) fn entry(key: &str, value: &str) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), json!(value))]))
}

/// Labels that break a rule each.
pub(super) fn wrong_labels() -> Vec<(&'static str, Value)> {
    let long = "x".repeat(64);
    vec![
        ("65 labels", entries(65)),
        ("a label without a key", entry("", "a")),
        ("a label's key in upper case", entry("Key", "a")),
        ("a label's key of 64 characters", entry(&long, "a")),
        ("a label's value of 64 characters", entry("a", &long)),
        ("a label's value in upper case", entry("a", "Value")),
    ]
}

/// What ListSubscriptions gives for the page behind `projects/p/subscriptions/detached`.
const OF_SUBSCRIPTIONS: &str = "iIZjtHByb2plY3RzL3Avc3Vic2NyaXB0aW9ucy9kZXRhY2hlZA";

/// Page sizes and tokens that break a rule each, and both at once.
pub(super) fn wrong_pages() -> Vec<(&'static str, Value)> {
    vec![
        ("page size -1", json!({"pageSize": -1})),
        ("page size 1", json!({"pageSize": 1})),
        ("page size 1000", json!({"pageSize": 1000})),
        ("page size 1001", json!({"pageSize": 1001})),
        ("a page token of nobody", json!({"pageToken": "garbage"})),
        (
            "a page token of the project's subscriptions",
            json!({"pageToken": OF_SUBSCRIPTIONS}),
        ),
        (
            "page size and token",
            json!({"pageSize": -1, "pageToken": "garbage"}),
        ),
    ]
}
