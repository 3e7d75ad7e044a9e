//! Requests that never end, of whose many headers HTTP/2 repeats most in a byte, and heads of HTTP/1.1 that never end.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use h2::client::handshake;
use http::Request;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use crate::{Attack, Target, figures::Limits, is_long};

/// Requests of one connection.
const REQUESTS: usize = 1000;
const HEADERS: usize = 90;
/// Less than the largest head.
const HEAD_BYTES: usize = 60 * 1024;

/// See the module.
pub(crate) struct Headers;

/// Connections of HTTP/2, and of HTTP/1.1.
fn extent() -> (usize, usize) {
    if is_long() { (24, 2000) } else { (4, 400) }
}

#[async_trait]
impl Attack for Headers {
    fn name(&self) -> &'static str {
        "headers"
    }

    fn limits(&self) -> Limits {
        let (http2, http1) = extent();
        // What they count for, and what the buffers of heads have grown to.
        let bytes = http2 * REQUESTS * 24 * 1024 + http1 * 2 * HEAD_BYTES;
        Limits {
            growth_mib: (bytes / (1024 * 1024)) as u64,
            p99: Duration::from_millis(500),
            ..Limits::default()
        }
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        let (http2, http1) = extent();
        let mut open = Vec::new();
        for _ in 0..http2 {
            open.push(begin(target).await.map_err(|error| error.to_string())?);
        }
        let mut heads = Vec::new();
        let head = format!("GET / HTTP/1.1\r\nx: {}", "v".repeat(HEAD_BYTES));
        for _ in 0..http1 {
            let mut stream = TcpStream::connect(target.address)
                .await
                .expect("it listens");
            let sent = stream.write_all(head.as_bytes()).await;
            sent.map_err(|error| error.to_string())?;
            heads.push(stream);
        }
        sleep(Duration::from_millis(500)).await;
        drop((open, heads));
        Ok((http2 * REQUESTS + http1) as u64)
    }
}

/// The requests of one connection of HTTP/2, which are open as long as these are.
async fn begin(target: &Target) -> Result<Vec<h2::SendStream<Bytes>>, h2::Error> {
    let stream = TcpStream::connect(target.address)
        .await
        .expect("it listens");
    let (mut client, connection) = handshake(stream).await?;
    tokio::spawn(connection);
    let mut open = Vec::new();
    for _ in 0..REQUESTS {
        let mut request = Request::post("http://x/google.pubsub.v1.Publisher/Publish")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for _ in 0..HEADERS {
            request = request.header("x-one", "value");
        }
        client = client.ready().await?;
        let (answer, body) = client.send_request(request.body(()).expect("a request"), false)?;
        tokio::spawn(answer);
        open.push(body);
    }
    Ok(open)
}
