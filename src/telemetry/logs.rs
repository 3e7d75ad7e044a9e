//! Log lines: which, and in what form. They go to standard error.

use std::{
    io::{self, IsTerminal},
    str::FromStr,
};

use clap::ValueEnum;
use thiserror::Error;
use tracing_subscriber::{EnvFilter, fmt::SubscriberBuilder, util::SubscriberInitExt};

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Which log lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// A text that is neither a level nor directives.
#[derive(Debug, Error)]
#[error(
    "{0:?} is neither off, error, warn, info, debug or trace nor directives such as packetboat::wire=debug,info"
)]
pub struct LogFilterError(String);

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        // A level is about this server; its libraries only speak up when something is wrong.
        match text {
            "off" | "error" | "warn" => Ok(Self(text.to_owned())),
            "info" | "debug" | "trace" => Ok(Self(format!("warn,packetboat={text}"))),
            _ if text.contains(['=', ',']) && EnvFilter::try_new(text).is_ok() => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(LogFilterError(text.to_owned())),
        }
    }
}

/// Why logging cannot begin.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter cannot be used.
    #[error("the log level cannot be used: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another subscriber in this process logs already.
    #[error("logging was set up before: {0}")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Begins to log. Once per process.
pub fn init(filter: LogFilter, format: LogFormat) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(filter.0)?;
    let lines = SubscriberBuilder::default()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => lines
            .with_ansi(io::stderr().is_terminal())
            .finish()
            .try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_about_the_server_and_leaves_libraries_quiet() {
        let filter: LogFilter = "debug".parse().expect("a level");
        assert_eq!(filter.0, "warn,packetboat=debug");
        let filter: LogFilter = "off".parse().expect("a level");
        assert_eq!(filter.0, "off");
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for text in ["", "verbose", "packetboat=loud"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text:?}");
        }
    }
}
