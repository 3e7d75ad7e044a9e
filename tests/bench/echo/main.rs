//! What a gRPC server costs that does nothing: the limit that `tests/bench/run.sh` measures Packetboat against.
//!
//! Plain tonic and prost with their defaults. A publish is decoded and answered with ids (the *echo*), a streaming pull
//! sends synthetic messages as fast as the client takes them (the *sink*). It imports nothing of the crate, so that no
//! cost of Packetboat's is part of the limit.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::Context as _;
use clap::Parser;
use tonic::transport::{Server as GrpcServer, server::TcpIncoming};

use service::{Publisher, Server, Subscriber};

mod messages;
mod service;

// As the packetboat command does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers publishes and sends synthetic messages, as fast as tonic does.
#[derive(Debug, Parser)]
struct Arguments {
    /// IP address and port to listen on. Port 0 takes a free one
    #[arg(value_name = "ADDR")]
    listen: SocketAddr,

    /// Bytes of data in each synthetic message
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    size: usize,

    /// Let streams send only once nothing is published any more: the echo is measured alone although they are open
    #[arg(long)]
    sink_waits: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?
        .block_on(serve(&arguments))
}

/// Serves until a signal ends the process.
async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let incoming = TcpIncoming::bind(arguments.listen)
        .with_context(|| format!("cannot listen on {}", arguments.listen))?
        .with_nodelay(Some(true));
    writeln!(io::stdout(), "listening on {}", incoming.local_addr()?)?;
    let server = Arc::new(Server::new(arguments.size, arguments.sink_waits));
    GrpcServer::builder()
        .add_service(Publisher(Arc::clone(&server)))
        .add_service(Subscriber(server))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
