//! What was measured when the counts were last accepted: a line per scenario with its allocations per message.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

/// How far a count may be from the baseline, as a share of it.
const TOLERANCE: f64 = 0.10;

/// How to make the counts of now the baseline.
const ACCEPT: &str = "UPDATE_BASELINE=1 cargo test --profile gate --test allocations";

/// Allocations per message by scenario.
pub(crate) struct Baseline(BTreeMap<String, f64>);

impl Baseline {
    /// The committed one.
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string(path()).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.map(parse).collect())
    }

    /// Replaces what was there with `count`.
    pub(crate) fn set(&mut self, scenario: &str, count: f64) {
        self.0.insert(scenario.to_owned(), count);
    }

    /// Writes it where it is committed.
    pub(crate) fn write(&self) {
        let mut text = format!("# Allocations per message. Written by: {ACCEPT}\n");
        for (scenario, count) in &self.0 {
            writeln!(text, "{scenario} {count:.2}").expect("a string takes text");
        }
        fs::write(path(), text).expect("the baseline can be written");
    }

    /// Fails, with what to do, when `count` is further from the baseline than [`TOLERANCE`], to either side: a
    /// baseline that is too high would let the next increase pass.
    pub(crate) fn compare(&self, scenario: &str, count: f64) -> Result<(), String> {
        let Some(&expected) = self.0.get(scenario) else {
            return Err(format!(
                "{scenario}: no baseline in tests/allocations/baseline.txt; to make one: {ACCEPT}"
            ));
        };
        let change = count / expected - 1.0;
        if change.abs() <= TOLERANCE {
            return Ok(());
        }
        let said = if change > 0.0 {
            "more than the baseline; find the new allocation or accept it if it is needed"
        } else {
            "fewer than the baseline; bring that down"
        };
        Err(format!(
            "{scenario}: {count:.2} allocations per message, baseline {expected:.2}: {:.0} % {said}: {ACCEPT}",
            change.abs() * 100.0
        ))
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/allocations/baseline.txt")
}

fn parse(line: &str) -> (String, f64) {
    let read = || {
        let (scenario, count) = line.split_once(' ')?;
        Some((scenario.to_owned(), count.parse().ok()?))
    };
    read().unwrap_or_else(|| {
        panic!("tests/allocations/baseline.txt: {line:?} is no scenario and its allocations per message")
    })
}
