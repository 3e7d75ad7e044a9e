//! The same small call over REST and over gRPC, each on one connection, alternately.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use packetboat::proto::google::pubsub::v1::{GetTopicRequest, publisher_client::PublisherClient};

use crate::{
    Bench, Quantiles, Report,
    client::{Connection, grpc_channel},
};

/// Calls of each kind that are not counted.
const WARM_UP_CALLS: usize = 1000;

#[expect(clippy::disallowed_methods, reason = "real servers are measured")]
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Report> {
    let mut rest = Connection::open(&bench.address).await?;
    let mut grpc = PublisherClient::new(grpc_channel(bench).await?);
    let path = format!("/v1/{}", bench.names.topic);
    let (mut rest_times, mut grpc_times) = (Vec::new(), Vec::new());
    let mut end = None;
    while end.is_none_or(|end| Instant::now() < end) {
        if end.is_none() && rest_times.len() == WARM_UP_CALLS {
            rest_times.clear();
            grpc_times.clear();
            end = Some(Instant::now() + bench.seconds);
        }
        let began = Instant::now();
        rest.call(Method::GET, &path, Bytes::new()).await?;
        rest_times.push(began.elapsed());
        let topic = bench.names.topic.clone();
        let began = Instant::now();
        grpc.get_topic(GetTopicRequest { topic }).await?;
        grpc_times.push(began.elapsed());
    }
    let waited: Duration = rest_times.iter().sum();
    Ok(Report {
        load: "rest-call",
        seconds: waited.as_secs_f64(),
        messages_per_second: rest_times.len() as f64 / waited.as_secs_f64(),
        rest_ms: Quantiles::of(rest_times),
        grpc_ms: Quantiles::of(grpc_times),
        ..Report::default()
    })
}
