//! Ten kilobytes of gzip that decode into one text of ten megabytes: a name, a filter, what is not known. Twenty such
//! requests at once, of one kind after the other.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use prost::encoding::encode_varint;
use tonic::Code;

use crate::{Attack, Target, figures::Limits, raw};

/// With what is around it a little less than the largest request.
const TEXT_BYTES: usize = 10_000_000;
const AT_ONCE: usize = 20;

/// An RPC, the number of the field, and what is repeated in it.
const KINDS: [(&str, u8, &str); 4] = [
    ("/google.pubsub.v1.Publisher/GetTopic", 1, "a"),
    ("/google.pubsub.v1.Publisher/Publish", 1, "é"),
    ("/google.pubsub.v1.Subscriber/CreateSubscription", 11, "("),
    ("/google.pubsub.v1.Subscriber/Pull", 15, "a"),
];

/// See the module.
#[derive(Default)]
pub(crate) struct LargeTexts {
    requests: Vec<(&'static str, Bytes)>,
}

#[async_trait]
impl Attack for LargeTexts {
    fn name(&self) -> &'static str {
        "large texts"
    }

    fn limits(&self) -> Limits {
        Limits {
            // All twenty at once are 190, which the budget of requests counts and allows.
            growth_mib: 300,
            ..Limits::default()
        }
    }

    async fn prepare(&mut self, _target: &Target) {
        let requests = KINDS.iter().map(|(path, field, part)| {
            let mut message = vec![(field << 3) | 2];
            encode_varint(TEXT_BYTES as u64, &mut message);
            message.extend_from_slice(part.repeat(TEXT_BYTES / part.len()).as_bytes());
            (*path, Bytes::from(raw::frame(1, &raw::gzip(&message))))
        });
        self.requests = requests.collect();
    }

    async fn run(&mut self, target: &Target) -> Result<u64, String> {
        let channel = target.channel().await;
        let start = Instant::now();
        let mut sent = 0;
        for (path, body) in self.requests.iter().cycle() {
            let calls = (0..AT_ONCE).map(|_| raw::call(&channel, path, Some("gzip"), body.clone()));
            for (status, _) in join_all(calls).await {
                if status.code() != Code::InvalidArgument {
                    return Err(format!("{path} answered {status}"));
                }
            }
            sent += AT_ONCE as u64;
            if start.elapsed() >= target.lasts {
                break;
            }
        }
        Ok(sent)
    }
}
