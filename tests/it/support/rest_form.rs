//! The REST form of a call, as the annotations of the protos give it. Shared by the clients of these tests and, by its
//! path, by the server's own tests of answers.

use std::fmt::Write as _;

use prost_reflect::{DynamicMessage, MethodDescriptor, ReflectMessage as _, SerializeOptions};
use serde_json::{Map, Value};

/// A call as REST has it.
pub(crate) struct RestForm {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Option<Value>,
}

/// Why a call has no such form and goes over gRPC after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoForm {
    /// The RPC has no route.
    NoRoute,
    /// The name is not one that a path can hold: that it is refused shows over gRPC only.
    NotInPath,
    /// JSON cannot hold a value.
    NotJson,
}

/// Where an RPC is, as its annotation says; that of a policy as Google's service configuration says.
struct Rule {
    method: &'static str,
    template: String,
    body: String,
}

impl Rule {
    fn of(rpc: &MethodDescriptor, fields: &Map<String, Value>) -> Option<Self> {
        if rpc.parent_service().name() == "IAMPolicy" {
            let (method, verb, body) = match rpc.name() {
                "GetIamPolicy" => ("get", "getIamPolicy", ""),
                "SetIamPolicy" => ("post", "setIamPolicy", "*"),
                _ => ("post", "testIamPermissions", "*"),
            };
            let resource = fields.get("resource")?.as_str()?;
            let collection = resource.split('/').nth(2)?;
            return Some(Self {
                method,
                template: format!("/v1/{{resource=projects/*/{collection}/*}}:{verb}"),
                body: body.to_owned(),
            });
        }
        let http = rpc.parent_pool().get_extension_by_name("google.api.http");
        let http = http.expect("it is in the descriptors");
        let options = rpc.options();
        if !options.has_extension(&http) {
            return None;
        }
        let rule = options.get_extension(&http);
        let rule = rule.as_message().expect("a rule");
        let text = |name: &str| {
            let text = rule.get_field_by_name(name).expect("a field of a rule");
            text.as_str().expect("a text").to_owned()
        };
        let method = ["get", "put", "post", "delete", "patch"];
        let method = method.into_iter().find(|one| rule.has_field_by_name(one));
        let method = method.expect("a method");
        Some(Self {
            method,
            template: text(method),
            body: text("body"),
        })
    }
}

impl RestForm {
    pub(crate) fn of(rpc: &MethodDescriptor, message: &DynamicMessage) -> Result<Self, NoForm> {
        let mut fields = to_json(message).ok_or(NoForm::NotJson)?;
        let rule = Rule::of(rpc, &fields).ok_or(NoForm::NoRoute)?;
        let target = path(&rule.template, &mut fields).ok_or(NoForm::NotInPath)?;
        let (target, body) = match rule.body.as_str() {
            "*" => (target, Some(Value::Object(fields))),
            "" => (with_query(target, &fields), None),
            name => {
                let body = fields.remove(name);
                (with_query(target, &fields), body)
            }
        };
        Ok(Self {
            method: rule.method.to_ascii_uppercase(),
            target,
            body,
        })
    }
}

/// `None` if JSON cannot say the same, such as that a field mask has an empty path.
fn to_json(message: &DynamicMessage) -> Option<Map<String, Value>> {
    // Names as in the protos, as those of the templates are.
    let options = SerializeOptions::new().use_proto_field_name(true);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    let json = json.ok()?;
    let same = DynamicMessage::deserialize(message.descriptor(), &json).ok()? == *message;
    match json {
        Value::Object(fields) if same => Some(fields),
        _ => None,
    }
}

/// The template with the values of its variables, which are taken out of `fields`.
fn path(template: &str, fields: &mut Map<String, Value>) -> Option<String> {
    let mut path = String::new();
    let mut rest = template;
    while let Some((before, variable)) = rest.split_once('{') {
        let (variable, after) = variable.split_once('}')?;
        let (name, pattern) = variable.split_once('=')?;
        path.push_str(before);
        path.push_str(&encoded(&take(fields, name)?, pattern)?);
        rest = after;
    }
    path.push_str(rest);
    Some(path)
}

/// The value of a field whose name may have dots.
fn take(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    match name.split_once('.') {
        Some((outer, inner)) => take(fields.get_mut(outer)?.as_object_mut()?, inner),
        None => Some(fields.remove(name)?.as_str()?.to_owned()),
    }
}

/// `value` for a path, if it is of that pattern.
fn encoded(value: &str, pattern: &str) -> Option<String> {
    let (values, patterns) = (value.split('/'), pattern.split('/'));
    if values.clone().count() != patterns.clone().count() {
        return None;
    }
    let mut path = Vec::new();
    for (value, pattern) in values.zip(patterns) {
        if value.is_empty() || (pattern != "*" && pattern != value) {
            return None;
        }
        path.push(percent_encoded(value));
    }
    Some(path.join("/"))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes it");
        }
    }
    encoded
}

fn with_query(path: String, fields: &Map<String, Value>) -> String {
    let mut parameters = Vec::new();
    add_parameters("", fields, &mut parameters);
    if parameters.is_empty() {
        path
    } else {
        format!("{path}?{}", parameters.join("&"))
    }
}

/// Fields inside of fields have names with dots.
fn add_parameters(prefix: &str, fields: &Map<String, Value>, parameters: &mut Vec<String>) {
    for (name, value) in fields {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => add_parameters(&format!("{name}."), inner, parameters),
            Value::String(text) => parameters.push(format!("{name}={}", percent_encoded(text))),
            other => parameters.push(format!("{name}={other}")),
        }
    }
}
