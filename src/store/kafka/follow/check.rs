//! Asks what became of followed topics, because somewhere reading failed and the client does not say where.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::{known::KnownTopic, read::readers::Readers, read::wanted::Wanted};
use super::{follower::Command, head::Head};
use crate::store::{
    StoreError,
    log::{Comparison, Offset},
};

/// What became of a partition.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::kafka) struct Checked {
    /// Where it ended before it was asked about, as far as was read.
    known: Offset,
    /// Where it ends now.
    end: Offset,
    /// Where reading goes on: there, or behind what was deleted or is damaged.
    pub(in crate::store::kafka) goes_on: Offset,
    /// Whether a record of it was compared with what it was.
    is_verified: bool,
}

impl Checked {
    /// Whether nothing is to be read that was not.
    pub(in crate::store::kafka) fn is_as_it_was(&self) -> bool {
        self.known == self.end
    }

    /// Whether reading goes on elsewhere than where it was.
    fn has_moved(&self) -> bool {
        self.known != self.goes_on
    }
}

/// Whether a topic has lost records, or was made again: one of its partitions ends before where it ended, or is not
/// there any more.
pub(in crate::store::kafka) fn have_fallen(before: &[Offset], now: &[Offset]) -> bool {
    now.len() < before.len() || before.iter().zip(now).any(|(before, now)| now < before)
}

/// What became of a topic.
#[derive(Debug)]
pub(in crate::store::kafka) enum Found {
    /// Its partitions are there with everything that was known of them.
    Partitions(Vec<Checked>),
    /// It has lost records, or was made again.
    Lost,
}

/// Tells the follower what became of each topic. `is_odd`: what could not be read was where it had been before.
pub(in crate::store::kafka) async fn topics(
    head: Arc<Head>,
    readers: Arc<Readers>,
    topics: Vec<Arc<KnownTopic>>,
    is_odd: bool,
    commands: mpsc::Sender<Command>,
) {
    let mut is_explained = !is_odd;
    let mut unverified = Vec::new();
    for topic in topics {
        let checked = check(&head, &readers, &topic).await;
        match &checked {
            Ok(Found::Partitions(partitions)) => {
                is_explained |= partitions.iter().any(Checked::has_moved);
                if !partitions.iter().all(|partition| partition.is_verified) {
                    unverified.push(Arc::clone(&topic));
                }
            }
            Ok(Found::Lost) | Err(_) => is_explained = true,
        }
        let checked = Command::Checked(topic.incarnation, checked);
        commands.send(checked).await.ok();
    }
    if !is_explained {
        for topic in unverified {
            tracing::warn!(
                topic = %topic.name,
                "a topic has changed, perhaps this one: what is known of it is compared with it"
            );
            let lost = Command::Checked(topic.incarnation, Ok(Found::Lost));
            commands.send(lost).await.ok();
        }
    }
    commands.send(Command::AllChecked).await.ok();
}

/// Whether a topic does not have what was read of it last.
pub(super) async fn is_lost(
    head: &Head,
    readers: &Readers,
    topic: &KnownTopic,
) -> Result<bool, StoreError> {
    Ok(matches!(check(head, readers, topic).await?, Found::Lost))
}

/// What became of a topic.
async fn check(head: &Head, readers: &Readers, topic: &KnownTopic) -> Result<Found, StoreError> {
    // Before the brokers are asked: what this node appends meanwhile is no loss.
    let ends = head.tail.ends(topic.incarnation).unwrap_or_default();
    let last = head.tail.last_records(topic.incarnation);
    let bounds = readers.cluster.bounds(&topic.name).await?;
    let now: Vec<_> = bounds.iter().map(|bounds| bounds.end).collect();
    if have_fallen(&ends, &now) {
        tracing::error!(
            topic = %topic.name, ended = ?ends, ends = ?now,
            "Kafka has lost records that were there before, or the topic was made again: what is known of them is void"
        );
        return Ok(Found::Lost);
    }
    let mut checked = Vec::with_capacity(ends.len());
    for (known, bounds) in ends.into_iter().zip(bounds) {
        let wanted = |range| Wanted {
            topic: topic.name.clone(),
            partition: bounds.partition,
            range,
            bytes_max: 0,
            end: bounds.end,
        };
        let last = last.iter().find(|last| {
            last.partition == bounds.partition && (bounds.start..bounds.end).contains(&last.offset)
        });
        if let Some(last) = last {
            let read = readers.read(wanted(last.offset..last.offset + 1)).await;
            if last.compare(read)? == Comparison::Other {
                tracing::error!(
                    topic = %topic.name, partition = last.partition, offset = last.offset,
                    "Kafka has another record than it had: it has lost records, or the topic was made again. What is \
                     known of it is void"
                );
                return Ok(Found::Lost);
            }
        }
        let from = known.clamp(bounds.start, bounds.end);
        let mut goes_on = from;
        if from < bounds.end {
            goes_on = readers.skip_damage(wanted(from..bounds.end)).await?;
        }
        checked.push(Checked {
            known,
            end: bounds.end,
            goes_on,
            is_verified: last.is_some(),
        });
    }
    Ok(Found::Partitions(checked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_fell_and_a_partition_that_is_gone_are_losses() {
        for (before, now, lost) in [
            (&[][..], &[5][..], false),
            (&[5, 5], &[5, 9], false),
            (&[5, 5], &[5, 5, 0], false),
            (&[5, 5], &[9, 4], true),
            (&[5, 0], &[9], true),
        ] {
            assert_eq!(have_fallen(before, now), lost, "{before:?} {now:?}");
        }
    }
}
