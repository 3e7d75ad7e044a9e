//! Asks whether watched topics have more partitions than they had, or other leaders, or are gone.
//!
//! A new leader may have fewer records than the one before it. The consumer finds that out where it reads, and partitions
//! to which this node alone appends are not read: so records are compared.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::{sync::mpsc, time::Instant};

use super::super::{
    admin::cluster::Leader,
    append::producer::{self, Producer},
    known::KnownTopic,
    read::readers::Readers,
};
use super::{
    check::{self, Found},
    follower::Command,
    head::Head,
};
use crate::{limits::COMPARED_PARTITIONS_MAX, store::StoreError};

/// Watched topics up to which each is asked about alone.
const ASKED_ALONE_MAX: usize = 16;
/// Asking about all topics that there are takes one part in so many of the time at most.
const ASKING_SHARE: u32 = 20;
/// Longest pause after that.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Tells the follower what there is now of each topic. Returns how long to wait until they are asked about again.
pub(in crate::store::kafka) async fn check(
    head: Arc<Head>,
    readers: Arc<Readers>,
    producer: Arc<Producer>,
    topics: Vec<Arc<KnownTopic>>,
    commands: mpsc::Sender<Command>,
) -> Duration {
    let cluster = &readers.cluster;
    let mut pause = Duration::ZERO;
    let mut found = HashMap::new();
    if topics.len() > ASKED_ALONE_MAX {
        let started = Instant::now();
        let all = cluster.all_leaders().await;
        pause = pause_after(started.elapsed());
        match all {
            Ok(all) => found = all,
            Err(error) => {
                tracing::warn!(%error, "watched topics could not be asked about");
                return pause;
            }
        }
    }
    // What an answer leaves out may be gone. One that leaves out many says more of the broker than of them.
    let missing = topics
        .iter()
        .filter(|topic| !found.contains_key(&topic.name));
    let missing: Vec<_> = missing.take(ASKED_ALONE_MAX).collect();
    for topic in missing {
        match cluster.leaders(&topic.name).await {
            Ok(leaders) => {
                found.insert(topic.name.clone(), leaders);
            }
            Err(StoreError::NoSuchLog) => {
                let gone = Command::Forget(topic.incarnation);
                commands.send(gone).await.ok();
            }
            Err(_) => {}
        }
    }
    let mut with_other_leaders = Vec::new();
    for topic in &topics {
        if let Some(leaders) = found.get(&topic.name) {
            let count = leaders.len() as u32;
            producer::load_more_partitions(&producer, topic, count).await;
            let counted = Command::Grown(topic.incarnation, count);
            commands.send(counted).await.ok();
            if topic.has_other_leaders(leaders) {
                with_other_leaders.push((topic, leaders));
            } else {
                topic.led_by(leaders);
            }
        }
    }
    compare(&head, &readers, with_other_leaders, &commands).await;
    pause
}

/// Tells the follower which of these topics do not have what was read of them last.
async fn compare(
    head: &Head,
    readers: &Readers,
    with_other_leaders: Vec<(&Arc<KnownTopic>, &Vec<Leader>)>,
    commands: &mpsc::Sender<Command>,
) {
    let compared = with_other_leaders.into_iter().map(|(topic, leaders)| {
        let compared = async move {
            match check::is_lost(head, readers, topic).await {
                Ok(true) => {
                    let lost = Command::Checked(topic.incarnation, Ok(Found::Lost));
                    commands.send(lost).await.ok();
                }
                Ok(false) => topic.led_by(leaders),
                // The next time.
                Err(_) => {}
            }
        };
        compared.boxed()
    });
    let compared: Vec<_> = compared.collect();
    let mut compared = stream::iter(compared).buffer_unordered(COMPARED_PARTITIONS_MAX);
    while compared.next().await.is_some() {}
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
