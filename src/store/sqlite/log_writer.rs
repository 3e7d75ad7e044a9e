//! The one task that writes the log's file: one commit for everything that waits, then the tail, then the answers.
//!
//! Nobody hears of an append before its commit is on the disk.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    mem,
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{
    mpsc::{self, error::TryRecvError},
    oneshot,
};

use super::{
    database::{Database, pragma_int},
    directory::DirectoryLock,
    log_delete, log_rows,
    log_rows::{Head, PARTITION},
};
use crate::{
    clock::{Clock, Timestamp},
    limits::{BATCH_BYTES_MAX, COMMIT_BYTES_MAX},
    resource::id::TopicIncarnation,
    store::{
        StoreError,
        log::{AppendedRun, Offset},
        rows::to_sql,
        tail::{Tail, TailBatch},
    },
};

/// Where an answer goes. The caller may be gone.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer can be asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Append messages, all or none.
    Append(Append),
    /// Make a topic's log.
    Create(TopicIncarnation, Reply<()>),
    /// Delete a topic's log and the first chunk of its batches. Answers whether there are more.
    Delete(TopicIncarnation, Reply<bool>),
    /// Delete the batches in these ranges, each from the base of one to the end of one.
    Trim(TopicIncarnation, Vec<Range<Offset>>, Reply<()>),
    /// Finish what was accepted and stop.
    Close,
}

/// One request of a publisher.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) topic: TopicIncarnation,
    pub(super) messages: Vec<Bytes>,
    pub(super) reply: Reply<Vec<AppendedRun>>,
}

/// Deletions that wait; while there are as many, nothing more is accepted.
const DELETIONS_WAITING_MAX: usize = 64;
/// Free pages up to this many (32 MB) are reserved for what is appended next.
const FREE_PAGES_RESERVED: i64 = 2048;
/// Passes after which free pages are given back even though requests wait.
const PASSES_PER_VACUUM: u32 = 64;

/// The task's state.
#[derive(Debug)]
pub(super) struct LogWriter {
    database: Database,
    tail: Arc<Tail>,
    clock: Clock,
    commands: mpsc::Receiver<Command>,
    deletions: VecDeque<Command>,
    heads: BTreeMap<TopicIncarnation, Head>,
    /// Topics whose last commit may or may not have happened; their ends are read from the file first.
    unsure: HashSet<TopicIncarnation>,
    vacuum_due: bool,
    passes_since_vacuum: u32,
    _directory: DirectoryLock,
}

/// A row to insert, and whom to answer when it is durable.
struct Row {
    topic: TopicIncarnation,
    batch: TailBatch,
    bytes: usize,
    callers: Vec<(AppendedRun, Reply<Vec<AppendedRun>>)>,
}

impl LogWriter {
    pub(super) fn new(
        database: Database,
        tail: Arc<Tail>,
        clock: Clock,
        commands: mpsc::Receiver<Command>,
        directory: DirectoryLock,
    ) -> Self {
        Self {
            database,
            tail,
            clock,
            commands,
            deletions: VecDeque::new(),
            heads: BTreeMap::new(),
            unsure: HashSet::new(),
            vacuum_due: true,
            passes_since_vacuum: 0,
            _directory: directory,
        }
    }

    /// Works until it is told to close, or nobody can ask for anything any more.
    pub(super) async fn run(mut self) {
        while let Some(command) = self.next().await {
            if let Some(command) = command {
                self.pass(command).await;
            }
            if let Some(deletion) = self.deletions.pop_front() {
                self.delete(deletion).await;
            }
            self.passes_since_vacuum += 1;
            if self.vacuum_due
                && (self.commands.is_empty() || self.passes_since_vacuum >= PASSES_PER_VACUUM)
            {
                self.passes_since_vacuum = 0;
                self.vacuum().await;
            }
        }
    }

    /// The next command; `Some(None)` when none waits but there is other work; `None` at the end.
    async fn next(&mut self) -> Option<Option<Command>> {
        if self.deletions.is_empty() && !self.vacuum_due {
            return self.commands.recv().await.map(Some);
        }
        match self.commands.try_recv() {
            Ok(command) => Some(Some(command)),
            Err(TryRecvError::Disconnected) if self.deletions.is_empty() => None,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Some(None),
        }
    }

