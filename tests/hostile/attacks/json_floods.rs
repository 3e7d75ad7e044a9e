//! Connections that ask over REST without a pause for what takes long to read or to write as JSON.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::unread_lists;
use crate::{Attack, Target, figures::Limits};

const CONNECTIONS: usize = 8;
/// Less than what is large.
const BODY_BYTES: usize = 250 * 1024;
/// Of a message, short ones.
const ATTRIBUTES: usize = 12;

/// See the module.
pub(crate) enum JsonFloods {
    /// Bodies of many small parts, the last of which is wrong.
    Bodies,
    /// Pages of lists that are compressed.
    Answers,
}

#[async_trait]
impl Attack for JsonFloods {
    fn name(&self) -> &'static str {
        match self {
            Self::Bodies => "bodies of json",
            Self::Answers => "answers of json",
        }
    }

    fn limits(&self) -> Limits {
        match self {
            Self::Bodies => Limits::default(),
            Self::Answers => Limits {
                // Of each connection a page as it is made, as it is encoded, and as JSON.
                growth_mib: 200,
                p99: Duration::from_millis(200),
                ..Limits::default()
            },
        }
    }

    async fn prepare(&mut self, target: &Target) {
        if let Self::Answers = self {
            unread_lists::make_topics(target).await;
        }
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        let until = Instant::now() + target.lasts;
        let (request, status) = match self {
            Self::Bodies => (publish(), StatusCode::BAD_REQUEST),
            Self::Answers => (list(), StatusCode::OK),
        };
        let mut floods = JoinSet::new();
        for _ in 0..CONNECTIONS {
            floods.spawn(flood(target.address, request.clone(), status, until));
        }
        let mut sent = 0;
        for flooded in floods.join_all().await {
            sent += flooded?;
        }
        Ok(sent)
    }
}

/// Sends `request` again and again on one connection, and returns how often it was answered with `status`.
async fn flood(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    status: StatusCode,
    until: Instant,
) -> Result<u64, String> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.expect("a connection");
    tokio::spawn(connection);
    let mut sent = 0;
    let sending = async {
        loop {
            let answer = sender.send_request(request.clone()).await;
            let answer = answer.map_err(|error| error.to_string())?;
            if answer.status() != status {
                return Err(format!("it is answered {}", answer.status()));
            }
            let rest = answer.into_body().collect().await;
            rest.map_err(|error| error.to_string())?;
            sent += 1;
        }
    };
    match timeout_at(until, sending).await {
        Ok(Err::<(), _>(fault)) => Err(fault),
        Ok(Ok(())) | Err(_) => Ok(sent),
    }
}

fn publish() -> Request<Full<Bytes>> {
    let attributes: Vec<_> = (0..ATTRIBUTES).map(|at| format!(r#""{at}":"x""#)).collect();
    let message = format!(r#"{{"attributes":{{{}}}}},"#, attributes.join(","));
    let messages = message.repeat(BODY_BYTES / message.len());
    let body = format!(r#"{{"messages":[{messages}{{"data":"?"}}]}}"#);
    Request::post("/v1/projects/hostile/topics/json:publish")
        .header("host", "localhost")
        .body(Full::from(body))
        .expect("a request")
}

fn list() -> Request<Full<Bytes>> {
    let project = unread_lists::PROJECT;
    Request::get(format!("/v1/{project}/topics?pageSize=1000"))
        .header("host", "localhost")
        .header("accept-encoding", "gzip")
        .body(Full::default())
        .expect("a request")
}
