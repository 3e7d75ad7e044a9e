//! Who calls.

/// Who asks for something. Made where a request enters, and from there on never replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who has not said who they are.
    Anonymous,
}
