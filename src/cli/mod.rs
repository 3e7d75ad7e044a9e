//! The command line: arguments, printing, exit codes. The work is elsewhere.

pub mod bench;
mod client;
pub mod doctor;
pub mod health;
mod listen;
pub mod serve;
mod storage;
pub mod subscriptions;
pub mod topics;
mod web;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{
    Parser, Subcommand,
    error::{ContextKind, ContextValue},
};

use crate::telemetry::printable;

/// Google Pub/Sub that you run yourself.
///
/// Unmodified Google client libraries and grpcurl talk to it. Start it with `packetboat serve` and point
/// PUBSUB_EMULATOR_HOST at it.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Doctor(doctor::Arguments),
    Health(health::Arguments),
    Topics(topics::Arguments),
    Subscriptions(subscriptions::Arguments),
    Bench(bench::Arguments),
}

/// Writes to standard output what can be printed of it: services choose names in it. A command whose output nobody reads does its work all the same.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _written = stdout
        .write_all(printable::text(text).as_bytes())
        .and_then(|()| stdout.flush());
}

/// Reads the command line. What is wrong with it ends the process, after a text that repeats no location: a password may
/// be in it.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|mut error| {
        let named = [
            ContextKind::InvalidArg,
            ContextKind::InvalidSubcommand,
            ContextKind::InvalidValue,
        ];
        for kind in named {
            if let Some(ContextValue::String(text)) = error.get(kind)
                && text.contains(['@', '/'])
            {
                let hidden = ContextValue::String("(a text)".to_owned());
                error.insert(kind, hidden);
                error.remove(ContextKind::Suggested);
            }
        }
        error.exit()
    })
}

/// Does what the command line says and reports a failure as one line on standard error.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Health(arguments) => health::run(arguments),
        Command::Topics(arguments) => topics::run(arguments),
        Command::Subscriptions(arguments) => subscriptions::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
    };
    done.unwrap_or_else(|error| {
        // Nobody is left to tell when standard error is closed. Errors name their causes themselves.
        let error = error.to_string();
        let _written = writeln!(io::stderr(), "error: {}", printable::text(&error));
        ExitCode::FAILURE
    })
}
