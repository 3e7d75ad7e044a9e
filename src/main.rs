//! The `packetboat` command.

use std::process::ExitCode;

// Messages of all sizes are made and dropped by all threads, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    packetboat::cli::run(packetboat::cli::parse())
}
