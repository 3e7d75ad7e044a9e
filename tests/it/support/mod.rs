//! A server to test against, its clients, and short ways to say what a test does with them.

pub(crate) mod admin;
pub(crate) mod backlog;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod known;
pub(crate) mod location;
pub(crate) mod nodes;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod rest_form;
pub(crate) mod services;
pub(crate) mod shared_load;
pub(crate) mod starts;
pub(crate) mod stream;
pub(crate) mod transport;
pub(crate) mod values;

use std::{net::SocketAddr, path::Path, time::Duration};

use packetboat::{
    auth::web::WebAccess,
    clock::{Clock, ManualClock, Timestamp},
    proto::google::pubsub::v1::{
        publisher_client::PublisherClient, subscriber_client::SubscriberClient,
    },
    server::{self, Options, Server},
    storage::Storage,
};
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};

use self::transport::Transport;

/// Longest that a test waits, in real time, for something that must happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// When a manual clock begins, milliseconds since the Unix epoch: a day of November 2026.
pub(crate) const START_MILLIS: u64 = 1_795_500_000_000;

/// Largest message that a client of big messages sends and accepts, bytes; that of the Go and Java clients.
const MESSAGE_BYTES_MAX: usize = 20 * 1024 * 1024;

/// Largest headers that a client accepts, bytes; as the official clients have it.
const HEADER_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// One server and a connection to it.
pub(crate) struct Pubsub {
    server: Server,
    hand: Option<ManualClock>,
    channel: Channel,
}

impl Pubsub {
    /// In memory, on a clock that only [`Self::advance_seconds`] moves.
    pub(crate) async fn start() -> Self {
        Self::over(Storage::Memory, Duration::ZERO).await
    }

    /// In memory, on the machine's clock.
    pub(crate) async fn on_system_clock() -> Self {
        Self::with(Storage::Memory, Clock::system(), None).await
    }

    /// In `directory`, on the system's clock.
    pub(crate) async fn in_directory_on_system_clock(directory: &Path) -> Self {
        Self::with(Storage::directory(directory), Clock::system(), None).await
    }

    /// In `directory`, on a manual clock that begins `after` the usual start.
    pub(crate) async fn in_directory(directory: &Path, after: Duration) -> Self {
        Self::over(Storage::directory(directory), after).await
    }

    /// Over these stores, on a manual clock that begins `after` the usual start.
    pub(crate) async fn over(storage: Storage, after: Duration) -> Self {
        let (clock, hand) = Clock::manual(Timestamp::from_millis(START_MILLIS) + after);
        Self::with(storage, clock, Some(hand)).await
    }

    async fn with(storage: Storage, clock: Clock, hand: Option<ManualClock>) -> Self {
        Self::with_web(storage, clock, hand, WebAccess::default()).await
    }

    /// In memory, for these browsers.
    pub(crate) async fn for_web(access: WebAccess) -> Self {
        Self::with_web(Storage::Memory, Clock::system(), None, access).await
    }

    async fn with_web(
        storage: Storage,
        clock: Clock,
        hand: Option<ManualClock>,
        web: WebAccess,
    ) -> Self {
        let options = Options {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            web,
            storage,
            clock,
        };
        let server = server::start(options).await.expect("the server starts");
        let channel = lazy_connection(&server);
        Self {
            server,
            hand,
            channel,
        }
    }

    /// Where it listens, HOST:PORT.
    pub(crate) fn address(&self) -> String {
        self.server.addresses()[0].to_string()
    }

    /// The connection that its clients share.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Sets the wall clock of a manual clock forward.
    pub(crate) fn jump_wall(&self, by: Duration) {
        let hand = self.hand.as_ref().expect("a manual clock");
        hand.jump_wall(by);
    }

    /// Moves the manual clock.
    pub(crate) fn advance_seconds(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    /// Moves the manual clock.
    pub(crate) fn advance(&self, by: Duration) {
        let hand = self.hand.as_ref();
        hand.expect("this server is on a manual clock").advance(by);
    }

    /// Stops the server as SIGTERM would.
    pub(crate) async fn stop(self) {
        within("the server stops", self.server.stop()).await;
    }

    /// A client on the shared connection.
    pub(crate) fn client(&self) -> Client {
        self.client_over(self.channel.clone())
    }

    /// A client on a connection of its own.
    pub(crate) fn another_client(&self) -> Client {
        self.client_over(lazy_connection(&self.server))
    }

    /// The way of its clients, for services that they do not have.
    pub(crate) fn transport(&self) -> Transport {
        Transport::new(self.channel(), self.server.addresses()[0])
    }

    fn client_over(&self, channel: Channel) -> Client {
        Client::new(channel, self.server.addresses()[0])
    }
}

/// Connects on first use. The windows are small, so that a stream that nobody reads holds little.
fn lazy_connection(server: &Server) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.addresses()[0]))
        .expect("an address makes a URI")
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(1024 * 1024)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .connect_lazy()
}

/// Both services of one server.
#[derive(Clone)]
pub(crate) struct Client {
    transport: Transport,
}

impl Client {
    /// Over a connection to that address, and over REST if the tests are to go over REST.
    pub(crate) fn new(channel: Channel, address: SocketAddr) -> Self {
        Self {
            transport: Transport::new(channel, address),
        }
    }

    /// Topics and Publish.
    pub(crate) fn publisher(&self) -> PublisherClient<Transport> {
        PublisherClient::new(self.transport.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Subscriptions and delivery, with gRPC's default receive limit of 4 MiB.
    pub(crate) fn subscriber(&self) -> SubscriberClient<Transport> {
        SubscriberClient::new(self.transport.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The same with the receive limit of the Go and Java clients.
    pub(crate) fn subscriber_of_big_messages(&self) -> SubscriberClient<Transport> {
        self.subscriber()
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The connection itself.
    pub(crate) fn channel(&self) -> &Channel {
        self.transport.channel()
    }
}

/// The answer of a call that must succeed.
#[track_caller]
pub(crate) fn ok<T>(result: Result<Response<T>, Status>) -> T {
    match result {
        Ok(response) => response.into_inner(),
        Err(status) => panic!("refused: {status:?}"),
    }
}

/// The status of a call that must be refused with `code`.
#[track_caller]
pub(crate) fn refused<T>(result: Result<T, Status>, code: Code, what: &str) -> Status {
    match result {
        Ok(_) => panic!("{what}: accepted, expected {code:?}"),
        Err(status) => {
            assert_eq!(status.code(), code, "{what}: {status:?}");
            status
        }
    }
}

/// Fails unless the call is refused with `code` and exactly `text`.
#[track_caller]
pub(crate) fn refused_with<T>(result: Result<T, Status>, code: Code, text: &str) {
    let status = refused(result, code, text);
    assert_eq!(status.message(), text);
}

/// The result of `future`, which must be ready within [`PATIENCE`].
#[track_caller]
pub(crate) fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let result = tokio::time::timeout(PATIENCE, future).await;
        result.unwrap_or_else(|_| panic!("{caller}: not within {PATIENCE:?}: {what}"))
    }
}

/// How often a test repeats what shows a race only now and then: `few` times, or `many` with PACKETBOAT_LONG.
pub(crate) fn few_or_many(few: usize, many: usize) -> usize {
    if std::env::var_os("PACKETBOAT_LONG").is_some() {
        many
    } else {
        few
    }
}

/// Asks again and again, giving way in between, until the answer is there.
pub(crate) async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    within(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
