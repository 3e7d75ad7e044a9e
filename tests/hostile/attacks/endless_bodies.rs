//! One connection with a thousand requests whose bodies never end, which together hold what all may. Others are to be
//! served, and it is to hold its own share only.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tonic::Code;

use super::unfinished;
use crate::{Attack, Target, figures::Limits, is_long, raw};

const REQUESTS: usize = 1000;
/// Of a request from another connection.
const LARGE_BYTES: usize = 200 * 1024;

/// See the module.
pub(crate) struct EndlessBodies;

#[async_trait]
impl Attack for EndlessBodies {
    fn name(&self) -> &'static str {
        "endless bodies"
    }

    fn limits(&self) -> Limits {
        Limits {
            // The share of a connection is 128.
            growth_mib: 300,
            p99: Duration::from_millis(500),
            ..Limits::default()
        }
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        // Beside these, 1 GiB is what all may hold.
        let bytes = if is_long() { 1_200_000 } else { 300_000 };
        let open = unfinished::open(target, 1, REQUESTS, bytes).await;
        let channel = target.channel().await;
        // A message of one field that no message has, without an end.
        let large = Bytes::from(raw::frame(0, &vec![0x7a; LARGE_BYTES]));
        let path = "/google.pubsub.v1.Publisher/Publish";
        let (status, _) = raw::call(&channel, path, None, large).await;
        drop(open);
        match status.code() {
            Code::InvalidArgument => Ok(REQUESTS as u64),
            _ => Err(format!("a large request is answered {status}")),
        }
    }
}
