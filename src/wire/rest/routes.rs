//! Which RPC a method and a path mean, read from the descriptors.

use std::sync::Arc;

use http::Method;
use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MethodDescriptor,
    Value,
};
use thiserror::Error;

use super::template::{BadTemplate, NotText, Path, Template};
use crate::rpc::{RPCS, Rpc};

/// The service of access policies. Its annotations are not those that Pub/Sub has in production: Google's service
/// configuration replaces them (docs/behaviour.md, section 20.1).
const POLICIES: &str = "google.iam.v1.IAMPolicy";
/// What has a policy.
const WITH_POLICY: [&str; 4] = ["topics", "subscriptions", "snapshots", "schemas"];

/// Why the descriptors make no routes.
#[derive(Debug, Error)]
pub enum BadRoutes {
    /// Something is not in them.
    #[error("{0} is not in the descriptors of the API")]
    Missing(&'static str),
    /// A template is not understood.
    #[error(transparent)]
    Template(#[from] BadTemplate),
    /// A template or a body names a field that the request does not have.
    #[error("{rpc} has no field '{field}' for its route")]
    Field {
        /// The RPC.
        rpc: String,
        /// What it was to have.
        field: String,
    },
}

/// What a request's body is.
#[derive(Clone, Debug)]
pub enum BodyIs {
    /// Nothing.
    Nothing,
    /// All fields of the request that the path does not give.
    Request,
    /// This field.
    Field(FieldDescriptor),
}

/// One way to call an RPC.
#[derive(Clone, Debug)]
pub struct Route {
    /// The HTTP method.
    pub method: Method,
    /// The path.
    pub template: Template,
    /// For each variable of the path, the field that it gives, from the request on.
    pub variables: Vec<Vec<FieldDescriptor>>,
    /// What the body is.
    pub body: BodyIs,
    /// The RPC.
    pub rpc: &'static Rpc,
    /// Its messages.
    pub descriptor: MethodDescriptor,
    /// The largest body, bytes.
    pub json_bytes_max: usize,
}

/// The route of a request, with the values of its variables.
pub type Found<'a> = (&'a Arc<Route>, Vec<String>);

/// All ways to call RPCs.
#[derive(Clone, Debug)]
pub struct Routes(Vec<Arc<Route>>);

impl Routes {
    /// Reads the routes of all RPCs that REST has.
    ///
    /// # Errors
    /// The descriptors are not those of Pub/Sub.
    pub fn read(pool: &DescriptorPool) -> Result<Self, BadRoutes> {
        const HTTP: &str = "google.api.http";
        let http = pool.get_extension_by_name(HTTP);
        let http = http.ok_or(BadRoutes::Missing(HTTP))?;
        let mut routes = Vec::new();
        for (rpc, json_bytes_max) in over_rest() {
            let (service, name) = rpc.names();
            let methods = pool.get_service_by_name(service);
            let descriptor = methods
                .and_then(|service| service.methods().find(|method| method.name() == name))
                .ok_or(BadRoutes::Missing(rpc.path))?;
            let rules = match service {
                POLICIES => policy_rules(name),
                _ => rules(&descriptor, &http),
            };
            for rule in rules {
                routes.push(route(rpc, json_bytes_max, &descriptor, rule)?);
            }
        }
        // A path with a verb could be taken for one whose last name has a colon.
        routes.sort_by_key(|route| !route.template.has_verb());
        Ok(Self(routes.into_iter().map(Arc::new).collect()))
    }

