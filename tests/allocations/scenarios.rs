//! The three scenarios. Changing one changes its count, so they stay as they are.

use std::{path::Path, time::Duration};

use tokio::time::sleep;

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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(self.rounds(self.durable.then_some(directory.path())))
    }

    async fn rounds(&self, directory: Option<&Path>) -> Vec<f64> {
        let mut server = CountedServer::start(directory);
        let mut client = Client::connect(server.address()).await;
        let mut stream = None;
        if matches!(self.step, Step::Stream) {
            // For all rounds, the one that warms up and one that keeps messages waiting behind the last.
            client.publish(self.messages * (ROUNDS + 2), BATCH).await;
            stream = Some(client.stream(BATCH).await);
        }
        let mut counts = Vec::with_capacity(ROUNDS);
        self.round(&mut client, stream.as_mut()).await;
        sleep(SETTLE).await;
        let mut before = server.allocations();
        for _ in 0..ROUNDS {
            self.round(&mut client, stream.as_mut()).await;
            sleep(SETTLE).await;
            let after = server.allocations();
            let allocations = u32::try_from(after - before).expect("a round allocates less");
            let messages = u32::try_from(self.messages).expect("a round is small");
            counts.push(f64::from(allocations) / f64::from(messages));
            before = after;
        }
        counts
    }

    async fn round(&self, client: &mut Client, stream: Option<&mut PullStream>) {
        match self.step {
            Step::Publish => client.publish(self.messages, BATCH).await,
            Step::Stream => {
                let stream = stream.expect("it was opened before the first round");
                stream.receive_and_ack(self.messages, BATCH).await;
            }
            Step::PublishAndPull => {
                client.publish(self.messages, 1).await;
                client.drain(self.messages, BATCH).await;
            }
        }
    }
}
