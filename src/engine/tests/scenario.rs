//! Runs `tests/scenarios/*.txt`: commands, `----`, then what the engine did. `tests/scenarios/README.md` has the
//! commands. With `UPDATE_SCENARIOS=1` the files are rewritten.

use std::{env, fmt::Write, fs, path::Path};

use super::scenario_commands::Scenario;

#[test]
fn every_scenario_file_tells_what_the_engine_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let update = env::var_os("UPDATE_SCENARIOS").is_some();
    let mut seen = 0;
    let mut differing = String::new();
    for entry in fs::read_dir(&folder).expect("the folder of scenarios") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        seen += 1;
        let written = fs::read_to_string(&path).expect("a text file");
        let played = play(&written);
        if played == written {
            continue;
        }
        if update {
            fs::write(&path, &played).expect("a writable folder");
        } else {
            let at = path.display();
            let first = written
                .lines()
                .zip(played.lines())
                .position(|(a, b)| a != b);
            let line = first.map_or(0, |line| line + 1);
            writeln!(differing, "{at}:{line} differs; what happened:\n{played}").expect("text");
        }
    }
    assert!(seen > 0, "no scenario in {}", folder.display());
    assert!(
        differing.is_empty(),
        "{differing}\nIf this is right, run again with UPDATE_SCENARIOS=1."
    );
}

/// The text with every answer replaced by what happened.
fn play(text: &str) -> String {
    let mut scenario = Scenario::new();
    let mut out = String::new();
    let mut in_answer = false;
    for line in text.lines() {
        if line.is_empty() {
            in_answer = false;
        }
        if in_answer {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if line == "----" {
            in_answer = true;
            for answer in scenario.take_answers() {
                out.push_str(&answer);
                out.push('\n');
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            scenario.run(line);
        }
    }
    out
}
