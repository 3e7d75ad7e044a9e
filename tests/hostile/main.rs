//! Attacks on a server, and what they may cost: its memory, its CPU, and the latency of a well-behaved neighbour.
//!
//! The server is the `packetboat` command, a process of its own, so that what is read of it in `/proc` is its own. The
//! neighbour publishes, receives and acknowledges on a thread and a connection of its own: beside the attack, and alone
//! before and after it, which is the control. Every attack has a fresh server.
//!
//! `cargo test --test hostile [ATTACK]`; with PACKETBOAT_LONG each one goes on for longer. A new attack is a file in
//! `attacks` that implements [`Attack`], and a line in `attacks::all`.
#![expect(clippy::disallowed_methods, reason = "real servers are measured")]

mod attacks;
mod figures;
mod neighbour;
#[path = "../it/support/raw.rs"]
#[allow(dead_code, reason = "tests/it needs more of it")]
mod raw;
mod server;

use std::{env, io::Write as _, net::SocketAddr, process::ExitCode, thread, time::Duration};

use async_trait::async_trait;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use self::{
    figures::{Figures, Limits},
    neighbour::Neighbour,
    server::ServerProcess,
};

/// Tries of one attack: other processes may be what held the neighbour up.
const TRIES: usize = 3;

/// How long the neighbour warms up or recovers, has the server for itself, and has the attack beside it.
struct Lengths {
    warm_up: Duration,
    control: Duration,
    attack: Duration,
}

const SHORT: Lengths = Lengths {
    warm_up: Duration::from_millis(500),
    control: Duration::from_millis(1500),
    attack: Duration::from_secs(3),
};
const LONG: Lengths = Lengths {
    warm_up: Duration::from_secs(1),
    control: Duration::from_secs(5),
    attack: Duration::from_secs(20),
};

/// What is attacked.
pub(crate) struct Target {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How long the attack is to go on.
    pub(crate) lasts: Duration,
}

impl Target {
    /// A new gRPC connection.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        let connected = endpoint.expect("an address makes a URI").connect().await;
        connected.expect("the server accepts connections")
    }
}

/// Something that a client may do to a server.
#[async_trait]
pub(crate) trait Attack: Send {
    /// As the command line and the report name it.
    fn name(&self) -> &'static str;

    /// What it may cost.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// How many descriptors the server may have, if not as many as this process.
    fn descriptors(&self) -> Option<u32> {
        None
    }

    /// Makes what the attack needs, before anything is measured.
    async fn prepare(&mut self, _target: &Target) {}

    /// Attacks for as long as the target says, and returns how many requests or connections that were, or what was
    /// answered otherwise than it has to be.
    async fn run(&mut self, target: &Target) -> Result<u64, String>;
}

fn main() -> ExitCode {
    // Behind it, cargo passes on what was written behind `--`, which is meant for test harnesses.
    let first = env::args().nth(1).unwrap_or_default();
    let filter = if first.starts_with('-') { "" } else { &first };
    let lengths = if is_long() { LONG } else { SHORT };
    let attacks = attacks::all().into_iter();
    let mut passed = 0;
    let mut failed = Vec::new();
    for mut attack in attacks.filter(|attack| attack.name().contains(filter)) {
        let mut tries = (0..TRIES).map(|_| measure(&mut *attack, &lengths));
        let faults = tries.try_fold(Vec::new(), |_, faults| {
            (!faults.is_empty()).then_some(faults)
        });
        if let Some(faults) = faults {
            say(&format!("test {} ... FAILED", attack.name()));
            failed.push(format!("{}: {}", attack.name(), faults.join("; ")));
        } else {
            say(&format!("test {} ... ok", attack.name()));
            passed += 1;
        }
    }
    for fault in &failed {
        say(fault);
    }
    // As test harnesses end, for what reads them.
    let (result, code) = if failed.is_empty() {
        ("ok", ExitCode::SUCCESS)
    } else {
        ("FAILED", ExitCode::FAILURE)
    };
    let failed = failed.len();
    say(&format!(
        "test result: {result}. {passed} passed; {failed} failed; 0 ignored"
    ));
    code
}

/// Attacks a fresh server, says what that cost, and returns what was too much.
fn measure(attack: &mut dyn Attack, lengths: &Lengths) -> Vec<String> {
    let runtime = Runtime::new().expect("a runtime");
    let server = ServerProcess::start(attack.descriptors());
    let target = Target {
        address: server.address(),
        lasts: lengths.attack,
    };
    runtime.block_on(attack.prepare(&target));
    let neighbour = Neighbour::start(server.address());
    thread::sleep(lengths.warm_up);
    neighbour.take();

    let alone = || {
        let before = server.usage();
        thread::sleep(lengths.control);
        Figures::between(&before, &server.usage(), neighbour.take())
    };
    let control = alone();

    server.forget_peak();
    let before = server.usage();
    let requests = runtime.block_on(attack.run(&target));
    let figures = Figures::between(&before, &server.usage(), neighbour.take());

    thread::sleep(lengths.warm_up);
    neighbour.take();
    let control = [control, alone()];

    say(&format!("{}, before: {}", attack.name(), control[0]));
    let of = requests.as_ref().map_or(0, |requests| *requests);
    say(&format!("{}, attack of {of}: {figures}", attack.name()));
    say(&format!("{}, after:  {}", attack.name(), control[1]));
    match requests {
        Ok(requests) => attack.limits().faults(&control, &figures, requests),
        Err(fault) => vec![fault],
    }
}

/// Whether attacks are to be played as large as they may be.
fn is_long() -> bool {
    env::var_os("PACKETBOAT_LONG").is_some()
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes text");
}
