//! The table of all RPCs.

use super::{Answers, Needs, OnClosing, OnLostLease, Requests, Rpc};
use crate::{
    auth::permission::{Need, On, Permission},
    limits::{
        ACK_IDS_MAX, ACK_REQUEST_BYTES_MAX, ATTRIBUTES_MAX, JSON_BYTES_MAX, KEY_FIELDS_MAX,
        LABELS_MAX, MASK_PATHS_MAX, POLICY_MEMBERS_MAX, PUBLISH_MESSAGES_MAX, PUSH_ATTRIBUTES_MAX,
        QUESTION_BYTES_MAX, REQUEST_BYTES_MAX, SMALL_JSON_BYTES_MAX, STORAGE_REGIONS_MAX,
        STRUCTURE_VALUES_MAX, TAGS_MAX, TESTED_PERMISSIONS_MAX, TRANSFORMS_MAX,
    },
};

/// The usual RPC.
const UNARY: Rpc = Rpc {
    path: "",
    needs: &[],
    requests: Requests::One,
    message_bytes_max: REQUEST_BYTES_MAX,
    json_bytes_max: Some(SMALL_JSON_BYTES_MAX),
    answers: Answers::One,
    on_lost_lease: OnLostLease::Refused,
    on_closing: OnClosing::Awaited,
    details_errors: false,
};
/// It lists.
const LIST: Rpc = Rpc {
    answers: Answers::Page,
    ..UNARY
};
/// Its requests are large.
const LARGE_JSON: Rpc = Rpc {
    json_bytes_max: Some(JSON_BYTES_MAX),
    ..UNARY
};
/// Its requests are ack ids and little else.
const ACK_IDS: Rpc = Rpc {
    message_bytes_max: ACK_REQUEST_BYTES_MAX,
    details_errors: true,
    ..UNARY
};
const GRPC_ONLY: Rpc = Rpc {
    json_bytes_max: None,
    ..UNARY
};
const STREAM: Rpc = Rpc {
    requests: Requests::Stream,
    answers: Answers::Stream,
    ..GRPC_ONLY
};
/// It asks about this server only, in a few words, and may go on for ever.
const OF_SERVER: Rpc = Rpc {
    message_bytes_max: QUESTION_BYTES_MAX,
    answers: Answers::Stream,
    on_lost_lease: OnLostLease::Answered,
    on_closing: OnClosing::Ended,
    ..GRPC_ONLY
};
const STREAM_OF_SERVER: Rpc = Rpc {
    requests: Requests::Stream,
    ..OF_SERVER
};

/// What is true of a path at which there is no RPC.
pub(super) static UNSERVED: Rpc = GRPC_ONLY;
/// The same in the services that ask about this server only.
pub(super) static UNSERVED_OF_SERVER: Rpc = OF_SERVER;

/// Makes the table, and a constant for what each RPC needs. One on policies has one for each kind of resource.
macro_rules! rpcs {
    ($($kind:ident $path:literal {$($needs:ident: [$($permission:literal on $on:ident),*])*})*) => {
        $($(
            #[doc = concat!("What `", $path, "` needs.")]
            pub const $needs: Needs<{
                const NEEDED: &[&str] = &[$($permission),*];
                NEEDED.len()
            }> = Needs {
                path: $path,
                each: [$(Need { permission: Permission::known($permission), on: On::$on }),*],
            };
        )*)*

        /// Every RPC, in the order of the protos.
        pub static RPCS: &[Rpc] = &[
            $(Rpc { path: $path, needs: &[$(&$needs.each),*], ..$kind }),*
        ];
    };
}