    /// The route of a request, with the values of its variables.
    ///
    /// # Errors
    /// A value is not UTF-8.
    pub fn find(&self, method: &Method, path: &str) -> Result<Option<Found<'_>>, NotText> {
        let path = Path::new(path);
        let routes = self.0.iter().filter(|route| route.method == *method);
        let mut found = routes.filter_map(|route| Some((route, route.template.matches(&path)?)));
        let found = found.next();
        found
            .map(|(route, values)| Ok((route, values?)))
            .transpose()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// The RPCs that REST has, each with the largest body of its requests, bytes.
fn over_rest() -> impl Iterator<Item = (&'static Rpc, usize)> {
    RPCS.iter()
        .filter_map(|rpc| Some((rpc, rpc.json_bytes_max?)))
}

/// All services that have routes.
pub(super) fn services() -> impl Iterator<Item = &'static str> {
    let mut services: Vec<_> = over_rest().map(|(rpc, _)| rpc.names().0).collect();
    services.dedup();
    services.into_iter()
}

/// What an annotation says.
struct Rule {
    method: Method,
    template: String,
    body: String,
}

/// The rules of an RPC; none if it has no annotation.
fn rules(rpc: &MethodDescriptor, http: &ExtensionDescriptor) -> Vec<Rule> {
    let options = rpc.options();
    if !options.has_extension(http) {
        return Vec::new();
    }
    let Value::Message(first) = &*options.get_extension(http) else {
        return Vec::new();
    };
    let more = first.get_field_by_name("additional_bindings");
    let more = more.as_deref().and_then(Value::as_list).unwrap_or_default();
    let more = more.iter().filter_map(Value::as_message);
    std::iter::once(first)
        .chain(more)
        .filter_map(rule)
        .collect()
}

fn rule(rule: &DynamicMessage) -> Option<Rule> {
    const METHODS: [(&str, Method); 5] = [
        ("get", Method::GET),
        ("put", Method::PUT),
        ("post", Method::POST),
        ("delete", Method::DELETE),
        ("patch", Method::PATCH),
    ];
    let text = |name| Some(rule.get_field_by_name(name)?.as_str()?.to_owned());
    let (name, method) = METHODS
        .into_iter()
        .find(|(name, _)| rule.has_field_by_name(name))?;
    Some(Rule {
        method,
        template: text(name)?,
        body: text("body").unwrap_or_default(),
    })
}

/// The rules of an RPC of access policies, in Google's service configuration.
fn policy_rules(rpc: &str) -> Vec<Rule> {
    let (method, verb, body) = match rpc {
        "GetIamPolicy" => (Method::GET, "getIamPolicy", ""),
        "SetIamPolicy" => (Method::POST, "setIamPolicy", "*"),
        "TestIamPermissions" => (Method::POST, "testIamPermissions", "*"),
        _ => return Vec::new(),
    };
    let rule = |collection| Rule {
        method: method.clone(),
        template: format!("/v1/{{resource=projects/*/{collection}/*}}:{verb}"),
        body: body.to_owned(),
    };
    WITH_POLICY.into_iter().map(rule).collect()
}

fn route(
    rpc: &'static Rpc,
    json_bytes_max: usize,
    descriptor: &MethodDescriptor,
    rule: Rule,
) -> Result<Route, BadRoutes> {
    let template = Template::parse(&rule.template)?;
    let no_field = |field: &str| BadRoutes::Field {
        rpc: descriptor.full_name().to_owned(),
        field: field.to_owned(),
    };
    let path = |name: &str| field_path(descriptor, name).ok_or_else(|| no_field(name));
    let variables = template.variables().map(path);
    let variables = variables.collect::<Result<_, _>>()?;
    let body = match rule.body.as_str() {
        "" => BodyIs::Nothing,
        "*" => BodyIs::Request,
        name => {
            let field = descriptor.input().get_field_by_name(name);
            BodyIs::Field(field.ok_or_else(|| no_field(name))?)
        }
    };
    Ok(Route {
        method: rule.method,
        variables,
        template,
        body,
        rpc,
        descriptor: descriptor.clone(),
        json_bytes_max,
    })
}

/// The fields that a name with dots leads through; nothing if there is none, or if the last one is not a string.
fn field_path(rpc: &MethodDescriptor, name: &str) -> Option<Vec<FieldDescriptor>> {
    let mut message = Some(rpc.input());
    let mut path = Vec::new();
    for part in name.split('.') {
        let field = message?.get_field_by_name(part)?;
        message = field.kind().as_message().cloned();
        path.push(field);
    }
    let last = path.last()?;
    (last.kind() == Kind::String && !last.is_list()).then_some(path)
}

#[cfg(test)]
mod tests;
