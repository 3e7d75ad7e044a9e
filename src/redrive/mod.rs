//! Sends dead letters back to where they came from (`packetboat subscriptions redrive`), as a client of the server.
//!
//! A letter is acknowledged only when its publication was answered: should this be interrupted, it may come twice, and is
//! never lost. What stays is held by extensions of its leases until the end, so that it does not come again and again.

mod held;
mod letter;
mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use thiserror::Error;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use self::{held::Held, run::Run};
use crate::{
    clock::Clock,
    filter::Filter,
    proto::google::pubsub::v1::{
        publisher_client::PublisherClient, subscriber_client::SubscriberClient,
    },
    resource::name::{SubscriptionName, TopicName},
};

/// How long a server may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Bytes of an answer of 100 messages of the largest size.
const ANSWER_BYTES_MAX: usize = 1_100_000_000;

/// What to send back, and where.
#[derive(Debug)]
pub struct Plan {
    /// The server, HOST:PORT.
    pub addr: String,
    /// Of the dead letter topic.
    pub subscription: SubscriptionName,
    /// Where all of them go; `None`: each to the topic of the subscription that it says.
    pub to_topic: Option<TopicName>,
    /// Only those that match.
    pub filter: Option<Filter>,
    /// So many at most.
    pub limit: Option<u64>,
    /// Nothing is published and nothing acknowledged.
    pub dry_run: bool,
}

/// Where letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The topic.
    pub topic: TopicName,
    /// Subscriptions of it that get the messages, too, beside the one that they come from.
    pub others: Vec<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Letters that were published again, or would have been.
    pub sent: u64,
    /// Those that do not match, or were published after the beginning.
    pub left: u64,
    /// Those that were not published because that failed, or something before them in their key did.
    pub failed: u64,
    /// Those that were published and could not be acknowledged: they would be sent again.
    pub unacknowledged: u64,
}

/// Who watches.
pub trait Observer {
    /// Letters are about to go there for the first time; whether they may.
    fn allows(&mut self, destination: &Destination) -> bool;
    /// Something has happened.
    fn progress(&mut self, done: Done);
    /// Something failed, and the rest goes on.
    fn fails(&mut self, what: String);
}

/// Why it ended before its end.
#[derive(Debug, Error)]
pub enum RedriveError {
    /// The address is none.
    #[error("{0:?} is not an address: it is HOST:PORT")]
    Address(String),
    /// Nobody is there.
    #[error("no server answers at {0}; start one with `packetboat serve`, or name it with --addr")]
    NoServer(String),
    /// The server refused.
    #[error("{rpc}: {code:?}: {message}")]
    Refused {
        /// What.
        rpc: &'static str,
        /// How.
        code: Code,
        /// In the server's words.
        message: String,
    },
    /// The answer is not what the protocol says.
    #[error("an answer of the server cannot be read")]
    Answer,
    /// A letter does not say where it came from, or that is gone.
    #[error("{0}; name a topic with --to-topic")]
    NoTopic(String),
    /// An answer was no.
    #[error("nothing more was sent, as you said")]
    NotAllowed,
}

fn refused(rpc: &'static str) -> impl Fn(Status) -> RedriveError {
    move |status| RedriveError::Refused {
        rpc,
        code: status.code(),
        message: status.message().to_owned(),
    }
}

/// Sends letters back until none is left that was published before this began, and says what it has done, and why it
/// ended before that.
pub async fn redrive(
    plan: &Plan,
    observer: &mut impl Observer,
) -> (Done, Result<(), RedriveError>) {
    let channel = match connect(&plan.addr).await {
        Ok(channel) => channel,
        Err(error) => return (Done::default(), Err(error)),
    };
    let subscriber = SubscriberClient::new(channel.clone());
    let clock = Clock::system();
    let started = clock.now();
    let mut run = Run {
        plan,
        observer,
        held: Held::new(subscriber.clone(), plan.subscription.as_str(), clock),
        subscriber: subscriber.max_decoding_message_size(ANSWER_BYTES_MAX),
        publisher: PublisherClient::new(channel),
        started,
        topics: BTreeMap::new(),
        allowed: BTreeSet::new(),
        stopped_keys: BTreeSet::new(),
        done: Done::default(),
    };
    let result = run.run().await;
    run.held.give_back().await;
    (run.done, result)
}

async fn connect(addr: &str) -> Result<Channel, RedriveError> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .map_err(|_| RedriveError::Address(addr.to_owned()))?;
    let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
    let connected = endpoint.connect().await;
    connected.map_err(|_| RedriveError::NoServer(addr.to_owned()))
}
