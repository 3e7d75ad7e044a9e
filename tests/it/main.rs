//! What users rely on, tested against whole servers.

mod start;
mod support;
mod wire;
