//! What users rely on, tested against whole servers.
//!
//! `case_NN` in a test's name is the case of docs/behaviour.md, section 24, that it belongs to.

mod acknowledge;
mod architecture;
mod bad_bytes;
mod bad_input;
mod bench;
mod cluster;
mod cluster_races;
mod cluster_takeover;
mod database_failures;
mod doctor;
mod formats;
mod frozen;
mod full_disk;
mod image;
mod kafka_names;
mod kafka_users;
mod leases;
mod lost_topics;
mod many_entries;
mod masks;
mod outages;
mod paging;
mod policies;
mod publish;
mod publish_limits;
mod pull;
mod refused_settings;
mod rest;
mod rest_pages;
mod restart;
mod retention;
mod start;
mod start_secured;
mod start_services;
mod streaming;
mod streaming_end;
mod streaming_flow;
mod subscription_rules;
mod subscriptions;
mod support;
mod sync;
mod topics;
mod unclean_election;
mod wire;
