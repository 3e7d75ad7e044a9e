//! What every RPC answers, above all to wrong requests, over gRPC and REST: `tests/answers/*.txt` has each request and
//! its answers, to the letter. Several faults in one request show the order of the checks; other files show what a
//! server answers that may not, cannot or will not serve.
//!
//! `tests/answers/README.md` says how to read the files. After a change that is meant:
//! `UPDATE_ANSWERS=1 cargo test --lib answers`, and read the diff.

mod call;
mod cases;
mod consumer;
mod ends;
mod order;
mod others;
mod plain;
mod publisher;
#[path = "../../../tests/it/support/rest_form.rs"]
mod rest_form;
mod streaming;
mod subscriber;
mod text;
mod world;

use std::{collections::BTreeSet, env, fmt::Write as _, fs, path::Path};

use self::{
    call::Answer,
    cases::{Case, Rpc},
    world::{Situation, World},
};
use crate::service::StoreError;

/// Compares `answers`, each of which begins with `== `, with what is written in the file.
fn check(file: &str, answers: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/answers")
        .join(file);
    if env::var_os("UPDATE_ANSWERS").is_some() {
        fs::write(&path, answers).expect("a writable folder");
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    if written == answers {
        return;
    }
    let blocks = |text: &str| -> Vec<String> { text.split("== ").map(str::to_owned).collect() };
    let (before, now) = (blocks(&written), blocks(answers));
    let alike = before.iter().zip(&now).take_while(|(a, b)| a == b).count();
    let block = |blocks: &[String]| blocks.get(alike).cloned().unwrap_or_default();
    panic!(
        "{} differs, first in what is written as\n\n{}\nand is now\n\n{}\nIf this is right, run again with UPDATE_ANSWERS=1.",
        path.display(),
        block(&before),
        block(&now)
    );
}

/// Every RPC with what it is asked.
fn rpcs() -> Vec<Rpc> {
    [
        publisher::rpcs(),
        subscriber::rpcs(),
        streaming::rpcs(),
        subscriber::snapshots(),
        others::schemas(),
        others::policies(),
        publisher::admin(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Servers in one situation: a request may have changed one, so that another follows.
struct Servers {
    situation: Situation,
    current: Option<World>,
}

impl Servers {
    const fn new(situation: Situation) -> Self {
        Self {
            situation,
            current: None,
        }
    }

    async fn next(&mut self) -> World {
        match self.current.take() {
            Some(world) => world,
            None => World::new(&self.situation).await,
        }
    }

    /// Keeps a server on which nothing changed. One whose store fails in use waits before it tries it again.
    fn keep(&mut self, world: World, answer: &Answer) {
        if !answer.is_ok() && !matches!(self.situation, Situation::StateFailsInUse(_)) {
            self.current = Some(world);
        }
    }

    /// Asks over gRPC, then over REST.
    async fn ask(&mut self, rpc: &str, case: &Case) -> (String, &'static str) {
        let world = self.next().await;
        let requests = case.requests.iter();
        let requests: Vec<_> = requests
            .map(|request| text::with_ack_id(request, &world.ack_id))
            .collect();
        let answer = call::grpc(&world, rpc, &requests).await;
        let mut block = format!("== {rpc}: {}\n", case.title);
        for request in &case.requests {
            writeln!(block, "{}", text::json(request)).expect("a string takes it");
        }
        block.push_str(&answer.text(&world.ack_id));
        self.keep(world, &answer);
        if !call::method(rpc).is_client_streaming() {
            let world = self.next().await;
            let request = text::with_ack_id(&case.requests[0], &world.ack_id);
            block.push_str(&call::rest(&world, rpc, &request, &answer).await);
            self.keep(world, &answer);
        }
        block.push('\n');
        (block, answer.code())
    }
}

/// Asks every RPC everything that it is asked.
async fn every_case(rpcs: Vec<Rpc>) -> String {
    let mut servers = Servers::new(Situation::Serving);
    let mut answers = String::new();
    for rpc in rpcs {
        for case in &rpc.cases {
            answers.push_str(&servers.ask(rpc.name, case).await.0);
        }
    }
    answers
}

/// Asks every RPC for what it should do, and for nothing.
async fn first_cases(situation: Situation) -> String {
    let mut servers = Servers::new(situation);
    let mut answers = String::new();
    for rpc in rpcs() {
        for case in rpc.cases.iter().take(2) {
            answers.push_str(&servers.ask(rpc.name, case).await.0);
        }
    }
    answers
}

/// Asks only those RPCs for what they should do that move messages.
async fn messages(situation: Situation) -> String {
    const RPCS: [&str; 5] = [
        "Publisher/Publish",
        "Subscriber/ModifyAckDeadline",
        "Subscriber/Acknowledge",
        "Subscriber/Pull",
        "Subscriber/StreamingPull",
    ];
    let mut servers = Servers::new(situation);
    let mut answers = String::new();
    for rpc in rpcs().iter().filter(|rpc| RPCS.contains(&rpc.name)) {
        answers.push_str(&servers.ask(rpc.name, &rpc.cases[0]).await.0);
    }
    answers
}

/// The codes of everything that every RPC is asked, a line each: which check comes before what fails here.
async fn codes(situation: Situation) -> String {
    let mut servers = Servers::new(situation);
    let mut answers = String::new();
    for rpc in rpcs() {
        writeln!(answers, "== {}", rpc.name).expect("a string takes it");
        for case in &rpc.cases {
            let (_, code) = servers.ask(rpc.name, case).await;
            writeln!(answers, "{code}: {}", case.title).expect("a string takes it");
        }
        answers.push('\n');
    }
    answers
}

fn away() -> StoreError {
    StoreError::Unavailable("on purpose".to_owned())
}

#[test]
fn every_rpc_is_asked() {
    let asked: BTreeSet<_> = rpcs().iter().map(|rpc| rpc.name.to_owned()).collect();
    let served: BTreeSet<_> = call::rpcs().into_iter().collect();
    assert_eq!(asked, served);
}

#[tokio::test]
async fn of_publishers() {
    check("publisher.txt", &every_case(publisher::rpcs()).await);
}

#[tokio::test]
async fn of_subscribers() {
    check("subscriber.txt", &every_case(subscriber::rpcs()).await);
}

#[tokio::test]
async fn of_streams() {
    check("streaming_pull.txt", &every_case(streaming::rpcs()).await);
}

#[tokio::test]
async fn of_snapshots() {
    check("snapshots.txt", &every_case(subscriber::snapshots()).await);
}

#[tokio::test]
async fn of_schemas() {
    check("schemas.txt", &every_case(others::schemas()).await);
}

#[tokio::test]
async fn of_policies() {
    check("policies.txt", &every_case(others::policies()).await);
}

#[tokio::test]
async fn of_admin() {
    check("admin.txt", &every_case(publisher::admin()).await);
}

#[tokio::test]
async fn to_those_who_may_do_nothing() {
    check("denied.txt", &codes(Situation::Denying).await);
}

#[tokio::test]
async fn without_a_lease() {
    check(
        "without_lease.txt",
        &first_cases(Situation::WithoutLease).await,
    );
}

#[tokio::test]
async fn while_another_node_delivers() {
    check("not_owner.txt", &first_cases(Situation::NotOwner).await);
}

#[tokio::test]
async fn while_stopping() {
    check("stopping.txt", &first_cases(Situation::Stopping).await);
}

#[tokio::test]
async fn while_the_state_store_does_not_answer() {
    let answers = first_cases(Situation::StateFails(away())).await;
    check("state_away.txt", &answers);
    let in_use = messages(Situation::StateFailsInUse(away())).await;
    check("state_away_in_use.txt", &in_use);
    let codes = codes(Situation::StateFails(away())).await;
    check("state_away_codes.txt", &codes);
}

#[tokio::test]
async fn while_the_message_log_does_not_answer() {
    let answers = first_cases(Situation::LogFails(away())).await;
    check("log_away.txt", &answers);
}

#[tokio::test]
async fn when_a_store_fails_otherwise() {
    let text = || "on purpose".to_owned();
    let mut answers = String::new();
    for error in [
        StoreError::Uncertain(text()),
        StoreError::Damaged(text()),
        StoreError::Newer {
            what: text(),
            needs: 2,
            known: 1,
        },
        StoreError::Full(text()),
        StoreError::Refused(text()),
    ] {
        for (store, situation) in [
            ("state store", Situation::StateFails(error.clone())),
            ("message log", Situation::LogFails(error.clone())),
        ] {
            let mut servers = Servers::new(situation);
            for rpc in rpcs() {
                let (answer, code) = servers.ask(rpc.name, &rpc.cases[0]).await;
                // The others are as if nothing failed.
                if !["OK", "UNIMPLEMENTED"].contains(&code) {
                    let title = format!("== the {store}: {error}: ");
                    answers.push_str(&answer.replacen("== ", &title, 1));
                }
            }
        }
    }
    check("stores_failing.txt", &answers);
}

#[tokio::test]
async fn at_the_end_of_streams_and_pulls() {
    check("ends.txt", &ends::answers().await);
}

#[tokio::test]
async fn to_what_is_no_request() {
    check("no_requests.txt", &plain::answers().await);
}
