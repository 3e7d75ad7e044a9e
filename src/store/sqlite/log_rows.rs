//! A row of the log's file: its body, and where a topic's rows end.

use bytes::{Buf as _, Bytes};
use sqlx::{Row as _, SqliteConnection};

use crate::{
    clock::Timestamp,
    resource::id::TopicIncarnation,
    store::{
        log::Offset,
        rows::{from_sql, to_sql},
    },
};

/// The only partition that a topic has here.
pub(super) const PARTITION: u32 = 0;

/// Where a topic's log begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Where its first batch lies; its end when there is none.
    pub(super) start: Offset,
    /// Where the next batch goes.
    pub(super) end: Offset,
    /// The publish time of the last batch that there ever was.
    pub(super) last_time: Timestamp,
}

/// Reads where a topic's log begins and ends; `None` when it does not exist.
pub(super) async fn read_head(
    connection: &mut SqliteConnection,
    topic: TopicIncarnation,
) -> Result<Option<Head>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT
            max(trimmed_end, coalesce((
                SELECT base + count FROM batches WHERE topic = ?1 AND partition = ?2 ORDER BY base DESC LIMIT 1
            ), 0)),
            max(trimmed_time, coalesce((
                SELECT publish_time FROM batches WHERE topic = ?1 AND partition = ?2 ORDER BY base DESC LIMIT 1
            ), 0)),
            (SELECT base FROM batches WHERE topic = ?1 AND partition = ?2 ORDER BY base LIMIT 1)
        FROM logs WHERE topic = ?1",
    )
    .bind(to_sql(topic.0))
    .bind(PARTITION)
    .fetch_optional(connection)
    .await?;
    row.map(|row| {
        let end = from_sql(row.try_get(0)?);
        Ok(Head {
            start: row.try_get::<Option<i64>, _>(2)?.map_or(end, from_sql),
            end,
            last_time: Timestamp::from_millis(from_sql(row.try_get(1)?)),
        })
    })
    .transpose()
}

/// What a row's body needs for `messages`, bytes.
pub(super) fn body_bytes(messages: &[Bytes]) -> usize {
    messages
        .iter()
        .map(|message| LENGTH_BYTES + message.len())
        .sum()
}

/// Puts messages one behind another, each behind its length.
pub(super) fn encode_body(messages: &[Bytes]) -> Vec<u8> {
    let mut body = Vec::with_capacity(body_bytes(messages));
    for message in messages {
        body.extend_from_slice(&(message.len() as u32).to_le_bytes());
        body.extend_from_slice(message);
    }
    body
}

/// Takes a body apart without copying; `None` when it is not `count` whole messages.
pub(super) fn decode_body(mut body: Bytes, count: usize) -> Option<Vec<Bytes>> {
    // The count is of a row that may be damaged, so it must not decide how much memory is taken.
    let mut messages = Vec::with_capacity(count.min(body.len() / LENGTH_BYTES));
    while body.len() >= LENGTH_BYTES {
        let length = body.get_u32_le() as usize;
        if length > body.len() {
            return None;
        }
        messages.push(body.split_to(length));
    }
    (body.is_empty() && messages.len() == count).then_some(messages)
}

const LENGTH_BYTES: usize = size_of::<u32>();
