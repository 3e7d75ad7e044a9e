//! `/openapi.json`: the routes, messages and documentation of the protos as an OpenAPI 3.1 document.

mod comments;
mod operation;
mod schema;
#[cfg(test)]
mod tests;

use prost_reflect::DescriptorPool;
use serde_json::{Map, Value, json};

use self::{comments::Comments, schema::Schemas};
use super::routes::{Routes, services};
use crate::proto::DOCUMENTED;

/// How a call can fail: its code, a name, and when (docs/behaviour.md, sections 1.4 and 20.4).
const FAILURES: [(&str, &str, &str); 10] = [
    (
        "400",
        "Invalid",
        "The request says what is not allowed, or what is not possible now.",
    ),
    ("403", "Forbidden", "The caller may not do this."),
    (
        "404",
        "NotFound",
        "The resource does not exist, which is told in JSON; or there is no such path, which is told in HTML.",
    ),
    (
        "409",
        "Conflict",
        "The resource exists already, or somebody else has changed it meanwhile.",
    ),
    (
        "429",
        "Exhausted",
        "A limit is reached, or there is no room.",
    ),
    ("499", "Cancelled", "The call was given up."),
    (
        "500",
        "Internal",
        "The server has failed, or what it has stored is damaged.",
    ),
    ("501", "Unimplemented", "This is not there yet."),
    (
        "503",
        "Unavailable",
        "The server or what it stands on cannot answer now. Try again.",
    ),
    ("504", "TooLate", "There was no answer in time."),
];

const DESCRIPTION: &str = "Google Cloud Pub/Sub, served by Packetboat: the REST form of the gRPC API.

Names of fields may be in camelCase or snake_case. 64-bit integers are strings in answers; requests may have numbers. \
Enums are names, or numbers in requests. Every call takes these parameters in its query as well: `prettyPrint=false` \
for an answer on one line, `fields=a,b/c` for a part of it, `$alt=json;enum-encoding=int` for enums as numbers. \
The header `X-Server-Timeout` says for how many seconds a client waits; a pull that finds nothing answers before. \
StreamingPull is there over gRPC only.";

/// The document, as JSON.
pub fn document(pool: &DescriptorPool, routes: &Routes) -> Vec<u8> {
    describe(pool, routes).to_string().into_bytes()
}

fn describe(pool: &DescriptorPool, routes: &Routes) -> Value {
    let comments = Comments::read(DOCUMENTED);
    let mut schemas = Schemas::new(pool, &comments);
    let mut paths = Map::new();
    for route in routes.iter() {
        let (path, operation) = operation::operation(route, &mut schemas, &comments);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    let mut components = schemas.referred();
    components.insert("Error".to_owned(), error());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Packetboat: Cloud Pub/Sub API v1",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
        },
        "servers": [{"url": "/"}],
        "tags": tags(pool, &comments),
        "paths": paths,
        "components": {"schemas": components, "responses": failures()},
    })
}

/// The services, in the order in which they have their routes.
fn tags(pool: &DescriptorPool, comments: &Comments) -> Vec<Value> {
    let services = services().filter_map(|name| pool.get_service_by_name(name));
    let tags = services.map(|service| {
        let description = comments.of(&service.parent_file(), service.path());
        json!({"name": service.name(), "description": description})
    });
    tags.collect()
}

fn failures() -> Value {
    let mut failures = Map::new();
    for (code, name, description) in FAILURES {
        let mut content = json!({
            "application/json": {"schema": {"$ref": "#/components/schemas/Error"}},
        });
        if code == "404" {
            content["text/html"] = json!({"schema": {"type": "string"}});
        }
        let failure = json!({"description": description, "content": content});
        failures.insert(name.to_owned(), failure);
    }
    failures.into()
}

/// The envelope of an error (docs/behaviour.md, section 20.4).
fn error() -> Value {
    json!({
        "type": "object",
        "description": "Why a call failed.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "status"],
                "properties": {
                    "code": {"type": "integer", "description": "The HTTP status."},
                    "message": {"type": "string"},
                    "status": {"type": "string", "description": "The name of the gRPC status."},
                    "details": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["@type"],
                            "properties": {"@type": {"type": "string"}},
                            "additionalProperties": true,
                        },
                    },
                },
            },
        },
    })
}
