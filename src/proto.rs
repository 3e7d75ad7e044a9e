//! The only include of generated code.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated from the protos, which document it"
)]

/// `google`, as the protos nest it.
pub mod google {
    /// Pub/Sub.
    pub mod pubsub {
        /// Publisher, Subscriber and SchemaService.
        pub mod v1 {
            tonic::include_proto!("google.pubsub.v1");
        }
    }
    /// Access policies.
    pub mod iam {
        /// IAMPolicy.
        pub mod v1 {
            tonic::include_proto!("google.iam.v1");
        }
    }
    /// Errors.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
    /// Conditions of policies.
    pub mod r#type {
        tonic::include_proto!("google.r#type");
    }
}

/// `packetboat`, whose protos are our own.
pub mod packetboat {
    /// What operators do.
    pub mod admin {
        /// Admin.
        pub mod v1 {
            tonic::include_proto!("packetboat.admin.v1");
        }
    }
}

/// The same as [`DESCRIPTORS`], with the comments in the protos.
pub const DOCUMENTED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/documented.bin"));
/// Every proto, with what it imports, for reflection and REST.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
