//! Publishing over REST as fast as answers come; then everything is received and counted.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::ensure;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::Method;
use packetboat::proto::google::pubsub::v1::{
    AcknowledgeRequest, PubsubMessage, PullRequest, subscriber_client::SubscriberClient,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Bench, Report, Sample,
    client::{Connection, grpc_channel},
};

/// As `packetboat bench publish` has it.
const IN_FLIGHT: usize = 32;
const BATCH: usize = 100;
const SIZE: usize = 1024;
/// Time before the measurement, for connections and buffers to grow.
const WARM_UP: Duration = Duration::from_millis(500);
const ANSWER_BYTES_MAX: usize = 20 * 1024 * 1024;

/// What publishers share.
#[derive(Debug, Default)]
struct Progress {
    published: AtomicU64,
    stop: AtomicBool,
}

pub(crate) async fn measure(bench: &Arc<Bench>) -> anyhow::Result<Report> {
    let progress = Arc::new(Progress::default());
    let body = request();
    let mut publishers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let connection = Connection::open(&bench.address).await?;
        let path = format!("/v1/{}:publish", bench.names.topic);
        let publishing = publish(connection, path, body.clone(), Arc::clone(&progress));
        publishers.spawn(publishing);
    }
    sleep(WARM_UP).await;
    let start = Sample::take(bench, &progress.published);
    sleep(bench.seconds).await;
    let end = Sample::take(bench, &progress.published);
    progress.stop.store(true, Relaxed);
    while let Some(ended) = publishers.join_next().await {
        ended??;
    }
    let published = progress.published.load(Relaxed);
    let received = receive(bench, published).await?;
    let (seconds, messages) = ((end.at - start.at).as_secs_f64(), end.count - start.count);
    let cpu = end.cpu_micros.zip(start.cpu_micros);
    Ok(Report {
        load: "rest-publish",
        batch: BATCH,
        size: SIZE,
        seconds,
        published,
        received: Some(received),
        messages_per_second: messages as f64 / seconds,
        void: received != published,
        server_cpu_micros_per_message: cpu
            .map(|(end, start)| (end - start) as f64 / messages as f64),
        ..Report::default()
    })
}

/// Each message has other bytes, as those of `packetboat bench` do.
fn request() -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    });
    let messages: Vec<_> = (0..BATCH)
        .map(|_| {
            let data: Vec<u8> = noise.by_ref().take(SIZE).collect();
            json!({"data": STANDARD.encode(data)})
        })
        .collect();
    json!({"messages": messages}).to_string().into()
}

async fn publish(
    mut connection: Connection,
    path: String,
    body: Bytes,
    progress: Arc<Progress>,
) -> anyhow::Result<()> {
    while !progress.stop.load(Relaxed) {
        let answer = connection.call(Method::POST, &path, body.clone()).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let ids = answer["messageIds"].as_array().map_or(0, Vec::len);
        ensure!(ids == BATCH, "{ids} ids for {BATCH} messages");
        progress.published.fetch_add(BATCH as u64, Relaxed);
    }
    Ok(())
}

/// How many different messages there are, up to `published`.
async fn receive(bench: &Bench, published: u64) -> anyhow::Result<u64> {
    let subscriber = SubscriberClient::new(grpc_channel(bench).await?);
    let mut subscriber = subscriber.max_decoding_message_size(ANSWER_BYTES_MAX);
    let mut seen = HashSet::new();
    while (seen.len() as u64) < published {
        let pull = PullRequest {
            subscription: bench.names.subscription.clone(),
            max_messages: 1000,
            ..PullRequest::default()
        };
        let answer = subscriber.pull(pull).await?.into_inner();
        if answer.received_messages.is_empty() {
            break;
        }
        let mut ack_ids = Vec::with_capacity(answer.received_messages.len());
        for received in answer.received_messages {
            ack_ids.push(received.ack_id);
            seen.insert(PubsubMessage::decode(received.message)?.message_id);
        }
        let acknowledge = AcknowledgeRequest {
            subscription: bench.names.subscription.clone(),
            ack_ids,
        };
        subscriber.acknowledge(acknowledge).await?;
    }
    Ok(seen.len() as u64)
}
