//! Checksums of a subscription's rows: a flipped bit must not pass for messages that are done, or that are not.

use crate::{
    engine::change::{RetainedRow, StoredChunk},
    resource::id::SubscriptionId,
    store::log::{Offset, Partition},
};

pub(super) fn position_checksum(
    subscription: SubscriptionId,
    partition: Partition,
    generation: u32,
    cursor: Offset,
) -> u32 {
    checksum(
        &[subscription.0, partition.into(), generation.into(), cursor],
        &[],
    )
}

pub(super) fn chunk_checksum(
    subscription: SubscriptionId,
    partition: Partition,
    generation: u32,
    chunk: &StoredChunk,
) -> u32 {
    let numbers = [
        subscription.0,
        partition.into(),
        generation.into(),
        chunk.index,
        chunk.done_after,
    ];
    checksum(&numbers, &chunk.body)
}

pub(super) fn retained_checksum(
    subscription: SubscriptionId,
    partition: Partition,
    generation: u32,
    row: &RetainedRow,
) -> u32 {
    let numbers = [
        subscription.0,
        partition.into(),
        generation.into(),
        row.key,
        row.until.as_millis(),
    ];
    checksum(&numbers, &row.body)
}

fn checksum(numbers: &[u64], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(body);
    hasher.finalize()
}

pub(super) fn check(
    subscription: SubscriptionId,
    stored: u32,
    expected: u32,
) -> Result<(), sqlx::Error> {
    if stored == expected {
        return Ok(());
    }
    let text = format!(
        "what is stored of subscription {} does not match its checksum; restore the data directory from a backup, \
         or delete the subscription",
        subscription.0
    );
    Err(sqlx::Error::Decode(text.into()))
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::super::open;
    use crate::{
        clock::{Clock, Timestamp},
        store::{
            Positions as _, StoreError,
            contract::positions::{acquire, change, one_subscription},
            positions::Flush,
        },
    };

    #[tokio::test]
    async fn a_changed_or_missing_row_of_a_subscription_is_damage_and_never_another_state() {
        for damage in [
            "UPDATE positions SET cursor = cursor + 1",
            "UPDATE positions SET generation = generation + 1",
            "DELETE FROM positions",
            "UPDATE chunks SET done_after = done_after + 1",
            "UPDATE chunks SET chunk = chunk + 1",
            "UPDATE chunks SET body = x'00'",
            "DELETE FROM owners",
        ] {
            let directory = tempdir().expect("a directory");
            let (clock, _hand) = Clock::manual(Timestamp::from_millis(1_000_000));
            let (_log, state, _lock) = open(directory.path(), clock).await.expect("open");
            let subscription = one_subscription(&state).await;
            let owner = acquire(&state, subscription).await;
            let put = vec![crate::engine::change::StoredChunk {
                index: 1,
                done_after: 2,
                body: bytes::Bytes::from_static(b"body"),
            }];
            let flush = Flush {
                subscription,
                epoch: owner.epoch,
                changes: vec![change(300, put, vec![])],
            };
            state.flush(&[flush]).await.expect("flush");
            sqlx::query(damage)
                .execute(&mut *state.database.lock_writer().await.expect("writer"))
                .await
                .expect(damage);
            let acquired = state.acquire(subscription).await;
            assert!(matches!(acquired, Err(StoreError::Damaged(_))), "{damage}");
        }
    }
}
