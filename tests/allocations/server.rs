//! The counted server: this binary as a child process, and the way to its count.
//!
//! The child prints its address, then the number of its allocations for every line that it reads, and stops when its
//! standard input ends.

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use packetboat::{
    auth::web::WebAccess,
    clock::Clock,
    server::{Options, start},
    storage::Storage,
};
use stats_alloc::INSTRUMENTED_SYSTEM;
use tokio::sync::oneshot;

/// The first argument of the child; its second is the data directory, if there is one.
pub(crate) const ARGUMENT: &str = "counted-server";

/// What the child does.
pub(crate) fn run(directory: Option<OsString>) {
    let storage = directory.map_or(Storage::Memory, Storage::directory);
    // One thread: who wakes whom is then the same in every run.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let options = Options {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            web: WebAccess::default(),
            storage,
            clock: Clock::system(),
        };
        let server = start(options).await.expect("the server starts");
        print(&server.addresses()[0].to_string());
        let (ended, end) = oneshot::channel();
        thread::spawn(move || {
            answer_counts();
            // Nobody waits if the server is gone already.
            let _ = ended.send(());
        });
        // Without an orderly stop: what it holds is of no use any more.
        end.await.expect("the thread that answers does not panic");
    });
}

fn answer_counts() {
    let mut line = String::new();
    while io::stdin().read_line(&mut line).is_ok_and(|read| read > 0) {
        line.clear();
        let stats = INSTRUMENTED_SYSTEM.stats();
        print(&(stats.allocations + stats.reallocations).to_string());
    }
}

fn print(line: &str) {
    writeln!(io::stdout(), "{line}").expect("the parent reads");
}

/// The child as its parent sees it. It ends when this is dropped.
pub(crate) struct CountedServer {
    child: Child,
    /// Taken to let the child end.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl CountedServer {
    /// In `directory` or, without one, in memory.
    pub(crate) fn start(directory: Option<&Path>) -> Self {
        let mut child = Command::new(env::current_exe().expect("this binary has a path"))
            .arg(ARGUMENT)
            .args(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary can be started");
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let address = line(&mut stdout);
        Self {
            child,
            stdin,
            stdout,
            address,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How often it has allocated since it started.
    pub(crate) fn allocations(&mut self) -> u64 {
        let stdin = self.stdin.as_mut().expect("it runs until this is dropped");
        stdin.write_all(b"\n").expect("the child reads");
        line(&mut self.stdout).parse().expect("a number")
    }
}

impl Drop for CountedServer {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It has ended either way.
        let _ = self.child.wait();
    }
}

fn line(stdout: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).expect("the child writes text");
    assert!(!line.is_empty(), "the counted server has ended");
    line.trim_end().to_owned()
}
