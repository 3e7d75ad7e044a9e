//! `packetboat serve`: starts a server, says where it is, and stops it on a signal.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{anyhow, ensure};
use clap::{Args, builder::BoolishValueParser};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    listen, print,
    storage::{Dangers, StorageArguments, read_config},
    web::WebArguments,
};
use crate::{
    clock::Clock,
    limits,
    server::{self, Options},
    storage::Storage,
    telemetry::logs::{self, LogFilter, LogFormat},
};

/// Start the server.
///
/// It prints its addresses when clients can connect, and stops on SIGTERM or Ctrl-C: streams end, requests are
/// answered, everything that was answered is on disk. A second signal stops it at once.
#[derive(Args, Debug)]
pub struct Arguments {
    /// IP address and port to listen on; may be repeated. Port 0 takes a free one
    ///
    /// Without it: 127.0.0.1:8085 and, where the machine has it, [::1]:8085. In the environment variable, several
    /// are separated by commas.
    #[arg(
        long,
        value_name = "ADDR",
        env = "PACKETBOAT_LISTEN",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = listen::parse
    )]
    listen: Vec<SocketAddr>,

    #[command(flatten)]
    web: WebArguments,

    #[command(flatten)]
    storage: StorageArguments,

    /// A file of settings; flags and the environment come before it
    #[arg(
        long,
        value_name = "FILE",
        env = "PACKETBOAT_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,

    /// Keep everything in memory: no data directory is used, and all is gone when the server stops
    #[arg(
        long,
        env = "PACKETBOAT_EPHEMERAL",
        hide_env_values = true,
        value_parser = BoolishValueParser::new()
    )]
    ephemeral: bool,

    /// Take the Kafka topics under kafka.prefix over from another store; for one start, when nothing uses that store
    #[arg(long)]
    claim_prefix: bool,

    /// What is logged: error, warn, info, debug, trace, or directives such as packetboat::wire=debug,info
    #[arg(
        long,
        value_name = "LEVEL",
        env = "PACKETBOAT_LOG_LEVEL",
        hide_env_values = true,
        default_value = "info"
    )]
    log_level: LogFilter,

    /// How log lines, which go to standard error, are written
    #[arg(
        long,
        value_name = "FORMAT",
        env = "PACKETBOAT_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text"
    )]
    log_format: LogFormat,

    /// Allow addresses that other machines reach, although there is no authentication yet
    #[arg(
        long,
        env = "PACKETBOAT_INSECURE",
        hide_env_values = true,
        value_parser = BoolishValueParser::new()
    )]
    insecure: bool,
}

/// Serves until a signal comes.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments {
        mut listen,
        web,
        storage,
        config,
        ephemeral,
        claim_prefix,
        log_level,
        log_format,
        insecure,
    } = arguments;
    let mut dangers = Dangers::new();
    let file = read_config(config.as_deref(), &mut dangers)?;
    if listen.is_empty() {
        listen.clone_from(&file.listen);
    }
    if listen.is_empty() {
        listen = listen::defaults();
    }
    listen::check(&listen, insecure)?;
    let web = web.access(&file)?;
    let storage = if ephemeral {
        ensure!(
            !storage.names_a_location(),
            "--ephemeral keeps everything in memory: leave it out, or leave --log and --store out"
        );
        Storage::Memory
    } else {
        storage.storage(&file, claim_prefix, &mut dangers)?
    };
    logs::init(log_level, log_format)?;
    dangers.extend(listen::danger(&listen));
    for danger in dangers {
        tracing::warn!("{danger}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start threads: {error}"))?;
    let ended = runtime.block_on(serve(Options {
        listen,
        web,
        storage,
        clock: Clock::system(),
    }));
    // What did not end in time does not hold the process up.
    runtime.shutdown_background();
    ended
}

async fn serve(options: Options) -> anyhow::Result<ExitCode> {
    // From here on no signal ends the process half-way through something.
    let mut signals = Signals::new().map_err(|error| anyhow!("cannot receive signals: {error}"))?;
    let storage = options.storage.clone();
    let starting = tokio::select! {
        started = server::start(options) => Some(started?),
        () = signals.next() => None,
    };
    let Some(server) = starting else {
        return Ok(ExitCode::SUCCESS);
    };
    print(&greeting(server.addresses(), &storage));
    let ended = tokio::select! {
        () = signals.next() => None,
        reason = server.ended() => Some(reason),
    };
    match &ended {
        None => tracing::info!("stopping"),
        Some(reason) => tracing::error!("stopping: {reason}"),
    }
    let longest = limits::SHUTDOWN_MILLIS_MAX + limits::CLOSE_MILLIS_MAX;
    tokio::select! {
        () = server.stop() => {
            tracing::info!("stopped");
            match ended {
                None => Ok(ExitCode::SUCCESS),
                Some(reason) => anyhow::bail!("stopped: {reason}"),
            }
        }
        () = signals.next() => anyhow::bail!("stopped at once by a second signal"),
        () = tokio::time::sleep(Duration::from_millis(longest)) => {
            anyhow::bail!("the server did not stop within {longest} ms")
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn greeting(addresses: &[SocketAddr], storage: &Storage) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "Packetboat {version} is ready.\n  listening on  {}\n  data          {}\n",
        listed.join(", "),
        describe(storage)
    );
    if let Some(&address) = addresses.first() {
        let reached_at = listen::reached_at(address);
        // The first line is what Google's emulator says, for which Testcontainers and scripts wait.
        let _written = write!(
            text,
            "\nServer started, listening on {}\nexport PUBSUB_EMULATOR_HOST={reached_at}\n",
            address.port()
        );
    }
    text
}

fn describe(storage: &Storage) -> String {
    match storage {
        Storage::Memory => "in memory, gone when the server stops".to_owned(),
        Storage::Durable(durable) => {
            let directory = format!("in {}", absolute(&durable.directory).display());
            match (&durable.kafka, &durable.postgres) {
                (None, None) => directory,
                (kafka, postgres) => {
                    let messages = kafka
                        .as_ref()
                        .map(|kafka| format!("in Kafka at {}", kafka.brokers));
                    let state = postgres
                        .as_ref()
                        .map(|postgres| format!("in {}", postgres.url));
                    format!(
                        "messages {}, the rest {}",
                        messages.as_ref().unwrap_or(&directory),
                        state.as_ref().unwrap_or(&directory)
                    )
                }
            }
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.components().collect()
}