    /// Takes everything that waits, up to the size of a commit, and commits it.
    async fn pass(&mut self, first: Command) {
        let wal_bytes_max = self.database.reserve().wal_bytes_max();
        let commit_bytes_max = usize::try_from(wal_bytes_max).unwrap_or(usize::MAX);
        let commit_bytes_max = commit_bytes_max.min(COMMIT_BYTES_MAX);
        let mut appends = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Append(append) => {
                    bytes += log_rows::body_bytes(&append.messages);
                    appends.push(append);
                }
                Command::Create(topic, reply) => {
                    let created = self.create(topic).await;
                    reply.send(created).ok();
                }
                Command::Close => self.commands.close(),
                deletion => self.deletions.push_back(deletion),
            }
            next = if bytes < commit_bytes_max && self.deletions.len() < DELETIONS_WAITING_MAX {
                self.commands.try_recv().ok()
            } else {
                None
            };
        }
        if !appends.is_empty() {
            self.append(appends).await;
        }
    }

    async fn create(&mut self, topic: TopicIncarnation) -> Result<(), StoreError> {
        let mut connection = self.database.writer().await?;
        sqlx::query("INSERT INTO logs (topic) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(to_sql(topic.0))
            .execute(&mut *connection)
            .await
            .map(|_| ())
            .map_err(|error| {
                connection.give_up();
                self.database.commit_failed(&error)
            })
    }

    async fn append(&mut self, appends: Vec<Append>) {
        // They were let in before the disk was full, and must not use up what is left for acknowledging.
        if let Some(text) = self.database.reserve().shortage() {
            for append in appends {
                append.reply.send(Err(StoreError::Full(text.clone()))).ok();
            }
            return;
        }
        let mut rows = Vec::new();
        let mut topics = 0;
        for (topic, appends) in by_topic(appends) {
            match self.head(topic).await {
                Ok(head) => {
                    topics += 1;
                    assign_offsets(topic, head, self.clock.now(), appends, &mut rows);
                }
                Err(error) => {
                    for append in appends {
                        append.reply.send(Err(error.clone())).ok();
                    }
                }
            }
        }
        match self.commit(&rows).await {
            Err(StoreError::Damaged(_)) if topics > 1 => {
                // One topic's damaged page must not fail what is appended to the others.
                while !rows.is_empty() {
                    let topic = rows[0].topic;
                    let others = rows.iter().take_while(|row| row.topic == topic).count();
                    let others = rows.split_off(others);
                    let committed = self.commit(&rows).await;
                    self.answer(mem::replace(&mut rows, others), committed);
                }
            }
            committed => self.answer(rows, committed),
        }
    }

    /// Where the topic's log ends.
    async fn head(&mut self, topic: TopicIncarnation) -> Result<Head, StoreError> {
        if let Some(head) = self.heads.get(&topic) {
            return Ok(*head);
        }
        let mut connection = self.database.writer().await?;
        let head = log_rows::read_head(&mut connection, topic)
            .await
            .map_err(|error| {
                connection.give_up();
                self.database.failed(&error)
            })?
            .ok_or(StoreError::NoSuchLog)?;
        if self.unsure.remove(&topic) {
            self.tail.restart(topic, &[head.end]);
        }
        self.heads.insert(topic, head);
        Ok(head)
    }

    async fn commit(&self, rows: &[Row]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut connection = self.database.writer().await?;
        let committed = self.commit_on(&mut connection, rows).await;
        if committed.is_err() {
            // The failure left the connection in an unknown state, so the next pass gets a new one.
            connection.give_up();
        }
        committed
    }

    async fn commit_on(
        &self,
        connection: &mut SqliteConnection,
        rows: &[Row],
    ) -> Result<(), StoreError> {
        let failed = |error| self.database.failed(&error);
        let commit_failed = |error| self.database.commit_failed(&error);
        if let [row] = rows {
            return insert(connection, row).await.map_err(commit_failed);
        }
        let mut transaction = connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)?;
        for row in rows {
            insert(&mut transaction, row).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(commit_failed)
    }

    fn answer(&mut self, rows: Vec<Row>, committed: Result<(), StoreError>) {
        if let Err(error) = committed {
            // An outage and a full disk are logged elsewhere, once.
            if !error.is_outage() && !error.is_full() {
                tracing::error!(%error, "append failed");
            }
            for row in rows {
                if !error.definitely_failed() {
                    self.heads.remove(&row.topic);
                    self.unsure.insert(row.topic);
                }
                for (_, reply) in row.callers {
                    reply.send(Err(error.clone())).ok();
                }
            }
            return;
        }
        let mut callers = Vec::new();
        let mut batches = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(head) = self.heads.get_mut(&row.topic) {
                head.end = row.batch.base + row.batch.messages.len() as u64;
                head.last_time = row.batch.publish_time;
            }
            batches.push((row.topic, PARTITION, row.batch));
            callers.extend(row.callers);
        }
        self.tail.append(batches);
        for (run, reply) in callers {
            reply.send(Ok(vec![run])).ok();
        }
    }

    async fn delete(&mut self, deletion: Command) {
        self.vacuum_due = true;
        match deletion {
            Command::Delete(topic, reply) => {
                let delete = || log_delete::delete_some(&self.database, topic);
                let deleted = self.database.in_reserve(StoreError::is_full, delete).await;
                // Even if it failed: what is remembered would outlive a log that is gone.
                self.heads.remove(&topic);
                self.unsure.remove(&topic);
                self.tail.forget(topic);
                reply.send(deleted).ok();
            }
            Command::Trim(topic, ranges, reply) => {
                let trimmed = match self.head(topic).await {
                    Ok(head) => {
                        let trim = || log_delete::trim(&self.database, topic, &ranges, head);
                        self.database.in_reserve(StoreError::is_full, trim).await
                    }
                    Err(error) => Err(error),
                };
                if trimmed.is_ok() {
                    for range in &ranges {
                        self.tail.trim(topic, PARTITION, range);
                    }
                }
                reply.send(trimmed).ok();
            }
            Command::Append(_) | Command::Create(..) | Command::Close => {}
        }
    }

    /// Gives some free pages back to the file system, if there are more than what is worth keeping.
    async fn vacuum(&mut self) {
        match self.try_vacuum().await {
            Ok(more) => {
                self.vacuum_due = more;
                if !more && self.database.reserve().is_released() {
                    self.make_room().await;
                }
            }
            Err(error) => {
                self.vacuum_due = false;
                tracing::warn!(%error, "free pages could not be given back to the file system");
            }
        }
    }

    async fn try_vacuum(&self) -> Result<bool, StoreError> {
        let mut connection = self.database.writer().await?;
        let failed = |error| self.database.failed(&error);
        let free = pragma_int(&mut connection, "PRAGMA freelist_count")
            .await
            .map_err(failed)?;
        let pages = pragma_int(&mut connection, "PRAGMA page_count")
            .await
            .map_err(failed)?;
        // A file that is mostly in use would be rearranged for ever while messages come and go.
        let is_worth_it = free > FREE_PAGES_RESERVED && free >= pages / 4;
        // On a full disk nothing comes.
        let is_needed = free > 0 && self.database.reserve().is_released();
        if !is_worth_it && !is_needed {
            return Ok(false);
        }
        sqlx::query("PRAGMA incremental_vacuum(128)")
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        Ok(true)
    }

    /// Gives what was freed back to a full disk: a file shrinks when its write-ahead log has been moved into it.
    async fn make_room(&self) {
        // Told of there. It may still have made room.
        self.database.checkpoint().await.ok();
        self.database.reserve().restore().await;
    }
}

