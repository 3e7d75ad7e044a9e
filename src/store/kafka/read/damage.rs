//! Finds the way around records that cannot be read.
//!
//! Kafka keeps records in batches whose ends are not known from outside, and every offset of a damaged one is damaged.
//! The client does not go on behind one by itself: what it makes of the bytes after it is not to be relied on.

use crate::store::log::Offset;

/// Offsets that one step skips at most: as many readable records may lie between two damaged batches and be left out.
const STEP_MAX: u64 = 64;

/// The first offset at or after `from` at which there is no damage; `end` if there is none. `damaged` says of an offset
/// whether reading there fails for damage; if it cannot tell, what is certain is all that is skipped.
pub(in crate::store::kafka) fn first_readable<E>(
    from: Offset,
    end: Offset,
    mut damaged: impl FnMut(Offset) -> Result<bool, E>,
) -> Result<Offset, E> {
    if from >= end || !damaged(from)? {
        return Ok(from);
    }
    let (mut bad, mut step) = (from, 1);
    let mut good = end;
    while bad + step < end {
        match damaged(bad + step) {
            Ok(true) => bad += step,
            Ok(false) => {
                good = bad + step;
                break;
            }
            Err(_) => return Ok(bad + 1),
        }
        step = (step * 2).min(STEP_MAX);
    }
    while bad + 1 < good {
        let middle = bad + (good - bad) / 2;
        match damaged(middle) {
            Ok(true) => bad = middle,
            Ok(false) => good = middle,
            Err(_) => return Ok(bad + 1),
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, slice};

    use super::*;

    fn skipped(from: Offset, end: Offset, damage: &[Range<Offset>]) -> (Offset, usize) {
        let mut probes = 0;
        let found = first_readable(from, end, |offset| {
            probes += 1;
            Ok::<_, ()>(damage.iter().any(|range| range.contains(&offset)))
        });
        (found.expect("found"), probes)
    }

    #[test]
    fn reading_goes_on_right_behind_the_damage() {
        assert_eq!(skipped(9, 30, &[]), (9, 1));
        assert_eq!(skipped(30, 30, &[]), (30, 0));
        for end in 1..300 {
            let damage = 9..9 + end;
            assert_eq!(skipped(9, 1000, slice::from_ref(&damage)).0, 9 + end);
            assert_eq!(skipped(9, 9 + end, slice::from_ref(&damage)).0, 9 + end);
        }
        assert_eq!(skipped(9, 30, &[9..12, 12..15, 27..30]).0, 15);
        assert_eq!(skipped(9, 30, &[9..10, 11..12]).0, 10);
    }

    #[test]
    fn a_large_batch_takes_few_probes() {
        let (found, probes) = skipped(0, 1_000_000, slice::from_ref(&(0..10_000)));
        assert_eq!(found, 10_000);
        assert!(probes < 200, "{probes} probes");
    }

    #[test]
    fn what_is_certain_is_skipped_when_the_rest_cannot_be_told() {
        let mut probes = 0;
        let found = first_readable(5, 100, |_| {
            probes += 1;
            if probes < 3 { Ok(true) } else { Err(()) }
        });
        assert_eq!(found, Ok(7));
        assert_eq!(first_readable(5, 100, |_| Err(())), Err(()));
    }
}
