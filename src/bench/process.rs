//! CPU time and memory of a process, as Linux tells them in `/proc`, and the size of its files.

use std::{fs, path::Path};

/// Clock ticks per second in `/proc`: 100 on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Microseconds of CPU that process `pid` (or `self`) has used; none if it cannot be told.
pub(super) fn cpu_micros(pid: &str) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in brackets, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * (1_000_000 / TICKS_PER_SECOND))
}

/// Resident memory of process `pid` in kB; none if it cannot be told.
pub(super) fn resident_kb(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// What all files in a directory have, MB of 1,000,000 bytes; none if it cannot be read.
pub(super) fn megabytes_in(directory: &Path) -> Option<f64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).ok()? {
        // A file may be deleted meanwhile.
        bytes += entry.ok()?.metadata().map_or(0, |file| file.len());
    }
    Some(bytes as f64 / 1e6)
}
