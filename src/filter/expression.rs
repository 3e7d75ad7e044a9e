//! What a filter means.

/// A filter without its spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// Two or more, connected by AND.
    All(Vec<Expression>),
    /// Two or more, connected by OR.
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Condition(Condition),
}

/// What is asked about one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) key: String,
    pub(super) test: Test,
}

/// See [`Condition`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Whether it is there, also with an empty value.
    IsPresent,
    /// Whether it is there and has this value.
    Is(String),
    /// Whether it is not there, or has another value.
    IsNot(String),
    /// Whether it is there, and its value begins so.
    BeginsWith(String),
}

impl Expression {
    /// As [`super::Filter::matches`].
    pub(super) fn matches<'a>(&self, attribute: &impl Fn(&[u8]) -> Option<&'a [u8]>) -> bool {
        match self {
            Self::All(terms) => terms.iter().all(|term| term.matches(attribute)),
            Self::Any(terms) => terms.iter().any(|term| term.matches(attribute)),
            Self::Not(term) => !term.matches(attribute),
            Self::Condition(Condition { key, test }) => {
                let value = attribute(key.as_bytes());
                match test {
                    Test::IsPresent => value.is_some(),
                    Test::Is(wanted) => value == Some(wanted.as_bytes()),
                    Test::IsNot(other) => value != Some(other.as_bytes()),
                    Test::BeginsWith(prefix) => {
                        value.is_some_and(|value| value.starts_with(prefix.as_bytes()))
                    }
                }
            }
        }
    }
}
