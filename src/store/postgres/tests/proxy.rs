//! A network between a node and its database that can fail.

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::database::{TestDatabase, options};
use crate::store::postgres::Options;

/// What becomes of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Fine,
    /// Nothing arrives any more, and nobody is told.
    Silent,
    /// All are closed, new ones too.
    Cut,
}

/// Forwards to the database of a test until it is told otherwise.
pub(super) struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
}

impl Proxy {
    pub(super) async fn new(database: &TestDatabase) -> Self {
        let target = database.address();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let port = listener.local_addr().expect("address").port();
        let network = watch::Sender::new(Network::Fine);
        let told = network.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, target.clone(), told.clone()));
            }
        });
        Self { port, network }
    }

    pub(super) fn options(&self, database: &TestDatabase, node: &str) -> Options {
        let address = ("127.0.0.1".to_owned(), self.port);
        options(&database.url_at(&address), node)
    }

    pub(super) fn cut(&self) {
        self.network.send_replace(Network::Cut);
    }

    pub(super) fn silence(&self) {
        self.network.send_replace(Network::Silent);
    }

    /// New connections work again.
    pub(super) fn mend(&self) {
        self.network.send_replace(Network::Fine);
    }
}

async fn forward(
    mut client: TcpStream,
    target: (String, u16),
    mut network: watch::Receiver<Network>,
) {
    if *network.borrow_and_update() == Network::Fine
        && let Ok(mut server) = TcpStream::connect(target).await
    {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
            _ = network.wait_for(|network| *network != Network::Fine) => {}
        }
        // The database keeps its side until the client's is gone, as with a cable that was pulled.
        let _ = network
            .wait_for(|network| *network != Network::Silent)
            .await;
    } else {
        let _ = network
            .wait_for(|network| *network != Network::Silent)
            .await;
    }
}