rpcs! {
    UNARY "/google.pubsub.v1.Publisher/CreateTopic" { CREATE_TOPIC: ["pubsub.topics.create" on Project] }
    UNARY "/google.pubsub.v1.Publisher/UpdateTopic" { UPDATE_TOPIC: ["pubsub.topics.update" on Resource] }
    LARGE_JSON "/google.pubsub.v1.Publisher/Publish" { PUBLISH: ["pubsub.topics.publish" on Resource] }
    UNARY "/google.pubsub.v1.Publisher/GetTopic" { GET_TOPIC: ["pubsub.topics.get" on Resource] }
    LIST "/google.pubsub.v1.Publisher/ListTopics" { LIST_TOPICS: ["pubsub.topics.list" on Project] }
    LIST "/google.pubsub.v1.Publisher/ListTopicSubscriptions" { LIST_TOPIC_SUBSCRIPTIONS: ["pubsub.topics.get" on Resource] }
    LIST "/google.pubsub.v1.Publisher/ListTopicSnapshots" { LIST_TOPIC_SNAPSHOTS: ["pubsub.topics.get" on Resource] }
    UNARY "/google.pubsub.v1.Publisher/DeleteTopic" { DELETE_TOPIC: ["pubsub.topics.delete" on Resource] }
    UNARY "/google.pubsub.v1.Publisher/DetachSubscription" { DETACH_SUBSCRIPTION: ["pubsub.topics.detachSubscription" on Resource] }

    UNARY "/google.pubsub.v1.Subscriber/CreateSubscription" {
        CREATE_SUBSCRIPTION: ["pubsub.subscriptions.create" on Project, "pubsub.topics.attachSubscription" on Resource]
    }
    UNARY "/google.pubsub.v1.Subscriber/GetSubscription" { GET_SUBSCRIPTION: ["pubsub.subscriptions.get" on Resource] }
    UNARY "/google.pubsub.v1.Subscriber/UpdateSubscription" { UPDATE_SUBSCRIPTION: ["pubsub.subscriptions.update" on Resource] }
    LIST "/google.pubsub.v1.Subscriber/ListSubscriptions" { LIST_SUBSCRIPTIONS: ["pubsub.subscriptions.list" on Project] }
    UNARY "/google.pubsub.v1.Subscriber/DeleteSubscription" { DELETE_SUBSCRIPTION: ["pubsub.subscriptions.delete" on Resource] }
    ACK_IDS "/google.pubsub.v1.Subscriber/ModifyAckDeadline" { MODIFY_ACK_DEADLINE: ["pubsub.subscriptions.consume" on Resource] }
    ACK_IDS "/google.pubsub.v1.Subscriber/Acknowledge" { ACKNOWLEDGE: ["pubsub.subscriptions.consume" on Resource] }
    UNARY "/google.pubsub.v1.Subscriber/Pull" { PULL: ["pubsub.subscriptions.consume" on Resource] }
    STREAM "/google.pubsub.v1.Subscriber/StreamingPull" { STREAMING_PULL: ["pubsub.subscriptions.consume" on Resource] }
    UNARY "/google.pubsub.v1.Subscriber/ModifyPushConfig" { MODIFY_PUSH_CONFIG: ["pubsub.subscriptions.update" on Resource] }
    UNARY "/google.pubsub.v1.Subscriber/GetSnapshot" { GET_SNAPSHOT: ["pubsub.snapshots.get" on Resource] }
    LIST "/google.pubsub.v1.Subscriber/ListSnapshots" { LIST_SNAPSHOTS: ["pubsub.snapshots.list" on Project] }
    UNARY "/google.pubsub.v1.Subscriber/CreateSnapshot" {
        CREATE_SNAPSHOT: ["pubsub.snapshots.create" on Project, "pubsub.subscriptions.consume" on Resource]
    }
    UNARY "/google.pubsub.v1.Subscriber/UpdateSnapshot" { UPDATE_SNAPSHOT: ["pubsub.snapshots.update" on Resource] }
    UNARY "/google.pubsub.v1.Subscriber/DeleteSnapshot" { DELETE_SNAPSHOT: ["pubsub.snapshots.delete" on Resource] }
    UNARY "/google.pubsub.v1.Subscriber/Seek" { SEEK: ["pubsub.subscriptions.consume" on Resource] }

    UNARY "/google.pubsub.v1.SchemaService/CreateSchema" { CREATE_SCHEMA: ["pubsub.schemas.create" on Project] }
    UNARY "/google.pubsub.v1.SchemaService/GetSchema" { GET_SCHEMA: ["pubsub.schemas.get" on Resource] }
    LIST "/google.pubsub.v1.SchemaService/ListSchemas" { LIST_SCHEMAS: ["pubsub.schemas.list" on Project] }
    LIST "/google.pubsub.v1.SchemaService/ListSchemaRevisions" { LIST_SCHEMA_REVISIONS: ["pubsub.schemas.listRevisions" on Resource] }
    UNARY "/google.pubsub.v1.SchemaService/CommitSchema" { COMMIT_SCHEMA: ["pubsub.schemas.commit" on Resource] }
    UNARY "/google.pubsub.v1.SchemaService/RollbackSchema" { ROLLBACK_SCHEMA: ["pubsub.schemas.rollback" on Resource] }
    UNARY "/google.pubsub.v1.SchemaService/DeleteSchemaRevision" { DELETE_SCHEMA_REVISION: ["pubsub.schemas.delete" on Resource] }
    UNARY "/google.pubsub.v1.SchemaService/DeleteSchema" { DELETE_SCHEMA: ["pubsub.schemas.delete" on Resource] }
    UNARY "/google.pubsub.v1.SchemaService/ValidateSchema" { VALIDATE_SCHEMA: ["pubsub.schemas.validate" on Project] }
    UNARY "/google.pubsub.v1.SchemaService/ValidateMessage" { VALIDATE_MESSAGE: ["pubsub.schemas.validate" on Project] }

    UNARY "/google.iam.v1.IAMPolicy/SetIamPolicy" {
        SET_TOPIC_POLICY: ["pubsub.topics.setIamPolicy" on Resource]
        SET_SUBSCRIPTION_POLICY: ["pubsub.subscriptions.setIamPolicy" on Resource]
        SET_SNAPSHOT_POLICY: ["pubsub.snapshots.setIamPolicy" on Resource]
        SET_SCHEMA_POLICY: ["pubsub.schemas.setIamPolicy" on Resource]
    }
    UNARY "/google.iam.v1.IAMPolicy/GetIamPolicy" {
        GET_TOPIC_POLICY: ["pubsub.topics.getIamPolicy" on Resource]
        GET_SUBSCRIPTION_POLICY: ["pubsub.subscriptions.getIamPolicy" on Resource]
        GET_SNAPSHOT_POLICY: ["pubsub.snapshots.getIamPolicy" on Resource]
        GET_SCHEMA_POLICY: ["pubsub.schemas.getIamPolicy" on Resource]
    }
    UNARY "/google.iam.v1.IAMPolicy/TestIamPermissions" { TEST_PERMISSIONS: [] }

    GRPC_ONLY "/packetboat.admin.v1.Admin/AttachTopic" { ATTACH_TOPIC: ["pubsub.topics.create" on Project] }
    GRPC_ONLY "/packetboat.admin.v1.Admin/DetachTopic" { DETACH_TOPIC: ["pubsub.topics.delete" on Resource] }

    OF_SERVER "/grpc.health.v1.Health/Check" {}
    OF_SERVER "/grpc.health.v1.Health/Watch" {}
    STREAM_OF_SERVER "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" {}
    STREAM_OF_SERVER "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" {}
}

