//! `google.iam.v1.Policy`.

use crate::{
    auth::permission::Permission,
    limits::TESTED_PERMISSIONS_MAX,
    proto::google::{iam::v1 as proto, r#type::Expr},
    resource::{
        name::{SubscriptionName, TopicName},
        policy::{self, Binding, Condition, NewPolicy, Policy},
        violation::Violation,
    },
    service::WithPolicy,
};

use super::Refused;

/// They are never stored and ignored.
const AUDIT_CONFIGS: Refused = Refused::Unsupported {
    resource: "Policy",
    field: "audit_configs",
};

/// What a `resource` names.
///
/// # Errors
/// It names nothing that has a policy, or something that does not exist here yet.
pub fn resource(name: &str) -> Result<WithPolicy, Refused> {
    let collection = name.split('/').nth(2).unwrap_or_default();
    match collection {
        "topics" => Ok(WithPolicy::Topic(TopicName::parse("resource", name)?)),
        "subscriptions" => {
            let name = SubscriptionName::parse("resource", name)?;
            Ok(WithPolicy::Subscription(name))
        }
        "snapshots" => Err(Refused::Unsupported {
            resource: "Policy",
            field: "of a snapshot",
        }),
        "schemas" => Err(Refused::Unsupported {
            resource: "Policy",
            field: "of a schema",
        }),
        _ => Err(Violation::name("resource", name).into()),
    }
}

/// Checks the version of which a GetIamPolicy wants the policy. It makes no difference: conditions are always shown.
pub fn check_get(request: &proto::GetIamPolicyRequest) -> Result<(), Violation> {
    let options = request.options.unwrap_or_default();
    policy::check_version(
        "options.requested_policy_version",
        options.requested_policy_version,
    )
}

/// Those of the permissions that a TestIamPermissions asks about which Pub/Sub has.
pub fn to_test(request: proto::TestIamPermissionsRequest) -> Result<Vec<String>, Violation> {
    let count = request.permissions.len();
    if count > TESTED_PERMISSIONS_MAX {
        return Err(Violation::TooLarge {
            what: "permissions",
            given: count.to_string(),
            max: TESTED_PERMISSIONS_MAX.to_string(),
        });
    }
    if let Some(wildcard) = request.permissions.iter().find(|name| name.contains('*')) {
        return Err(Violation::argument(format!(
            "permissions: '{wildcard}' has a wildcard; permissions are tested one by one"
        )));
    }
    let mut known = request.permissions;
    known.retain(|name| Permission::named(name).is_some());
    Ok(known)
}

/// The policy that a SetIamPolicy asks for. Fields outside the mask are ignored; without a mask, bindings and
/// etag count.
pub fn to_set(request: proto::SetIamPolicyRequest) -> Result<NewPolicy, Refused> {
    let given = request
        .policy
        .ok_or_else(|| Violation::argument("policy: it must be set, and may be empty"))?;
    let paths = request.update_mask.unwrap_or_default().paths;
    let (mut bindings, mut etag) = (paths.is_empty(), paths.is_empty());
    for path in &paths {
        match path.as_str() {
            "bindings" => bindings = true,
            "etag" => etag = true,
            "version" => {}
            "audit_configs" => return Err(AUDIT_CONFIGS),
            _ => {
                return Err(Violation::argument(format!(
                    "update_mask: '{path}' is not a field of a policy that can be set; bindings, etag and version are"
                ))
                .into());
            }
        }
    }
    if paths.is_empty() && !given.audit_configs.is_empty() {
        return Err(AUDIT_CONFIGS);
    }
    let given_bindings = given.bindings.into_iter().map(binding).collect();
    let bindings = bindings.then_some(given_bindings);
    let etag = if etag {
        given.etag.to_vec()
    } else {
        Vec::new()
    };
    Ok(NewPolicy::new(given.version, bindings, etag)?)
}

fn binding(given: proto::Binding) -> Binding {
    Binding {
        role: given.role,
        members: given.members,
        condition: given.condition.map(|condition| Condition {
            expression: condition.expression,
            title: condition.title,
            description: condition.description,
            location: condition.location,
        }),
    }
}

/// What the API shows: of a policy that was never set the etag alone.
pub fn to_proto(policy: Option<&Policy>) -> proto::Policy {
    let etag = Policy::etag(policy).to_vec().into();
    let Some(policy) = policy else {
        return proto::Policy {
            etag,
            ..proto::Policy::default()
        };
    };
    let bindings = policy.bindings.iter().map(|binding| proto::Binding {
        role: binding.role.clone(),
        members: binding.members.clone(),
        condition: binding.condition.clone().map(|condition| Expr {
            expression: condition.expression,
            title: condition.title,
            description: condition.description,
            location: condition.location,
        }),
    });
    proto::Policy {
        version: policy.version(),
        bindings: bindings.collect(),
        etag,
        ..proto::Policy::default()
    }
}
