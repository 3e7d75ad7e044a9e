//! Why a text is no filter.

use thiserror::Error;

use crate::limits::FILTER_BYTES_MAX;

/// What is wrong with a filter, and where. Positions count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FilterError {
    /// It has more than 256 bytes.
    #[error("a filter has at most {FILTER_BYTES_MAX} bytes, and this one has {bytes}")]
    TooLong {
        /// Of the text in UTF-8.
        bytes: usize,
    },
    /// Something else stands there than may.
    #[error("expected {expected} at character {at}, found {found}")]
    Unexpected {
        /// Where.
        at: usize,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// AND and OR beside each other.
    #[error("AND and OR are mixed at character {at}: one of them needs parentheses")]
    Mixed {
        /// Where the operator stands that is not the one before.
        at: usize,
    },
    /// A string that does not end.
    #[error("the string at character {at} has no closing quote")]
    Unclosed {
        /// Of its opening quote.
        at: usize,
    },
    /// An escape sequence that means nothing.
    #[error(r"the escape sequence at character {at} is none: use \\, a quote, a letter of abfnrtv, xHH, uHHHH, UHHHHHHHH or three octal digits")]
    Escape {
        /// Of its backslash.
        at: usize,
    },
}
