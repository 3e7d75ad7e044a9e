//! Access policies: who has which role on a topic or subscription (docs/behaviour.md, section 19). Stored and shown;
//! what they say does not decide yet.

use serde::{Deserialize, Serialize};

use super::violation::Violation;
use crate::limits::{POLICY_BYTES_MAX, POLICY_MEMBERS_MAX};

/// Bytes that differ between any two policies of a resource.
pub type Etag = [u8; 8];

/// The etag of a resource whose policy was never set.
const NEVER_SET: &[u8] = &[0x00, 0x20, 0x01];
/// The version of a policy with conditions.
const CONDITIONAL: i32 = 3;
/// Who may be a member, by the beginning of its text.
const MEMBERS: [&str; 11] = [
    "user:",
    "serviceAccount:",
    "group:",
    "domain:",
    "principal:",
    "principalSet:",
    "projectOwner:",
    "projectEditor:",
    "projectViewer:",
    "deleted:",
    "principalHierarchy:",
];
/// Members without a name.
const EVERYONE: [&str; 2] = ["allUsers", "allAuthenticatedUsers"];

/// A policy as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Who has which role.
    pub bindings: Vec<Binding>,
    etag: Etag,
}

/// Who has one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// `roles/pubsub.publisher`, or a role of a project's or an organization's own.
    pub role: String,
    /// `user:ada@example.com`, `allUsers`.
    pub members: Vec<String>,
    /// When it holds; always without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// When a binding holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// In the Common Expression Language.
    pub expression: String,
    /// What a list of conditions shows.
    pub title: String,
    /// What it is about.
    pub description: String,
    /// Where it was written.
    pub location: String,
}

/// A policy that a client wants, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPolicy {
    /// Who is to have which role; `None` leaves that as it is.
    pub bindings: Option<Vec<Binding>>,
    /// What the policy has to be replaced; any, if it is empty.
    pub etag: Vec<u8>,
}

impl NewPolicy {
    /// Checks a policy that was given with this version.
    pub fn new(
        version: i32,
        bindings: Option<Vec<Binding>>,
        etag: Vec<u8>,
    ) -> Result<Self, Violation> {
        check_version("policy.version", version)?;
        let checked = bindings.as_deref().unwrap_or_default();
        let conditional = checked.iter().any(|binding| binding.condition.is_some());
        if conditional && version != CONDITIONAL {
            return Err(Violation::argument(format!(
                "policy.version: a policy with conditions has version 3, not {version}"
            )));
        }
        let members: usize = checked.iter().map(|binding| binding.members.len()).sum();
        if members > POLICY_MEMBERS_MAX {
            return Err(Violation::TooLarge {
                what: "policy.bindings.members",
                given: members.to_string(),
                max: POLICY_MEMBERS_MAX.to_string(),
            });
        }
        let bytes: usize = checked.iter().map(Binding::bytes).sum();
        if bytes > POLICY_BYTES_MAX {
            return Err(Violation::TooLarge {
                what: "policy.size",
                given: bytes.to_string(),
                max: POLICY_BYTES_MAX.to_string(),
            });
        }
        checked.iter().try_for_each(Binding::check)?;
        Ok(Self { bindings, etag })
    }
}

/// Checks the version of a policy that `field` gives.
pub fn check_version(field: &str, version: i32) -> Result<(), Violation> {
    if [0, 1, CONDITIONAL].contains(&version) {
        return Ok(());
    }
    Err(Violation::argument(format!(
        "{field}: {version} is not a version; 0, 1 and 3 are"
    )))
}

impl Binding {
    fn check(&self) -> Result<(), Violation> {
        let own = self.role.starts_with("projects/") || self.role.starts_with("organizations/");
        let named = match self.role.split_once("roles/") {
            Some(("", name)) => !name.is_empty(),
            Some((_, name)) => own && !name.is_empty(),
            None => false,
        };
        if !named {
            return Err(Violation::argument(format!(
                "policy.bindings.role: '{}' is not a role, like roles/pubsub.publisher",
                self.role
            )));
        }
        match self.members.iter().find(|member| !is_member(member)) {
            None => Ok(()),
            Some(member) => Err(Violation::argument(format!(
                "policy.bindings.members: '{member}' is not a member, like user:ada@example.com or allUsers"
            ))),
        }
    }

