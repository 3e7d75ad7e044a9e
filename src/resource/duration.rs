//! A duration as a request carries it: possibly negative, and printed as the public error texts print it.

use std::{fmt, time::Duration};

use super::violation::Violation;

/// Longest duration that protobuf allows: about 10,000 years.
const PROTO_SECONDS_MAX: i64 = 315_576_000_000;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// A well-formed duration, of either sign. Its text is `744h`, `9m59s`, `0` (docs/behaviour.md, section 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GivenDuration {
    nanos: i128,
}

impl GivenDuration {
    /// From the two parts of the request's field `field`. Refuses parts of different sign or out of range.
    pub fn parse(field: &'static str, seconds: i64, nanos: i32) -> Result<Self, Violation> {
        let in_range = (-PROTO_SECONDS_MAX..=PROTO_SECONDS_MAX).contains(&seconds)
            && (-999_999_999..=999_999_999).contains(&nanos);
        let same_sign = (seconds <= 0 || nanos >= 0) && (seconds >= 0 || nanos <= 0);
        if !in_range || !same_sign {
            return Err(Violation::argument(format!(
                "{field}: {seconds} seconds and {nanos} nanoseconds are not a duration"
            )));
        }
        Ok(Self {
            nanos: i128::from(seconds) * NANOS_PER_SECOND + i128::from(nanos),
        })
    }

    /// From whole seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self {
            nanos: seconds as i128 * NANOS_PER_SECOND,
        }
    }

    /// The same as an unsigned duration; zero when negative.
    pub fn to_unsigned(self) -> Duration {
        let nanos = self.nanos.max(0).unsigned_abs();
        Duration::new(
            u64::try_from(nanos / NANOS_PER_SECOND.unsigned_abs()).unwrap_or(u64::MAX),
            (nanos % NANOS_PER_SECOND.unsigned_abs()) as u32,
        )
    }
}

impl fmt::Display for GivenDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        let total = self.nanos.unsigned_abs();
        let (seconds, nanos) = (total / 1_000_000_000, total % 1_000_000_000);
        for (amount, unit) in [(seconds / 3600, "h"), (seconds / 60 % 60, "m")] {
            if amount > 0 {
                write!(f, "{amount}{unit}")?;
            }
        }
        match (seconds % 60, nanos) {
            (0, 0) => Ok(()),
            (seconds, 0) => write!(f, "{seconds}s"),
            (seconds, nanos) => {
                let fraction = format!("{nanos:09}");
                write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_hours_minutes_and_seconds_without_spaces() {
        for (seconds, nanos, text) in [
            (599, 0, "9m59s"),
            (600, 0, "10m"),
            (31 * 86_400, 0, "744h"),
            (31 * 86_400, 1, "744h0.000000001s"),
            (3_600, 0, "1h"),
            (0, 0, "0"),
            (-1, 0, "-1s"),
            (0, 500_000_000, "0.5s"),
        ] {
            let given = GivenDuration::parse("f", seconds, nanos).expect("well-formed");
            assert_eq!(given.to_string(), text);
        }
    }

    #[test]
    fn parts_of_different_sign_or_out_of_range_are_no_duration() {
        for (seconds, nanos) in [
            (1, -1),
            (-1, 1),
            (0, 1_000_000_000),
            (i64::MAX, 0),
            (i64::MIN, i32::MIN),
        ] {
            assert!(
                GivenDuration::parse("f", seconds, nanos).is_err(),
                "{seconds} {nanos}"
            );
        }
    }
}
