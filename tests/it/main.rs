//! What users rely on, tested against whole servers.
//!
//! `case_NN` in a test's name is the case of docs/behaviour.md, section 24, that it belongs to.

mod acknowledge;
mod architecture;
mod bad_bytes;
mod bad_input;
mod bench;
mod leases;
mod masks;
mod paging;
mod publish;
mod publish_limits;
mod pull;
mod refused_settings;
mod restart;
mod retention;
mod start;
mod streaming;
mod streaming_end;
mod streaming_flow;
mod subscription_rules;
mod subscriptions;
mod support;
mod sync;
mod topics;
mod wire;
