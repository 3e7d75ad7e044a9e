//! Routes as operations.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};

use super::{
    FAILURES,
    comments::Comments,
    schema::{Schemas, is_mask},
};
use crate::{
    limits::{PROJECT_BYTES_MAX, RESOURCE_ID_CHARS},
    wire::rest::{
        routes::{BodyIs, Route},
        transcode::scalar::{DURATION, FIELD_MASK, TIMESTAMP},
    },
};

/// The path of a route, and the operation that it is there.
pub(super) fn operation(
    route: &Route,
    schemas: &mut Schemas<'_>,
    comments: &Comments,
) -> (String, Value) {
    let rpc = &route.descriptor;
    let service = rpc.parent_service();
    let (path, names) = route.template.described();
    let mut parameters: Vec<_> = names.iter().map(|name| path_parameter(name)).collect();
    let mut query = QueryParameters {
        route,
        schemas,
        parameters: Vec::new(),
    };
    query.add(&rpc.input(), &mut Vec::new());
    parameters.extend(query.parameters);
    let mut operation = json!({
        "operationId": operation_id(route, &names),
        "summary": rpc.name(),
        "description": comments.of(&service.parent_file(), rpc.path()),
        "tags": [service.name()],
        "parameters": parameters,
        "responses": responses(&rpc.output(), schemas),
    });
    if let Some(body) = body(route, schemas) {
        operation["requestBody"] = body;
    }
    (path, operation)
}

/// One for each route: a policy is asked for of each kind of resource.
fn operation_id(route: &Route, names: &[String]) -> String {
    let (rpc, service) = (route.descriptor.name(), route.descriptor.parent_service());
    match names.last() {
        Some(resource) if service.name() == "IAMPolicy" => {
            format!("{}_{rpc}_{resource}", service.name())
        }
        _ => format!("{}_{rpc}", service.name()),
    }
}

/// A part of a resource's name (docs/behaviour.md, section 1.3).
fn path_parameter(name: &str) -> Value {
    let id = format!(
        "[A-Za-z][A-Za-z0-9._~+%-]{{{},{}}}",
        RESOURCE_ID_CHARS.start() - 1,
        RESOURCE_ID_CHARS.end() - 1
    );
    let pattern = match name {
        "project" => format!("^[^/\\x00-\\x1f\\x7f-\\x9f]{{1,{PROJECT_BYTES_MAX}}}$"),
        // With a revision behind it or without.
        "schema" => format!("^{id}(@[0-9a-f]{{8}})?$"),
        _ => format!("^{id}$"),
    };
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "schema": {"type": "string", "pattern": pattern},
    })
}

/// The fields of a request that are neither in its path nor in its body.
struct QueryParameters<'a, 'b> {
    route: &'a Route,
    schemas: &'a mut Schemas<'b>,
    parameters: Vec<Value>,
}

impl QueryParameters<'_, '_> {
    /// Adds those of `message`, which lies at `outer`. None of the requests contains itself.
    fn add(&mut self, message: &MessageDescriptor, outer: &mut Vec<FieldDescriptor>) {
        for field in message.fields() {
            outer.push(field.clone());
            let in_path = self.route.variables.contains(outer);
            let in_body = match &self.route.body {
                BodyIs::Nothing => false,
                BodyIs::Field(body) => outer[0] == *body,
                // A mask may be in either.
                BodyIs::Request => !is_mask(&field) || outer.len() > 1,
            };
            match field.kind() {
                _ if in_path || in_body || field.is_map() => {}
                Kind::Message(inner) if !is_text(&inner) => {
                    if !field.is_list() {
                        self.add(&inner, outer);
                    }
                }
                _ => self.push(&field, outer),
            }
            outer.pop();
        }
    }

    fn push(&mut self, field: &FieldDescriptor, path: &[FieldDescriptor]) {
        let names: Vec<_> = path.iter().map(FieldDescriptor::json_name).collect();
        let mut schema = self.schemas.field(field);
        let description = schema["description"].take();
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("description");
        }
        let mut parameter = json!({"name": names.join("."), "in": "query", "schema": schema});
        let required = self.schemas.is_required(field) && path.len() == 1;
        if required && !matches!(self.route.body, BodyIs::Request) {
            parameter["required"] = true.into();
        }
        if !description.is_null() {
            parameter["description"] = description;
        }
        self.parameters.push(parameter);
    }
}

/// Whether JSON has a string for the message.
fn is_text(message: &MessageDescriptor) -> bool {
    [TIMESTAMP, DURATION, FIELD_MASK].contains(&message.full_name())
}

fn body(route: &Route, schemas: &mut Schemas<'_>) -> Option<Value> {
    let message = route.descriptor.input();
    let (schema, required) = match &route.body {
        BodyIs::Nothing => return None,
        BodyIs::Field(field) => (schemas.field(field), schemas.is_required(field)),
        BodyIs::Request => {
            let request = schemas.request(&message, &route.variables);
            let required = request.get("required").is_some();
            (request, required)
        }
    };
    Some(json!({
        "required": required,
        "content": {"application/json": {"schema": schema}},
    }))
}

fn responses(answer: &MessageDescriptor, schemas: &mut Schemas<'_>) -> Value {
    let mut responses = json!({
        "200": {
            "description": "It was done.",
            "content": {"application/json": {"schema": schemas.message(answer)}},
        },
    });
    for (code, name, _) in FAILURES {
        responses[code] = json!({"$ref": format!("#/components/responses/{name}")});
    }
    responses
}
