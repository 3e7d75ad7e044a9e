//! The document as those who read it see it.

use std::collections::HashSet;

use super::*;
use crate::proto::DESCRIPTORS;

fn described() -> (Value, Routes) {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("descriptors");
    let routes = Routes::read(&pool).expect("routes");
    let document = document(&pool, &routes);
    let document = serde_json::from_slice(&document).expect("JSON");
    (document, routes)
}

/// All operations, with their paths.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    operations.collect()
}

/// Every value of a key, however deep it lies.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == key {
                    found.push(value);
                }
                all(value, key, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| all(value, key, found)),
        _ => {}
    }
}

#[test]
fn every_route_is_an_operation_with_a_name_of_its_own_and_the_documentation_of_its_rpc() {
    let (document, routes) = described();
    assert_eq!(document["openapi"], "3.1.0");
    let operations = operations(&document);
    assert_eq!(operations.len(), routes.iter().count());
    let mut names = HashSet::new();
    for (path, operation) in &operations {
        let name = operation["operationId"].as_str().expect("a name");
        assert!(names.insert(name), "{name} twice");
        let description = operation["description"].as_str().expect("a text");
        assert!(description.len() > 10, "{path}: {description:?}");
    }
    let publish = &document["paths"]["/v1/projects/{project}/topics/{topic}:publish"]["post"];
    assert_eq!(publish["operationId"], "Publisher_Publish");
    assert_eq!(publish["requestBody"]["required"], true);
}

#[test]
fn every_reference_leads_somewhere() {
    let (document, _) = described();
    let mut references = Vec::new();
    all(&document, "$ref", &mut references);
    assert!(references.len() > 100);
    for reference in references {
        let pointer = reference.as_str().expect("a text").trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn what_the_path_gives_is_not_in_the_body_and_the_rest_is_in_the_query() {
    let (document, _) = described();
    let topic = &document["paths"]["/v1/projects/{project}/topics/{topic}"];
    let body = &topic["put"]["requestBody"]["content"]["application/json"]["schema"];
    assert!(body["properties"].get("labels").is_some());
    assert!(body["properties"].get("name").is_none());
    assert_eq!(body.get("required"), None);
    let query = |path: &str, method: &str| {
        let parameters = document["paths"][path][method]["parameters"].as_array();
        let parameters = parameters.expect("parameters").iter();
        let query = parameters.filter(|one| one["in"] == "query");
        let names = query.map(|one| one["name"].as_str().expect("a name").to_owned());
        names.collect::<Vec<_>>()
    };
    let topics = query("/v1/projects/{project}/topics", "get");
    assert_eq!(topics, ["pageSize", "pageToken"]);
    let policy = query("/v1/projects/{project}/topics/{topic}:getIamPolicy", "get");
    assert_eq!(policy, ["options.requestedPolicyVersion"]);
    let schema = query("/v1/projects/{project}/schemas", "post");
    assert_eq!(schema, ["schemaId"]);
}

#[test]
fn a_patch_needs_nothing_but_the_resource_and_takes_its_mask_in_either_place() {
    let (document, _) = described();
    let subscription = "/v1/projects/{project}/subscriptions/{subscription}";
    let patch = &document["paths"][subscription]["patch"];
    let body = &patch["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["required"], json!(["subscription"]));
    let part = &body["properties"]["subscription"];
    assert_eq!(part.get("required"), None);
    assert!(part["properties"].get("labels").is_some());
    assert!(part["properties"].get("name").is_none());
    assert!(body["properties"].get("updateMask").is_some());
    let parameters = patch["parameters"].as_array().expect("parameters");
    let mask = parameters.iter().find(|one| one["name"] == "updateMask");
    let mask = mask.expect("in the query");
    assert_eq!(
        (mask["in"].as_str(), mask.get("required")),
        (Some("query"), None)
    );
}

#[test]
fn values_are_described_as_json_has_them() {
    let (document, _) = described();
    let message = &document["components"]["schemas"]["PubsubMessage"]["properties"];
    assert_eq!(message["data"]["format"], "byte");
    assert_eq!(
        message["attributes"]["additionalProperties"]["type"],
        "string"
    );
    assert_eq!(message["publishTime"]["format"], "date-time");
    let subscription = &document["components"]["schemas"]["Subscription"];
    assert_eq!(subscription["required"], json!(["name", "topic"]));
    let subscription = &subscription["properties"];
    assert_eq!(
        subscription["topicMessageRetentionDuration"]["readOnly"],
        true
    );
    assert!(subscription["messageRetentionDuration"]["pattern"].is_string());
}
