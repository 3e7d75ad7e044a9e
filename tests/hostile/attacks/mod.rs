//! The attacks, a file each.

mod many_parts;
mod repeated_ack_ids;
mod unserved_calls;

use crate::Attack;

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Attack>> {
    vec![
        Box::new(many_parts::ManyParts::default()),
        Box::new(repeated_ack_ids::RepeatedAckIds::default()),
        Box::new(unserved_calls::UnservedCalls),
    ]
}
