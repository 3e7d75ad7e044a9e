//! Asks whether watched topics have more partitions than they had, or are gone.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::mpsc;

use super::super::{
    admin::cluster::Cluster,
    append::producer::{self, Producer},
    known::KnownTopic,
};
use super::follower::Command;
use crate::store::StoreError;

/// Watched topics up to which each is asked about alone.
const ASKED_ALONE_MAX: usize = 16;

/// Tells the follower what there is now of each topic.
pub(in crate::store::kafka) async fn check(
    cluster: Cluster,
    producer: Arc<Producer>,
    topics: Vec<Arc<KnownTopic>>,
    commands: mpsc::Sender<Command>,
) {
    let counted = if topics.len() > ASKED_ALONE_MAX {
        cluster.all_partitions().await
    } else {
        let mut counted = HashMap::new();
        for topic in &topics {
            match cluster.partitions(&topic.name).await {
                Ok(count) => {
                    counted.insert(topic.name.clone(), count);
                }
                Err(StoreError::NoSuchLog) => {
                    let gone = Command::Forget(topic.incarnation);
                    commands.send(gone).await.ok();
                }
                Err(_) => {}
            }
        }
        Ok(counted)
    };
    let counted = match counted {
        Ok(counted) => counted,
        Err(error) => {
            tracing::warn!(%error, "watched topics could not be asked about");
            return;
        }
    };
    for topic in &topics {
        if let Some(&count) = counted.get(&topic.name) {
            producer::load_more_partitions(&producer, topic, count).await;
            let counted = Command::Grown(topic.incarnation, count);
            commands.send(counted).await.ok();
        }
    }
}
