//! Who calls.

/// Who asks for something. Made where a request enters, and from there on never replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A client that has not said who it is.
    Anonymous,
}
