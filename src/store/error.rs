//! How a store fails. The one question a caller may ask is whether the write can have happened.

use thiserror::Error;

/// A failure of the message log or of the state store.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The topic's log does not exist (any more).
    #[error("the topic's log does not exist")]
    NoSuchLog,
    /// There is no room for the write. It did not happen.
    #[error("{0}")]
    Full(String),
    /// The store cannot answer now. The write did not happen, so the same request may be sent again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store will never take this write, and says why. It did not happen; if a part did, the text says so.
    #[error("{0}")]
    Refused(String),
    /// The user that this server is at the store lacks a right. It did not happen; if a part did, the text says so.
    #[error("{0}")]
    Denied(String),
    /// The store failed while it was writing: the write may have happened.
    #[error("the store failed, and the write may have happened: {0}")]
    Uncertain(String),
    /// It was stored by a newer release, in a form or with a setting that this one does not know. Nothing was done.
    #[error("{what} needs data version {needs}, and this server has {known}; use a newer release")]
    Newer {
        /// What was stored.
        what: String,
        /// The data version that it needs.
        needs: u32,
        /// The data version of this process.
        known: u32,
    },
    /// What is needed is on a damaged page or in a damaged row. Repeating does not help.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether there was no room.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether it is about the store as a whole, not about what was asked of it, so that an operator has to know.
    pub const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Uncertain(_) | Self::Denied(_)
        )
    }

    /// Whether a write that ended so certainly left nothing behind.
    pub const fn definitely_failed(&self) -> bool {
        !matches!(self, Self::Uncertain(_))
    }
}
