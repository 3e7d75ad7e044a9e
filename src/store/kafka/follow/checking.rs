//! Whether the topics that could not be read are being asked about.

use std::mem;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checking {
    No,
    Yes,
    /// And reading has failed since: perhaps after the one that it failed of was asked about. See
    /// [`super::check::topics`].
    Again {
        is_odd: bool,
    },
}

impl Checking {
    /// Reading has failed. Returns whether to ask about all topics now; else that is done once more.
    pub(super) fn begins(&mut self, is_odd: bool) -> bool {
        *self = match *self {
            Self::No => {
                *self = Self::Yes;
                return true;
            }
            Self::Yes => Self::Again { is_odd },
            Self::Again { is_odd: was_odd } => Self::Again {
                is_odd: is_odd || was_odd,
            },
        };
        false
    }

    /// All were asked about. Returns how they have to be asked about once more, if they have to.
    pub(super) fn ends(&mut self) -> Option<bool> {
        match mem::replace(self, Self::No) {
            Self::Again { is_odd } => Some(is_odd),
            Self::No | Self::Yes => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_while_topics_are_asked_about_is_asked_about_once_more() {
        let mut checking = Checking::No;
        assert!(checking.begins(true));
        assert_eq!(checking.ends(), None);
        assert!(checking.begins(false));
        assert!(!checking.begins(true), "one at a time");
        assert!(!checking.begins(false), "together with that");
        assert_eq!(checking.ends(), Some(true), "one of the two was odd");
        assert_eq!(checking.ends(), None);
        assert!(checking.begins(false));
        assert!(!checking.begins(false));
        assert_eq!(checking.ends(), Some(false));
    }
}