async fn insert(connection: &mut SqliteConnection, row: &Row) -> Result<(), sqlx::Error> {
    let body = log_rows::encode_body(&row.batch.messages);
    sqlx::query(
        "INSERT INTO batches (topic, partition, base, count, publish_time, bytes, crc32, body)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(to_sql(row.topic.0))
    .bind(PARTITION)
    .bind(to_sql(row.batch.base))
    .bind(to_sql(row.batch.messages.len() as u64))
    .bind(to_sql(row.batch.publish_time.as_millis()))
    .bind(to_sql(body.len() as u64))
    .bind(crc32fast::hash(&body))
    .bind(body)
    .execute(connection)
    .await
    .map(|_| ())
}

/// Groups by topic, in order of arrival within each.
fn by_topic(appends: Vec<Append>) -> BTreeMap<TopicIncarnation, Vec<Append>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for append in appends {
        groups.entry(append.topic).or_default().push(append);
    }
    groups
}

/// Gives the requests of one topic their offsets; neighbours share a row while it is not too large.
fn assign_offsets(
    topic: TopicIncarnation,
    head: Head,
    now: Timestamp,
    appends: Vec<Append>,
    rows: &mut Vec<Row>,
) {
    let publish_time = now.max(head.last_time);
    let first_row = rows.len();
    let mut end = head.end;
    for append in appends {
        let bytes = log_rows::body_bytes(&append.messages);
        let run = AppendedRun {
            partition: PARTITION,
            first: end,
            count: append.messages.len() as u32,
            publish_time,
        };
        end += append.messages.len() as u64;
        match rows[first_row..].last_mut() {
            Some(row) if row.bytes + bytes <= BATCH_BYTES_MAX => {
                row.bytes += bytes;
                row.batch.messages.extend(append.messages);
                row.callers.push((run, append.reply));
            }
            _ => rows.push(Row {
                topic,
                batch: TailBatch {
                    base: run.first,
                    publish_time,
                    messages: append.messages,
                },
                bytes,
                callers: vec![(run, append.reply)],
            }),
        }
    }
}
