//! What an examination of a store found: a line each, and what to do about it.

use std::fmt;

use crate::{
    clock::Timestamp,
    limits::{CLOCK_PROBLEM_MILLIS, CLOCK_WARNING_MILLIS},
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but will not do under some circumstance that the text names.
    Warning,
    /// Does not work, or breaks what Packetboat promises.
    Problem,
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found, with its value; unless all is well, also what to do.
    pub text: String,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            text: found.into(),
        }
    }

    /// What was found, and what to do.
    pub(super) fn warning(found: impl fmt::Display, advice: impl fmt::Display) -> Self {
        Self {
            level: Level::Warning,
            text: format!("{found}: {advice}"),
        }
    }

    /// Works, but others can do harm. The text says what to do.
    pub fn danger(text: String) -> Self {
        Self {
            level: Level::Warning,
            text,
        }
    }

    /// What was found, and what to do.
    pub(super) fn problem(found: impl fmt::Display, advice: impl fmt::Display) -> Self {
        Self {
            level: Level::Problem,
            text: format!("{found}: {advice}"),
        }
    }

    /// An error that keeps the server from starting. Its text says what to do.
    pub fn failure(error: &impl fmt::Display) -> Self {
        Self {
            level: Level::Problem,
            text: error.to_string(),
        }
    }
}

/// One line, whatever the services have answered.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        let text = self.text.replace(char::is_control, " ");
        write!(f, "{level:<8} {text}")
    }
}

/// By how many milliseconds another clock is ahead, which was asked at some time between two moments of this one.
pub(super) fn ahead_by(asked: Timestamp, theirs: Timestamp, answered: Timestamp) -> i64 {
    let signed = |time: Timestamp| time.as_millis().cast_signed();
    let theirs = signed(theirs);
    theirs.saturating_sub(theirs.clamp(signed(asked), signed(answered.max(asked))))
}

/// Judges a clock, `whose` it is, by how far it is ahead.
pub(super) fn clock(whose: &str, ahead_by_millis: i64) -> Finding {
    let apart = ahead_by_millis.unsigned_abs();
    let found = format!(
        "the clock of {whose} is {}.{:03} s {} that of this machine",
        apart / 1000,
        apart % 1000,
        if ahead_by_millis < 0 {
            "behind"
        } else {
            "ahead of"
        }
    );
    let advice = "keep both with NTP, as publish times and with them expiry follow from them";
    if apart > CLOCK_PROBLEM_MILLIS {
        Finding::problem(found, advice)
    } else if apart > CLOCK_WARNING_MILLIS {
        Finding::warning(found, advice)
    } else {
        Finding::ok(format!(
            "the clock of {whose} agrees with that of this machine to {apart} ms"
        ))
    }
}

/// So many of what `noun` names.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A few names of many, and how many there are.
pub(super) fn a_few(names: &[impl fmt::Display]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(ToString::to_string);
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text = format!("{text} and {} more", names.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding::problem("a\nb", "do c");
        assert_eq!(finding.to_string(), "problem  a b: do c");
        assert_eq!(Finding::ok("fine").to_string(), "ok       fine");
    }

    #[test]
    fn a_clock_is_judged_by_what_no_delay_explains() {
        let at = Timestamp::from_millis;
        assert_eq!(ahead_by(at(100), at(100), at(150)), 0);
        assert_eq!(ahead_by(at(100), at(150), at(150)), 0);
        assert_eq!(ahead_by(at(100), at(95), at(150)), -5);
        assert_eq!(ahead_by(at(100), at(160), at(150)), 10);
        let level = |millis| clock("broker 1", millis).level;
        assert_eq!(level(-1_000), Level::Ok);
        assert_eq!(level(1_001), Level::Warning);
        assert_eq!(level(-60_000), Level::Warning);
        assert_eq!(level(60_001), Level::Problem);
        let text = clock("broker 1", -1_234).text;
        assert!(text.contains("1.234 s behind"), "{text}");
    }

    #[test]
    fn of_many_names_a_few_are_told() {
        assert_eq!(counted(1, "topic"), "1 topic");
        assert_eq!(counted(0, "topic"), "0 topics");
        assert_eq!(a_few(&["a", "b"]), "a, b");
        assert_eq!(a_few(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5 and 2 more");
    }
}
