//! The three scenarios. Changing one changes its count, so they stay as they are.

use std::{path::Path, time::Duration};

use tokio::{runtime::Runtime, time::sleep};

use crate::{
    client::{Client, PullStream},
    server::CountedServer,
};

/// Counts of one scenario, of which the median is compared.
const ROUNDS: usize = 5;
/// Messages of a request, a stream frame, an acknowledgement.
const BATCH: usize = 100;
/// For so long the server may still work on what it has answered: longer than leases wait to be stored.
const SETTLE: Duration = Duration::from_millis(300);

/// A fixed use of a server.
pub(crate) struct Scenario {
    /// As the baseline has it.
    pub(crate) name: &'static str,
    /// Messages of one round.
    messages: usize,
    durable: bool,
    step: Step,
}

/// What is done to the messages of one round.
#[derive(Clone, Copy)]
enum Step {
    /// Published, [`BATCH`] in a request.
    Publish,
    /// Received and acknowledged over one stream, with a backlog behind them.
    Stream,
    /// Published one by one, then pulled and acknowledged.
    PublishAndPull,
}

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "publish",
        messages: 4000,
        durable: false,
        step: Step::Publish,
    },
    Scenario {
        name: "delivery",
        messages: 4000,
        durable: false,
        step: Step::Stream,
    },
    Scenario {
        name: "durable",
        messages: 400,
        durable: true,
        step: Step::PublishAndPull,
    },
];

impl Scenario {
    /// Allocations per message of each round.
    pub(crate) fn measure(&self) -> Vec<f64> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        runtime().block_on(self.counts(self.durable.then_some(directory.path())))
    }

    /// Plays the scenario on the server at `address`, whose instructions the caller counts, and returns how many
    /// messages the rounds had. Without a round, everything that comes before them is played.
    pub(crate) fn play(&self, address: &str, rounds: usize) -> usize {
        assert!(rounds <= ROUNDS, "the backlog is made for {ROUNDS} rounds");
        runtime().block_on(async {
            let mut playing = self.begin(address).await;
            for _ in 0..rounds {
                self.round(&mut playing).await;
            }
        });
        rounds * self.messages
    }

    async fn counts(&self, directory: Option<&Path>) -> Vec<f64> {
        let mut server = CountedServer::start(directory);
        let mut playing = self.begin(server.address()).await;
        let mut counts = Vec::with_capacity(ROUNDS);
        let mut before = server.allocations();
        for _ in 0..ROUNDS {
            self.round(&mut playing).await;
            let after = server.allocations();
            let allocations = u32::try_from(after - before).expect("a round allocates less");
            let messages = u32::try_from(self.messages).expect("a round is small");
            counts.push(f64::from(allocations) / f64::from(messages));
            before = after;
        }
        counts
    }

    /// Connects, and plays what comes before the first round: a backlog, and a round that warms up.
    async fn begin(&self, address: &str) -> Playing {
        let mut client = Client::connect(address).await;
        let mut stream = None;
        if matches!(self.step, Step::Stream) {
            // For all rounds, the one that warms up and one that keeps messages waiting behind the last.
            client.publish(self.messages * (ROUNDS + 2), BATCH).await;
            stream = Some(client.stream(BATCH).await);
        }
        let mut playing = Playing { client, stream };
        self.round(&mut playing).await;
        playing
    }

    async fn round(&self, Playing { client, stream }: &mut Playing) {
        match self.step {
            Step::Publish => client.publish(self.messages, BATCH).await,
            Step::Stream => {
                let stream = stream.as_mut().expect("it was opened before any round");
                stream.receive_and_ack(self.messages, BATCH).await;
            }
            Step::PublishAndPull => {
                client.publish(self.messages, 1).await;
                client.drain(self.messages, BATCH).await;
            }
        }
        sleep(SETTLE).await;
    }
}

/// What a scenario in progress has open.
struct Playing {
    client: Client,
    stream: Option<PullStream>,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}
