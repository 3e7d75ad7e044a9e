//! A network between a node and its database that can fail.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
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
///
/// It may be a pooler that drops the options with which a session starts.
pub(super) struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
}

impl Proxy {
    pub(super) async fn new(database: &TestDatabase) -> Self {
        Self::start(database, false).await
    }

    pub(super) async fn dropping_options(database: &TestDatabase) -> Self {
        Self::start(database, true).await
    }

    async fn start(database: &TestDatabase, drops_options: bool) -> Self {
        let target = database.address();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let port = listener.local_addr().expect("address").port();
        let network = watch::Sender::new(Network::Fine);
        let told = network.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let forwarded = forward(client, target.clone(), told.clone(), drops_options);
                tokio::spawn(forwarded);
            }
        });
        Self { port, network }
    }

    pub(super) fn url(&self, database: &TestDatabase) -> String {
        database.url_at(&("127.0.0.1".to_owned(), self.port))
    }

    pub(super) fn options(&self, database: &TestDatabase, node: &str) -> Options {
        options(&self.url(database), node)
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

/// Passes the first message of a session on, but for its options.
async fn start_without_options(client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
    const TLS_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();
    loop {
        let length = client.read_u32().await?;
        let mut message = vec![0; length as usize - 4];
        client.read_exact(&mut message).await?;
        if message == TLS_REQUEST {
            client.write_all(b"N").await?;
            continue;
        }
        let (version, parameters) = message.split_at(4);
        let mut texts = parameters.split(|byte| *byte == 0);
        let mut start = version.to_vec();
        while let (Some(name), Some(value)) = (texts.next(), texts.next())
            && !name.is_empty()
        {
            if name != b"options" {
                start.extend([name, b"\0", value, b"\0"].concat());
            }
        }
        start.push(0);
        server.write_u32(start.len() as u32 + 4).await?;
        return server.write_all(&start).await;
    }
}

async fn forward(
    mut client: TcpStream,
    target: (String, u16),
    mut network: watch::Receiver<Network>,
    drops_options: bool,
) {
    if *network.borrow_and_update() == Network::Fine
        && let Ok(mut server) = TcpStream::connect(target).await
    {
        if drops_options
            && start_without_options(&mut client, &mut server)
                .await
                .is_err()
        {
            return;
        }
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
