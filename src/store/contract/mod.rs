//! Behaviours that every backend must have.
