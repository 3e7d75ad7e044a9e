//! The attacks, a file each.

mod unserved_calls;

use crate::Attack;

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Attack>> {
    vec![Box::new(unserved_calls::UnservedCalls)]
}
