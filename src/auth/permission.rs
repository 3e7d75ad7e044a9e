//! The permissions of Pub/Sub, and which of them each RPC needs (docs/behaviour.md, section 19).

/// What somebody may be allowed to do, as `pubsub.topics.publish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission(&'static str);

impl Permission {
    /// The permission of that name.
    pub fn named(name: &str) -> Option<Self> {
        let name = ALL.iter().find(|known| **known == name);
        name.map(|name| Self(name))
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

/// An RPC and all that whoever calls it has to be allowed.
#[derive(Debug)]
pub struct Rpc {
    /// Its full name: `google.pubsub.v1.Publisher/Publish`.
    pub name: &'static str,
    /// What it needs, in the order in which the request's names are given to the one who decides.
    pub needs: &'static [(Permission, On)],
}

/// Makes a constant for each RPC, and the table of all of them.
macro_rules! rpcs {
    ($($constant:ident = $name:literal $(, $permission:literal $on:ident)*;)*) => {
        /// The RPCs.
        pub mod rpc {
            use super::{On::*, Permission, Rpc};

            $(
                #[doc = concat!("`", $name, "`")]
                pub const $constant: Rpc = Rpc {
                    name: $name,
                    needs: &[$((Permission($permission), $on)),*],
                };
            )*
        }

        /// Every RPC. One on policies is here once for each kind of resource.
        pub const RPCS: &[Rpc] = &[$(rpc::$constant),*];
    };
}

rpcs! {
    CREATE_TOPIC = "google.pubsub.v1.Publisher/CreateTopic", "pubsub.topics.create" Project;
    UPDATE_TOPIC = "google.pubsub.v1.Publisher/UpdateTopic", "pubsub.topics.update" Resource;
    PUBLISH = "google.pubsub.v1.Publisher/Publish", "pubsub.topics.publish" Resource;
    GET_TOPIC = "google.pubsub.v1.Publisher/GetTopic", "pubsub.topics.get" Resource;
    LIST_TOPICS = "google.pubsub.v1.Publisher/ListTopics", "pubsub.topics.list" Project;
    LIST_TOPIC_SUBSCRIPTIONS = "google.pubsub.v1.Publisher/ListTopicSubscriptions", "pubsub.topics.get" Resource;
    LIST_TOPIC_SNAPSHOTS = "google.pubsub.v1.Publisher/ListTopicSnapshots", "pubsub.topics.get" Resource;
    DELETE_TOPIC = "google.pubsub.v1.Publisher/DeleteTopic", "pubsub.topics.delete" Resource;
    DETACH_SUBSCRIPTION = "google.pubsub.v1.Publisher/DetachSubscription", "pubsub.topics.detachSubscription" Resource;
    CREATE_SUBSCRIPTION = "google.pubsub.v1.Subscriber/CreateSubscription", "pubsub.subscriptions.create" Project, "pubsub.topics.attachSubscription" Resource;
    GET_SUBSCRIPTION = "google.pubsub.v1.Subscriber/GetSubscription", "pubsub.subscriptions.get" Resource;
    UPDATE_SUBSCRIPTION = "google.pubsub.v1.Subscriber/UpdateSubscription", "pubsub.subscriptions.update" Resource;
    LIST_SUBSCRIPTIONS = "google.pubsub.v1.Subscriber/ListSubscriptions", "pubsub.subscriptions.list" Project;
    DELETE_SUBSCRIPTION = "google.pubsub.v1.Subscriber/DeleteSubscription", "pubsub.subscriptions.delete" Resource;
    MODIFY_ACK_DEADLINE = "google.pubsub.v1.Subscriber/ModifyAckDeadline", "pubsub.subscriptions.consume" Resource;
    ACKNOWLEDGE = "google.pubsub.v1.Subscriber/Acknowledge", "pubsub.subscriptions.consume" Resource;
    PULL = "google.pubsub.v1.Subscriber/Pull", "pubsub.subscriptions.consume" Resource;
    STREAMING_PULL = "google.pubsub.v1.Subscriber/StreamingPull", "pubsub.subscriptions.consume" Resource;
    MODIFY_PUSH_CONFIG = "google.pubsub.v1.Subscriber/ModifyPushConfig", "pubsub.subscriptions.update" Resource;
    GET_SNAPSHOT = "google.pubsub.v1.Subscriber/GetSnapshot", "pubsub.snapshots.get" Resource;
    LIST_SNAPSHOTS = "google.pubsub.v1.Subscriber/ListSnapshots", "pubsub.snapshots.list" Project;
    CREATE_SNAPSHOT = "google.pubsub.v1.Subscriber/CreateSnapshot", "pubsub.snapshots.create" Project, "pubsub.subscriptions.consume" Resource;
    UPDATE_SNAPSHOT = "google.pubsub.v1.Subscriber/UpdateSnapshot", "pubsub.snapshots.update" Resource;
    DELETE_SNAPSHOT = "google.pubsub.v1.Subscriber/DeleteSnapshot", "pubsub.snapshots.delete" Resource;
    SEEK = "google.pubsub.v1.Subscriber/Seek", "pubsub.subscriptions.consume" Resource;
    CREATE_SCHEMA = "google.pubsub.v1.SchemaService/CreateSchema", "pubsub.schemas.create" Project;
    GET_SCHEMA = "google.pubsub.v1.SchemaService/GetSchema", "pubsub.schemas.get" Resource;
    LIST_SCHEMAS = "google.pubsub.v1.SchemaService/ListSchemas", "pubsub.schemas.list" Project;
    LIST_SCHEMA_REVISIONS = "google.pubsub.v1.SchemaService/ListSchemaRevisions", "pubsub.schemas.listRevisions" Resource;
    COMMIT_SCHEMA = "google.pubsub.v1.SchemaService/CommitSchema", "pubsub.schemas.commit" Resource;
    ROLLBACK_SCHEMA = "google.pubsub.v1.SchemaService/RollbackSchema", "pubsub.schemas.rollback" Resource;
    DELETE_SCHEMA_REVISION = "google.pubsub.v1.SchemaService/DeleteSchemaRevision", "pubsub.schemas.delete" Resource;
    DELETE_SCHEMA = "google.pubsub.v1.SchemaService/DeleteSchema", "pubsub.schemas.delete" Resource;
    VALIDATE_SCHEMA = "google.pubsub.v1.SchemaService/ValidateSchema", "pubsub.schemas.validate" Project;
    VALIDATE_MESSAGE = "google.pubsub.v1.SchemaService/ValidateMessage", "pubsub.schemas.validate" Project;
    GET_TOPIC_POLICY = "google.iam.v1.IAMPolicy/GetIamPolicy", "pubsub.topics.getIamPolicy" Resource;
    SET_TOPIC_POLICY = "google.iam.v1.IAMPolicy/SetIamPolicy", "pubsub.topics.setIamPolicy" Resource;
    GET_SUBSCRIPTION_POLICY = "google.iam.v1.IAMPolicy/GetIamPolicy", "pubsub.subscriptions.getIamPolicy" Resource;
    SET_SUBSCRIPTION_POLICY = "google.iam.v1.IAMPolicy/SetIamPolicy", "pubsub.subscriptions.setIamPolicy" Resource;
    GET_SNAPSHOT_POLICY = "google.iam.v1.IAMPolicy/GetIamPolicy", "pubsub.snapshots.getIamPolicy" Resource;
    SET_SNAPSHOT_POLICY = "google.iam.v1.IAMPolicy/SetIamPolicy", "pubsub.snapshots.setIamPolicy" Resource;
    GET_SCHEMA_POLICY = "google.iam.v1.IAMPolicy/GetIamPolicy", "pubsub.schemas.getIamPolicy" Resource;
    SET_SCHEMA_POLICY = "google.iam.v1.IAMPolicy/SetIamPolicy", "pubsub.schemas.setIamPolicy" Resource;
    TEST_PERMISSIONS = "google.iam.v1.IAMPolicy/TestIamPermissions";
    ATTACH_TOPIC = "packetboat.admin.v1.Admin/AttachTopic", "pubsub.topics.create" Project;
    DETACH_TOPIC = "packetboat.admin.v1.Admin/DetachTopic", "pubsub.topics.delete" Resource;
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
    fn what_an_rpc_needs_is_a_permission_of_pubsub() {
        for (permission, _) in RPCS.iter().flat_map(|rpc| rpc.needs) {
            assert_eq!(Permission::named(permission.name()), Some(*permission));
        }
        assert_eq!(Permission::named("pubsub.topics.fly"), None);
    }
}
