//! Calls of an RPC that does not exist, twenty at once, one after the other, on one connection, which is not to end.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use tonic::Code;

use crate::{Attack, Target, raw};

const AT_ONCE: usize = 20;
const PATH: &str = "/google.pubsub.v1.Publisher/Fly";

/// See the module.
pub(crate) struct UnservedCalls;

#[async_trait]
impl Attack for UnservedCalls {
    fn name(&self) -> &'static str {
        "unserved calls"
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        let channel = target.channel().await;
        let body = Bytes::from(raw::frame(0, b""));
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < target.lasts {
            let calls = (0..AT_ONCE).map(|_| raw::call(&channel, PATH, None, body.clone()));
            for (status, _) in join_all(calls).await {
                if status.code() != Code::Unimplemented {
                    return Err(format!("{PATH} answered {status}"));
                }
            }
            sent += AT_ONCE as u64;
        }
        Ok(sent)
    }
}
