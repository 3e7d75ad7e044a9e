//! Filters of subscriptions: which messages one gets, by their attributes (docs/behaviour.md, section 12).
//!
//! A filter is parsed once, when its subscription is made or read from the store. `lexer` cuts the text into tokens,
//! `parser` makes an `expression` of them, which judges messages.

mod error;
mod expression;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use error::FilterError;

use crate::limits::FILTER_BYTES_MAX;
use expression::Expression;

/// What a message's attributes have to be for a subscription to get it. Stored and shown as the text that it was given
/// as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter {
    text: String,
    expression: Expression,
}

impl Filter {
    /// Parses the text of a filter, which is not empty: an empty one filters nothing and is none.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > FILTER_BYTES_MAX {
            return Err(FilterError::TooLong { bytes: text.len() });
        }
        Ok(Self {
            expression: parser::parse(text)?,
            text: text.to_owned(),
        })
    }

    /// The text that it was given as.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a message matches of which `attribute` gives the value of a name, `None` for one that it does not have.
    /// Names and values are compared byte by byte.
    pub fn matches<'a>(&self, attribute: impl Fn(&[u8]) -> Option<&'a [u8]>) -> bool {
        self.expression.matches(&attribute)
    }
}

impl TryFrom<String> for Filter {
    type Error = FilterError;

    fn try_from(text: String) -> Result<Self, FilterError> {
        Self::parse(&text)
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.text
    }
}
