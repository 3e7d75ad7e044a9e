//! `packetboat health`: asks a running server whether everything answers.

use std::{env, process::ExitCode, time::Duration};

use anyhow::{anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{listen, print};

/// How long a server may take. Its own checks end within a second.
const PATIENCE: Duration = Duration::from_secs(4);
/// The longest answer that is shown.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Ask a running server whether everything answers.
///
/// For health checks of containers: it prints what the server says at /healthz, and the exit code is 1 unless the node and
/// both of its backends answer.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Address of the server [default: the first of PACKETBOAT_LISTEN, or else 127.0.0.1:8085]
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<String>,
}

/// Asks; fails unless all is well.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let addr = match arguments.addr {
        Some(addr) => addr,
        None => listen::of_this_machine(env::var("PACKETBOAT_LISTEN").ok().as_deref())?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start: {error}"))?;
    let answer = runtime.block_on(async { timeout(PATIENCE, ask(&addr)).await });
    let answer =
        answer.map_err(|_| anyhow!("{addr} did not answer within {} s", PATIENCE.as_secs()))?;
    let (status, text) = answer.map_err(|error| anyhow!("no server answers at {addr}: {error}"))?;
    print(&text);
    match status {
        StatusCode::OK => Ok(ExitCode::SUCCESS),
        StatusCode::SERVICE_UNAVAILABLE => Ok(ExitCode::FAILURE),
        other => bail!("{addr} is not a Packetboat that can say how it is: it answered {other}"),
    }
}

async fn ask(addr: &str) -> anyhow::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/healthz")
        .header(header::HOST, addr)
        .body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow!(error))?.to_bytes();
    Ok((head.status, String::from_utf8_lossy(&body).into_owned()))
}
