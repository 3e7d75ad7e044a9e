//! The permissions of Pub/Sub (docs/behaviour.md, section 19). Which of them an RPC needs is in `rpc::table`.

/// What a caller may be allowed to do, as `pubsub.topics.publish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission(&'static str);

impl Permission {
    /// The permission of that name.
    pub fn named(name: &str) -> Option<Self> {
        let name = ALL.iter().find(|known| **known == name);
        name.map(|name| Self(name))
    }

    /// The permission of that name, which has to be one.
    pub(crate) const fn known(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// On what a permission is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// On the project that the request names, or in which that lies what it names.
    Project,
    /// On the resource that the request names.
    Resource,
}

impl On {
    /// What that is, of a request that gives `name`. Of what is no name, all of it may be the project.
    pub fn of(self, name: &str) -> &str {
        match self {
            Self::Project => {
                let end = name
                    .match_indices('/')
                    .nth(1)
                    .map_or(name.len(), |(at, _)| at);
                &name[..end]
            }
            Self::Resource => name,
        }
    }
}

/// A permission, and on what it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The permission.
    pub permission: Permission,
    /// On what.
    pub on: On,
}

/// Every permission that Pub/Sub has.
const ALL: [&str; 53] = [
    "pubsub.topics.attachSubscription",
    "pubsub.topics.create",
    "pubsub.topics.createTagBinding",
    "pubsub.topics.delete",
    "pubsub.topics.deleteTagBinding",
    "pubsub.topics.detachSubscription",
    "pubsub.topics.get",
    "pubsub.topics.getIamPolicy",
    "pubsub.topics.list",
    "pubsub.topics.listEffectiveTags",
    "pubsub.topics.listTagBindings",
    "pubsub.topics.publish",
    "pubsub.topics.setIamPolicy",
    "pubsub.topics.update",
    "pubsub.topics.updateTag",
    "pubsub.subscriptions.consume",
    "pubsub.subscriptions.create",
    "pubsub.subscriptions.createTagBinding",
    "pubsub.subscriptions.delete",
    "pubsub.subscriptions.deleteTagBinding",
    "pubsub.subscriptions.get",
    "pubsub.subscriptions.getIamPolicy",
    "pubsub.subscriptions.list",
    "pubsub.subscriptions.listEffectiveTags",
    "pubsub.subscriptions.listTagBindings",
    "pubsub.subscriptions.setIamPolicy",
    "pubsub.subscriptions.update",
    "pubsub.subscriptions.updateTag",
    "pubsub.snapshots.create",
    "pubsub.snapshots.createTagBinding",
    "pubsub.snapshots.delete",
    "pubsub.snapshots.deleteTagBinding",
    "pubsub.snapshots.get",
    "pubsub.snapshots.getIamPolicy",
    "pubsub.snapshots.list",
    "pubsub.snapshots.listEffectiveTags",
    "pubsub.snapshots.listTagBindings",
    "pubsub.snapshots.seek",
    "pubsub.snapshots.setIamPolicy",
    "pubsub.snapshots.update",
    "pubsub.snapshots.updateTag",
    "pubsub.schemas.attach",
    "pubsub.schemas.commit",
    "pubsub.schemas.create",
    "pubsub.schemas.delete",
    "pubsub.schemas.get",
    "pubsub.schemas.getIamPolicy",
    "pubsub.schemas.list",
    "pubsub.schemas.listRevisions",
    "pubsub.schemas.rollback",
    "pubsub.schemas.setIamPolicy",
    "pubsub.schemas.validate",
    "pubsub.messageTransforms.validate",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_one_of_pubsub() {
        let publish = Permission::named("pubsub.topics.publish").expect("known");
        assert_eq!(publish.name(), "pubsub.topics.publish");
        assert_eq!(Permission::named("pubsub.topics.fly"), None);
    }

    #[test]
    fn what_is_needed_on_a_project_is_needed_on_the_one_that_a_name_lies_in() {
        for (name, project) in [
            ("projects/p", "projects/p"),
            ("projects/p/topics/top", "projects/p"),
            (
                "projects/example.com:p/topics/top",
                "projects/example.com:p",
            ),
            ("projects//topics/top", "projects/"),
            ("top", "top"),
            ("", ""),
        ] {
            assert_eq!(On::Project.of(name), project);
            assert_eq!(On::Resource.of(name), name);
        }
    }
}
