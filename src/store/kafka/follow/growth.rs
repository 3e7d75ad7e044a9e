//! Asks whether watched topics have more partitions than they had, or are gone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use super::super::{
    admin::cluster::Cluster,
    append::producer::{self, Producer},
    known::KnownTopic,
};
use super::follower::Command;
use crate::store::StoreError;

/// Watched topics up to which each is asked about alone.
const ASKED_ALONE_MAX: usize = 16;
/// Asking about all topics that there are takes one part in so many of the time at most.
const ASKING_SHARE: u32 = 20;
/// Longest pause after that.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Tells the follower what there is now of each topic. Returns how long to wait until they are asked about again.
pub(in crate::store::kafka) async fn check(
    cluster: Cluster,
    producer: Arc<Producer>,
    topics: Vec<Arc<KnownTopic>>,
    commands: mpsc::Sender<Command>,
) -> Duration {
    let mut pause = Duration::ZERO;
    let mut counted = HashMap::new();
    if topics.len() > ASKED_ALONE_MAX {
        let started = Instant::now();
        let all = cluster.all_partitions().await;
        pause = pause_after(started.elapsed());
        match all {
            Ok(all) => counted = all,
            Err(error) => {
                tracing::warn!(%error, "watched topics could not be asked about");
                return pause;
            }
        }
    }
    // What an answer leaves out may be gone. One that leaves out many says more of the broker than of them.
    let missing = topics
        .iter()
        .filter(|topic| !counted.contains_key(&topic.name));
    let missing: Vec<_> = missing.take(ASKED_ALONE_MAX).collect();
    for topic in missing {
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
    for topic in &topics {
        if let Some(&count) = counted.get(&topic.name) {
            producer::load_more_partitions(&producer, topic, count).await;
            let counted = Command::Grown(topic.incarnation, count);
            commands.send(counted).await.ok();
        }
    }
    pause
}

/// The answer has all topics of the cluster in it, whatever is watched.
fn pause_after(asking: Duration) -> Duration {
    (asking * ASKING_SHARE).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_takes_long_is_asked_for_less_often() {
        let millis = Duration::from_millis;
        assert_eq!(pause_after(millis(9)), millis(180));
        assert_eq!(pause_after(millis(500)), millis(10_000));
        assert_eq!(pause_after(millis(5_000)), PAUSE_MAX);
    }
}