/// How many entries each repeated field of a request has at most, among them the maps, as the public limits say it: in
/// one list of JSON, and in a whole encoded request. Those in published messages are counted message by message, as
/// they stay encoded.
pub static REPEATED: &[(&str, usize)] = &[
    (
        "google.pubsub.v1.PublishRequest.messages",
        PUBLISH_MESSAGES_MAX,
    ),
    ("google.pubsub.v1.PubsubMessage.attributes", ATTRIBUTES_MAX),
    ("google.pubsub.v1.AcknowledgeRequest.ack_ids", ACK_IDS_MAX),
    (
        "google.pubsub.v1.ModifyAckDeadlineRequest.ack_ids",
        ACK_IDS_MAX,
    ),
    ("google.pubsub.v1.StreamingPullRequest.ack_ids", ACK_IDS_MAX),
    (
        "google.pubsub.v1.StreamingPullRequest.modify_deadline_ack_ids",
        ACK_IDS_MAX,
    ),
    (
        "google.pubsub.v1.StreamingPullRequest.modify_deadline_seconds",
        ACK_IDS_MAX,
    ),
    ("google.pubsub.v1.Topic.labels", LABELS_MAX),
    ("google.pubsub.v1.Subscription.labels", LABELS_MAX),
    ("google.pubsub.v1.Snapshot.labels", LABELS_MAX),
    ("google.pubsub.v1.CreateSnapshotRequest.labels", LABELS_MAX),
    ("google.pubsub.v1.Topic.tags", TAGS_MAX),
    ("google.pubsub.v1.Subscription.tags", TAGS_MAX),
    ("google.pubsub.v1.CreateSnapshotRequest.tags", TAGS_MAX),
    (
        "google.pubsub.v1.PushConfig.attributes",
        PUSH_ATTRIBUTES_MAX,
    ),
    ("google.pubsub.v1.Topic.message_transforms", TRANSFORMS_MAX),
    (
        "google.pubsub.v1.Subscription.message_transforms",
        TRANSFORMS_MAX,
    ),
    (
        "google.pubsub.v1.MessageStoragePolicy.allowed_persistence_regions",
        STORAGE_REGIONS_MAX,
    ),
    (
        "google.pubsub.v1.BigtableConfig.ColumnFamilyMapping.DelimitedKey.key_fields",
        KEY_FIELDS_MAX,
    ),
    (
        "google.iam.v1.TestIamPermissionsRequest.permissions",
        TESTED_PERMISSIONS_MAX,
    ),
    ("google.iam.v1.Policy.bindings", POLICY_MEMBERS_MAX),
    ("google.iam.v1.Binding.members", POLICY_MEMBERS_MAX),
    ("google.iam.v1.Policy.audit_configs", POLICY_MEMBERS_MAX),
    (
        "google.iam.v1.AuditConfig.audit_log_configs",
        POLICY_MEMBERS_MAX,
    ),
    (
        "google.iam.v1.AuditLogConfig.exempted_members",
        POLICY_MEMBERS_MAX,
    ),
    ("google.protobuf.FieldMask.paths", MASK_PATHS_MAX),
    ("google.protobuf.Struct.fields", STRUCTURE_VALUES_MAX),
    ("google.protobuf.ListValue.values", STRUCTURE_VALUES_MAX),
];
