//! `packetboat topics`: gives Pub/Sub names to Kafka topics that exist, and takes them away.

use std::{process::ExitCode, time::Duration};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{client::Server, print};
use crate::proto::packetboat::admin::v1::{
    AttachTopicRequest, DetachTopicRequest, admin_client::AdminClient,
};

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Give Kafka topics that exist a Pub/Sub name.
///
/// A running server does it.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put a Pub/Sub name on an existing Kafka topic
    ///
    /// The Kafka topic is never deleted or reconfigured. Subscriptions begin at its end.
    Attach {
        /// The Pub/Sub name: projects/PROJECT/topics/TOPIC
        topic: String,
        /// The Kafka topic's own name
        #[arg(long, value_name = "NAME")]
        kafka_topic: String,
    },
    /// Take the Pub/Sub name from a Kafka topic that was attached
    ///
    /// The Kafka topic stays as it is; subscriptions stay and deliver what they have.
    Detach {
        /// The Pub/Sub name: projects/PROJECT/topics/TOPIC
        topic: String,
    },
}

/// Asks the server for it.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow!("cannot start: {error}"))?;
    runtime.block_on(act(arguments))
}

async fn act(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut client = connect(&arguments.server.addr).await?;
    let done = match arguments.action {
        Action::Attach { topic, kafka_topic } => {
            let request = AttachTopicRequest { topic, kafka_topic };
            let attached = client
                .attach_topic(request)
                .await
                .map_err(|status| refused(&status))?;
            let attached = attached.into_inner();
            format!(
                "{} stands for the Kafka topic {} ({} partitions)\n",
                attached.topic, attached.kafka_topic, attached.partitions
            )
        }
        Action::Detach { topic } => {
            let request = DetachTopicRequest {
                topic: topic.clone(),
            };
            client
                .detach_topic(request)
                .await
                .map_err(|status| refused(&status))?;
            format!("{topic} is detached; its Kafka topic stays as it is\n")
        }
    };
    print(&done);
    Ok(ExitCode::SUCCESS)
}

async fn connect(addr: &str) -> anyhow::Result<AdminClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .map_err(|_| anyhow!("{addr:?} is not an address: it is HOST:PORT"))?;
    let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
    match endpoint.connect().await {
        Ok(channel) => Ok(AdminClient::new(channel)),
        Err(_) => Err(anyhow!(
            "no server answers at {addr}; start one with `packetboat serve`, or name it with --addr"
        )),
    }
}

fn refused(status: &Status) -> anyhow::Error {
    match status.code() {
        Code::Unimplemented => anyhow!("the server is not a Packetboat that can do this"),
        code => anyhow!("{code:?}: {}", status.message()),
    }
}
