//! More connections that say nothing, or half of what HTTP/2 begins with, than the server may have descriptors. Somebody
//! who connects then is to be served all the same.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::Code;

use crate::{Attack, Target, raw};

const DESCRIPTORS: u32 = 1024;
const SOCKETS: usize = 1100;
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct SilentSockets;

#[async_trait]
impl Attack for SilentSockets {
    fn name(&self) -> &'static str {
        "silent sockets"
    }

    fn descriptors(&self) -> Option<u32> {
        Some(DESCRIPTORS)
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        packetboat::descriptors::raise();
        let start = Instant::now();
        let mut sockets = Vec::new();
        for number in 0..SOCKETS {
            let socket = TcpStream::connect(target.address).await;
            let mut socket = socket.map_err(|error| format!("cannot connect: {error}"))?;
            if number % 2 == 0 {
                socket.write_all(b"PRI * HTTP").await.ok();
            }
            sockets.push(socket);
        }
        while start.elapsed() < target.lasts {
            let served = async {
                let channel = target.channel().await;
                let check = Bytes::from(raw::frame(0, b""));
                raw::call(&channel, "/grpc.health.v1.Health/Check", None, check).await
            };
            let served = timeout(PATIENCE, served).await;
            let (status, _) = served.map_err(|_| "a new connection is not served".to_owned())?;
            if status.code() != Code::Ok {
                return Err(format!("a new connection is answered {status}"));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(SOCKETS as u64)
    }
}
