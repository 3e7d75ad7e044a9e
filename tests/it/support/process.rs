//! The `packetboat` command as a child process.

use std::{
    fs, io,
    net::SocketAddr,
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

use super::{Client, eventually, location::Location};

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that was started with `packetboat serve`. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// What it printed until it was ready.
    pub(crate) greeting: String,
    /// Where it listens.
    pub(crate) addresses: Vec<SocketAddr>,
    _stdout: Lines<BufReader<ChildStdout>>,
    /// What it logs, read all the time: a server whose log nobody reads stands still when the pipe is full.
    log: JoinHandle<String>,
}

fn command(arguments: &[&str]) -> Command {
    command_of(env!("CARGO_BIN_EXE_packetboat"), arguments)
}

fn command_of(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PACKETBOAT_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs `packetboat` with `arguments` to its end.
pub(crate) async fn run(arguments: &[&str]) -> Output {
    run_with(arguments, &[]).await
}

/// The same with environment variables.
pub(crate) async fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let output = command(arguments)
        .envs(environment.iter().copied())
        .output();
    timeout(PATIENCE, output)
        .await
        .unwrap_or_else(|_| panic!("packetboat {arguments:?} did not end"))
        .expect("the binary runs")
}

/// Asserts that `packetboat` with `arguments` fails with one line of text, and returns that.
pub(crate) async fn refusal(arguments: &[&str]) -> String {
    refusal_with(arguments, &[]).await
}

/// The same with environment variables.
pub(crate) async fn refusal_with(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run_with(arguments, environment).await;
    let text = String::from_utf8(output.stderr).expect("errors are UTF-8");
    assert!(!output.status.success(), "{arguments:?} did not fail");
    assert_eq!(text.lines().count(), 1, "one line, not: {text}");
    text
}

impl Process {
    /// Runs `packetboat serve` with `arguments` until it is ready.
    pub(crate) async fn serve(arguments: &[&str]) -> Self {
        Self::serve_with(arguments, &[]).await
    }

    /// The same with environment variables.
    pub(crate) async fn serve_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(&[&["serve"], arguments].concat());
        command.envs(environment.iter().copied());
        Self::ready(command).await
    }

    /// Runs `packetboat serve` on a location's data, as a node of this name.
    pub(crate) async fn serve_at(location: &Location, node: &str) -> Self {
        let arguments = location.arguments_of(node);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Self::serve(&arguments).await
    }

    /// Runs `packetboat serve` with room for `files` open files and connections.
    pub(crate) async fn serve_with_files(files: u32, arguments: &[&str]) -> Self {
        let limited = format!("ulimit -n {files} && exec \"$0\" serve \"$@\"");
        let binary = env!("CARGO_BIN_EXE_packetboat");
        let arguments = [&["-c", &limited, binary], arguments].concat();
        Self::ready(command_of("sh", &arguments)).await
    }

    /// Runs `packetboat serve` under a command that ends with the command to run, such as `strace -D`.
    pub(crate) async fn serve_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        let binary = env!("CARGO_BIN_EXE_packetboat");
        let arguments = [&wrapper[1..], &[binary, "serve"], arguments].concat();
        Self::ready(command_of(wrapper[0], &arguments)).await
    }

    /// Makes a topic of this name for a Kafka topic that is there.
    pub(crate) async fn attach(&self, topic: &str, kafka_topic: &str) {
        let address = self.addresses[0].to_string();
        let attach = [
            "topics",
            "--addr",
            &address,
            "attach",
            topic,
            "--kafka-topic",
            kafka_topic,
        ];
        let attached = run(&attach).await;
        assert!(attached.status.success(), "{attached:?}");
    }

    async fn ready(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut stderr = child.stderr.take().expect("piped");
        let log = tokio::spawn(async move {
            let mut log = String::new();
            let read = stderr.read_to_string(&mut log).await;
            read.expect("a log is text");
            log
        });
        let mut greeting = String::new();
        while !greeting.contains("export ") {
            let line = timeout(PATIENCE, stdout.next_line())
                .await
                .expect("the server becomes ready")
                .expect("its output can be read");
            let Some(line) = line else {
                let error = log.await.expect("its log can be read");
                panic!("{command:?} ended: {error}");
            };
            greeting.push_str(&line);
            greeting.push('\n');
        }
        let addresses = greeting
            .lines()
            .find_map(|line| line.trim().strip_prefix("listening on"))
            .expect("the greeting names the addresses")
            .split(',')
            .map(|address| address.trim().parse().expect("an address"))
            .collect();
        Self {
            child,
            greeting,
            addresses,
            _stdout: stdout,
            log,
        }
    }

    /// A connection to the server.
    pub(crate) async fn channel(&self) -> Channel {
        connect(self.addresses[0]).await
    }

    /// A client of both services.
    pub(crate) async fn client(&self) -> Client {
        Client::new(self.channel().await, self.addresses[0])
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id();
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {id}")])
            .status()
            .await
            .expect("sh runs");
        assert!(sent.success(), "SIG{name} cannot be sent");
    }

    /// Stops it where it stands (SIGSTOP), and returns once none of its threads runs any more: a busy one may go on for
    /// a moment after the signal.
    pub(crate) async fn freeze(&self) {
        self.signal("STOP").await;
        let threads = format!("/proc/{}/task", self.id());
        eventually("all its threads stand still", || async {
            // A thread that ends while it is inspected cannot be read.
            stand_still(&threads).unwrap_or(false).then_some(())
        })
        .await;
    }

    /// How it ended, and everything it logged.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let log = timeout(PATIENCE, self.log).await;
        let log = log.expect("the server ends").expect("its log can be read");
        let status = timeout(PATIENCE, self.child.wait()).await;
        (
            status
                .expect("the server ends")
                .expect("it can be waited for"),
            log,
        )
    }
}

/// A gRPC connection to `address`.
pub(crate) async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address makes a URI")
        .connect()
        .await
        .expect("the server accepts connections")
}

/// Whether every thread of a folder of `/proc` is stopped.
fn stand_still(threads: &str) -> io::Result<bool> {
    for thread in fs::read_dir(threads)? {
        let stat = fs::read_to_string(thread?.path().join("stat"))?;
        // The state comes after the name, which may have any character in it.
        if !stat
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
        {
            return Ok(false);
        }
    }
    Ok(true)
}
