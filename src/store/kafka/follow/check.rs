//! Asks what became of followed topics, because somewhere reading failed and the client does not say where.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::{known::KnownTopic, read::readers::Readers, read::wanted::Wanted};
use super::{follower::Command, head::Head};
use crate::store::{StoreError, log::Offset};

/// What became of a partition.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::kafka) struct Checked {
    /// Where it ended before it was asked about, as far as was read.
    known: Offset,
    /// Where it ends now.
    end: Offset,
    /// Where reading goes on: there, or behind what was deleted or is damaged.
    pub(in crate::store::kafka) goes_on: Offset,
}

impl Checked {
    /// Whether nothing is to be read that was not.
    pub(in crate::store::kafka) fn is_as_it_was(&self) -> bool {
        self.known == self.end
    }

    /// Whether it ends before what was read of it.
    pub(in crate::store::kafka) fn has_lost(&self) -> bool {
        self.end < self.known
    }
}

/// Tells the follower what became of each topic.
pub(in crate::store::kafka) async fn topics(
    head: Arc<Head>,
    readers: Arc<Readers>,
    topics: Vec<Arc<KnownTopic>>,
    commands: mpsc::Sender<Command>,
) {
    for topic in topics {
        let checked = check(&head, &readers, &topic).await;
        let checked = Command::Checked(topic.incarnation, checked);
        commands.send(checked).await.ok();
    }
    commands.send(Command::AllChecked).await.ok();
}

async fn check(
    head: &Head,
    readers: &Readers,
    topic: &KnownTopic,
) -> Result<Vec<Checked>, StoreError> {
    // Before the brokers are asked: what this node appends meanwhile is no loss.
    let ends = head.tail.ends(topic.incarnation).unwrap_or_default();
    let bounds = readers.cluster.bounds(&topic.name).await?;
    let mut checked = Vec::with_capacity(ends.len());
    for (known, bounds) in ends.into_iter().zip(bounds) {
        let from = known.clamp(bounds.start, bounds.end);
        let mut goes_on = from;
        if from < bounds.end {
            let unread = Wanted {
                topic: topic.name.clone(),
                partition: bounds.partition,
                range: from..bounds.end,
                bytes_max: 0,
                end: bounds.end,
            };
            goes_on = readers.skip_damage(unread).await?;
        }
        checked.push(Checked {
            known,
            end: bounds.end,
            goes_on,
        });
    }
    Ok(checked)
}
