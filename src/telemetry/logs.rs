//! Log lines: which, and in what form. They go to standard error.

use std::{
    io::{self, IsTerminal, Write},
    str::FromStr,
};

use clap::ValueEnum;
use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, SubscriberBuilder},
    util::SubscriberInitExt,
};

use super::printable;

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
    let is_terminal = io::stderr().is_terminal();
    match format {
        LogFormat::Text => lines(io::stderr, filter, is_terminal).try_init()?,
        LogFormat::Json => json(io::stderr, filter).try_init()?,
    }
    Ok(())
}

fn lines<W, M>(writer: M, filter: EnvFilter, is_terminal: bool) -> impl Subscriber + Send + Sync
where
    W: Write,
    M: Fn() -> W + Send + Sync + 'static,
{
    SubscriberBuilder::default()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        .with_writer(Printable {
            writer,
            is_terminal,
        })
        .finish()
}

fn json<W, M>(writer: M, filter: EnvFilter) -> impl Subscriber + Send + Sync
where
    W: Write,
    M: Fn() -> W + Send + Sync + 'static,
{
    SubscriberBuilder::default()
        .with_env_filter(filter)
        .json()
        .flatten_event(true)
        .with_writer(Printable {
            writer,
            is_terminal: false,
        })
        .finish()
}

/// Makes writers of lines on which every character can be seen and is where it stands, whoever has chosen the names in
/// them.
struct Printable<M> {
    writer: M,
    /// Whether lines have colours.
    is_terminal: bool,
}

impl<'a, W: Write, M: Fn() -> W> MakeWriter<'a> for Printable<M> {
    type Writer = PrintableWriter<W>;

    fn make_writer(&'a self) -> Self::Writer {
        PrintableWriter {
            writer: (self.writer)(),
            is_terminal: self.is_terminal,
        }
    }
}

struct PrintableWriter<W> {
    writer: W,
    is_terminal: bool,
}

impl<W: Write> Write for PrintableWriter<W> {
    /// Takes a whole line, as the subscriber writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.writer
            .write_all(printable::line(&text, self.is_terminal).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::Value;

    use super::{printable::deceives, *};

    /// Memory that all writers share.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of a name.
    fn logged<S: Subscriber + Send + Sync + 'static>(
        name: &str,
        subscriber: impl FnOnce(Memory) -> S,
    ) -> String {
        let memory = Memory::default();
        tracing::subscriber::with_default(subscriber(memory.clone()), || {
            tracing::warn!(topic = %name, "{name} is gone");
        });
        String::from_utf8(memory.0.lock().clone()).expect("text")
    }

    /// With what hides the line, forges one, turns it round and colours it.
    const NAME: &str =
        "projects/a\n\u{1b}[2K\u{9b}31m\u{202e}p\u{2066}\u{7f}\u{2028}\u{200f}\0é\t/topics/t";

    #[test]
    fn names_in_log_lines_neither_hide_nor_forge_nor_turn_anything() {
        let filter = || EnvFilter::new("trace");
        let line = logged(NAME, |memory| {
            lines(move || memory.clone(), filter(), false)
        });
        let text = line.strip_suffix('\n').expect("one line");
        assert!(!text.contains(deceives), "{text:?}");
        assert!(text.contains("\\u202e") && text.contains('é'), "{text}");
        let line = logged(NAME, |memory| json(move || memory.clone(), filter()));
        let text = line.strip_suffix('\n').expect("one line");
        assert!(!text.contains(deceives), "{text:?}");
        let value: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(value["topic"], NAME);
        // Colours stay, and nothing else.
        let line = logged(NAME, |memory| lines(move || memory.clone(), filter(), true));
        assert!(line.contains("\u{1b}["), "{line:?}");
        assert!(
            !line.contains("\u{1b}[2K") && !line.contains('\u{202e}'),
            "{line:?}"
        );
    }

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
