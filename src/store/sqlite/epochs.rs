//! Raises the epochs of subscriptions that are taken over, those that come together in one transaction: after a restart
//! they are many, and each commit holds up the acknowledgements of all others.

use std::{collections::BTreeMap, mem};

use parking_lot::Mutex;
use sqlx::{Connection as _, Row as _, SqliteConnection};
use tokio::sync::oneshot;

use super::{database::Database, state::write_failed};
use crate::{
    limits::TAKE_OVERS_PER_COMMIT_MAX,
    resource::id::SubscriptionId,
    store::{
        StoreError,
        rows::{from_sql, to_json, to_sql},
    },
};

/// The new epoch; nothing when the subscription has no owner row.
type Raised = Result<Option<u64>, StoreError>;

/// Those that wait for the writer.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    waiting: Mutex<Vec<(SubscriptionId, oneshot::Sender<Raised>)>>,
}

impl Epochs {
    /// Raises the epoch of a subscription. Returns when that is durable.
    pub(super) async fn raise(&self, database: &Database, subscription: SubscriptionId) -> Raised {
        let (reply, mut raised) = oneshot::channel();
        self.waiting.lock().push((subscription, reply));
        loop {
            // The first with the writer does it for all; the others have their answers before their turn.
            let mut connection = tokio::select! {
                biased;
                raised = &mut raised => {
                    return raised.unwrap_or_else(|_| Err(abandoned()));
                }
                connection = database.writer() => connection?,
            };
            let group = self.take();
            let ids = group.keys().copied().collect::<Vec<_>>();
            let raised = raise_all(&mut connection, &ids)
                .await
                .map_err(|error| write_failed(database, &mut connection, &error));
            // The next one with the writer finds its own answer there.
            for (id, reply) in group {
                let raised = raised.as_ref().map(|epochs| epochs.get(&id).copied());
                // A caller that does not wait any more has started nothing.
                drop(reply.send(raised.map_err(Clone::clone)));
            }
        }
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Those who are next, each subscription once: two epochs must not be the same.
    fn take(&self) -> BTreeMap<SubscriptionId, oneshot::Sender<Raised>> {
        let mut waiting = self.waiting.lock();
        let mut group = BTreeMap::new();
        for (id, reply) in mem::take(&mut *waiting) {
            if group.len() >= TAKE_OVERS_PER_COMMIT_MAX || group.contains_key(&id) {
                waiting.push((id, reply));
            } else if !reply.is_closed() {
                group.insert(id, reply);
            }
        }
        group
    }
}

/// The caller that did the work went away in the middle of it.
fn abandoned() -> StoreError {
    StoreError::Uncertain("a take-over was interrupted".to_owned())
}

async fn raise_all(
    connection: &mut SqliteConnection,
    subscriptions: &[SubscriptionId],
) -> Result<BTreeMap<SubscriptionId, u64>, sqlx::Error> {
    if subscriptions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<_> = subscriptions.iter().map(|id| to_sql(id.0)).collect();
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let rows = sqlx::query(
        "UPDATE owners SET epoch = epoch + 1 WHERE subscription IN (SELECT value FROM json_each(?))
        RETURNING subscription, epoch",
    )
    .bind(to_json(&ids)?)
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    rows.iter()
        .map(|row| {
            let id = SubscriptionId(from_sql(row.try_get(0)?));
            Ok((id, from_sql(row.try_get(1)?)))
        })
        .collect()
}
