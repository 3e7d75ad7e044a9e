//! What a resource requires of the processes that carry it out. Nodes of two releases may share a store, and a data
//! directory may go back to an older release: one that does not know a setting must not act as if it were not there.

/// The data version of this release. It rises with each setting, and with each stored form, that the release before
/// would carry out wrongly.
pub const DATA_VERSION: u32 = 2;

/// The least data version that a process must have, and the setting because of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The version.
    pub version: u32,
    /// The setting, as the API names it; empty for what every release knows.
    pub setting: &'static str,
}

impl Requirement {
    /// Of what every release knows.
    pub const NONE: Self = Self {
        version: 1,
        setting: "",
    };

    /// Of a subscription with ordering, to which an older process would deliver in any order.
    pub const ORDERING: Self = Self {
        version: 2,
        setting: "enable_message_ordering",
    };

    /// Of a subscription with a filter, which an older process would deliver everything to.
    pub const FILTER: Self = Self {
        version: 2,
        setting: "filter",
    };

    /// Of a subscription with a dead letter policy, which an older process would deliver dead letters of again and again.
    pub const DEAD_LETTER_POLICY: Self = Self {
        version: 2,
        setting: "dead_letter_policy",
    };

    /// Of a subscription with a retry policy, which an older process would deliver failed messages of at once.
    pub const RETRY_POLICY: Self = Self {
        version: 2,
        setting: "retry_policy",
    };

    /// Of a subscription with exactly-once delivery, which an older process would deliver again after a crash.
    pub const EXACTLY_ONCE: Self = Self {
        version: 2,
        setting: "enable_exactly_once_delivery",
    };
}
