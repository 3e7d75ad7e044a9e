//! Delivery as a pure state machine.

pub mod change;
