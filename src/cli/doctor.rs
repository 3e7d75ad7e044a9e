//! `packetboat doctor`: examines what a server would use, and prints what it finds.

use std::{fmt::Write as _, path::PathBuf, pin::pin, process::ExitCode};

use anyhow::anyhow;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    print,
    storage::{Dangers, StorageArguments, read_config},
};
use crate::{
    clock::Clock,
    doctor::{
        self,
        finding::{Finding, Level},
    },
};

/// Check Kafka, Postgres and the data directory, and say what to do.
///
/// Prints a line for each thing that it checks: ok, warning or problem, what it found, and what to do. It joins no
/// cluster and changes nothing; in Kafka it makes a topic of its own, which it deletes at the end. Servers may
/// run meanwhile. The exit code is 1 if there is a problem.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    storage: StorageArguments,

    /// A file of settings, as of `packetboat serve`; flags and the environment come before it
    #[arg(
        long,
        value_name = "FILE",
        env = "PACKETBOAT_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
}

/// Examines, prints, and fails if there is a problem.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut dangers = Dangers::new();
    let file = read_config(arguments.config.as_deref(), &mut dangers)?;
    let durable = arguments.storage.durable(&file, &mut dangers)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start threads: {error}"))?;
    let findings = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let clock = Clock::system();
        let mut examination = pin!(doctor::examine(&durable, &clock));
        // A first signal waits until nothing is left behind, which takes seconds; a second one does not.
        for _ in 0..2 {
            tokio::select! {
                findings = &mut examination => return Ok(findings),
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        anyhow::bail!("ended at once by a second signal")
    });
    runtime.shutdown_background();
    let mut findings = findings?;
    findings.splice(0..0, dangers.into_iter().map(Finding::danger));
    let mut text = String::new();
    for finding in &findings {
        let _written = writeln!(text, "{finding}");
    }
    print(&text);
    let has_problem = findings.iter().any(|one| one.level == Level::Problem);
    Ok(if has_problem {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
