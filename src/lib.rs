//! Packetboat: Google Pub/Sub that you run yourself.
//!
//! One way through the house: `wire` → `service` → `delivery` → `engine` and `store`; `ARCHITECTURE.md` has the map.

pub mod auth;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod descriptors;
pub mod doctor;
pub mod engine;
pub mod filter;
pub mod limits;
pub mod proto;
pub mod random;
pub mod redrive;
pub mod resource;
pub mod rpc;
pub mod server;
pub mod service;
#[cfg(test)]
mod sim;
pub mod storage;
pub mod store;
pub mod telemetry;
pub mod wire;