    fn bytes(&self) -> usize {
        let members: usize = self.members.iter().map(String::len).sum();
        let condition = self.condition.as_ref().map_or(0, |condition| {
            condition.expression.len()
                + condition.title.len()
                + condition.description.len()
                + condition.location.len()
        });
        self.role.len() + members + condition
    }
}

fn is_member(member: &str) -> bool {
    let named = |kind: &&str| {
        member
            .strip_prefix(kind)
            .is_some_and(|name| !name.is_empty())
    };
    EVERYONE.contains(&member) || MEMBERS.iter().any(named)
}

impl Policy {
    /// The policy after `current`, with a new etag; `None` if the client wanted to replace another one.
    pub fn after(current: Option<&Self>, new: &NewPolicy, etag: Etag) -> Option<Self> {
        let replaces = new.etag.is_empty() || new.etag == Self::etag(current);
        let bindings = new.bindings.clone();
        let kept = || current.map(|policy| policy.bindings.clone());
        replaces.then(|| Self {
            bindings: bindings.or_else(kept).unwrap_or_default(),
            etag,
        })
    }

    /// What says whether a policy was replaced since it was read.
    pub fn etag(policy: Option<&Self>) -> &[u8] {
        policy.map_or(NEVER_SET, |policy| &policy.etag)
    }

    /// The version as it is shown.
    pub fn version(&self) -> i32 {
        let conditional = self
            .bindings
            .iter()
            .any(|binding| binding.condition.is_some());
        if conditional { CONDITIONAL } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(role: &str, member: &str) -> Binding {
        Binding {
            role: role.to_owned(),
            members: vec![member.to_owned()],
            condition: None,
        }
    }

    fn checked(version: i32, binding: Binding) -> Result<NewPolicy, Violation> {
        NewPolicy::new(version, Some(vec![binding]), Vec::new())
    }

    #[test]
    fn members_and_roles_have_their_forms() {
        for (role, member) in [
            ("roles/pubsub.publisher", "allUsers"),
            ("roles/pubsub.publisher", "allAuthenticatedUsers"),
            ("roles/pubsub.viewer", "user:ada@example.com"),
            (
                "projects/p/roles/mine",
                "serviceAccount:a@p.iam.gserviceaccount.com",
            ),
            (
                "organizations/1/roles/ours",
                "principal://iam.googleapis.com/x",
            ),
        ] {
            assert!(checked(1, binding(role, member)).is_ok(), "{role} {member}");
        }
        for (role, member) in [
            ("", "allUsers"),
            ("roles/", "allUsers"),
            ("pubsub.publisher", "allUsers"),
            ("x/roles/a", "allUsers"),
            ("roles/a", ""),
            ("roles/a", "user:"),
            ("roles/a", "ada@example.com"),
            ("roles/a", "allusers"),
        ] {
            assert!(
                checked(1, binding(role, member)).is_err(),
                "{role} {member}"
            );
        }
    }

    #[test]
    fn a_condition_needs_version_3() {
        let conditional = Binding {
            condition: Some(Condition::default()),
            ..binding("roles/a", "allUsers")
        };
        assert!(checked(3, conditional.clone()).is_ok());
        for version in [0, 1] {
            assert!(checked(version, conditional.clone()).is_err());
            assert!(checked(version, binding("roles/a", "allUsers")).is_ok());
        }
        for version in [-1, 2, 4] {
            assert!(checked(version, binding("roles/a", "allUsers")).is_err());
        }
    }

    #[test]
    fn an_etag_replaces_only_the_policy_that_it_was_read_with() {
        let new = |etag: &[u8]| {
            NewPolicy::new(1, Some(vec![binding("roles/a", "allUsers")]), etag.to_vec())
                .expect("valid")
        };
        let first = Policy::after(None, &new(NEVER_SET), [1; 8]).expect("it was never set");
        assert_eq!(Policy::after(Some(&first), &new(NEVER_SET), [2; 8]), None);
        assert!(Policy::after(Some(&first), &new(&[1; 8]), [2; 8]).is_some());
        assert!(Policy::after(Some(&first), &new(b""), [2; 8]).is_some());
    }

    #[test]
    fn a_policy_is_bounded() {
        let many = Binding {
            members: vec!["allUsers".to_owned(); POLICY_MEMBERS_MAX + 1],
            ..binding("roles/a", "allUsers")
        };
        assert!(checked(1, many).is_err());
        let long = binding("roles/a", &format!("user:{}", "a".repeat(POLICY_BYTES_MAX)));
        assert!(checked(1, long).is_err());
    }
}
