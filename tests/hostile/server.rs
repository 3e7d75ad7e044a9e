//! The attacked server: `packetboat serve` as a child process, and what `/proc` says of it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// Ticks per second in which Linux tells the CPU time of a process, whatever its kernel's own are.
const TICKS_PER_SECOND: u64 = 100;

/// A server in memory. It is killed when this is dropped.
pub(crate) struct ServerProcess {
    child: Child,
    address: SocketAddr,
    _stdout: BufReader<ChildStdout>,
}

/// What a process has used by some time.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) at: Instant,
    /// Of all its threads.
    pub(crate) cpu: Duration,
    /// Resident now.
    pub(crate) rss_bytes: u64,
    /// The most that was resident since [`ServerProcess::forget_peak`].
    pub(crate) peak_bytes: u64,
}

impl ServerProcess {
    /// Starts one, with room for so many descriptors, and returns when it listens.
    pub(crate) fn start(descriptors: Option<u32>) -> Self {
        let mut command = Command::new("sh");
        let limited = descriptors.map_or_else(String::new, |max| format!("ulimit -n {max} && "));
        command.args(["-c", &format!("{limited}exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_packetboat"));
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("PACKETBOAT_")) {
            command.env_remove(name);
        }
        let mut child = command
            .args(["serve", "--ephemeral", "--listen", "127.0.0.1:0"])
            .args(["--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let address = loop {
            let mut line = String::new();
            let read = stdout.read_line(&mut line).expect("it writes text");
            assert!(read > 0, "the server ended before it listened");
            if let Some(address) = line.trim().strip_prefix("listening on") {
                break address.trim().parse().expect("one address");
            }
        };
        Self {
            child,
            address,
            _stdout: stdout,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has used until now.
    pub(crate) fn usage(&self) -> Usage {
        let stat = self.read("stat");
        // The name before it may have any character in it. Behind it the fields are those from the third on.
        let (_, fields) = stat.rsplit_once(") ").expect("a process's line");
        let fields: Vec<_> = fields.split(' ').collect();
        let ticks: u64 = [fields[11], fields[12]]
            .iter()
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum();
        let status = self.read("status");
        Usage {
            at: Instant::now(),
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
            rss_bytes: bytes(&status, "VmRSS:"),
            peak_bytes: bytes(&status, "VmHWM:"),
        }
    }

    /// The peak of its memory begins anew.
    pub(crate) fn forget_peak(&self) {
        // As proc_pid_clear_refs(5) has it.
        fs::write(self.path("clear_refs"), "5").expect("a peak can be set back");
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).expect("the server runs")
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended already; either way it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of `/proc/PID/status`, which tells KiB.
fn bytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib.expect("a size").trim().parse().expect("a number");
    kib * 1024
}
