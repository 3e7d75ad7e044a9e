//! The message log in one SQLite file. Appends go to its writer, reads to the tail or through a few connections.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    database::{Database, WriterSettings},
    directory::{DirectoryLock, LogId},
    log_delete, log_read, log_rows,
    log_rows::{Head, PARTITION},
    log_writer::{Append, Command, LogWriter, Reply},
};
use crate::{
    clock::{Clock, Timestamp},
    limits::{APPEND_QUEUE_MAX, TAIL_BYTES_MAX},
    resource::{id::TopicIncarnation, message::AcceptedMessages, name::TopicName},
    store::{
        MessageLog, StoreError,
        log::{
            AppendedRun, LogEnds, LogLocation, Offset, Partition, PartitionBounds, ReadBatch,
            TopicLog, Trims, only_own_logs,
        },
        tail::{Tail, TailRead},
    },
};

/// Messages of all topics in `log.db`. Its topics have one partition.
#[derive(Debug)]
pub struct SqliteLog {
    pub(super) database: Database,
    identity: String,
    tail: Arc<Tail>,
    commands: mpsc::Sender<Command>,
    /// Cancelled when the writer has ended, for whatever reason.
    ended: CancellationToken,
}

impl SqliteLog {
    /// Starts the writer of an open file.
    pub(super) fn start(
        database: Database,
        id: LogId,
        clock: Clock,
        directory: DirectoryLock,
    ) -> Self {
        Self::with_tail_bytes_max(database, id, clock, directory, TAIL_BYTES_MAX)
    }

    pub(super) fn with_tail_bytes_max(
        database: Database,
        id: LogId,
        clock: Clock,
        directory: DirectoryLock,
        tail_bytes_max: usize,
    ) -> Self {
        let tail = Arc::new(Tail::new(tail_bytes_max));
        let (commands, receiver) = mpsc::channel(APPEND_QUEUE_MAX);
        let writer = LogWriter::new(
            database.clone(),
            Arc::clone(&tail),
            clock,
            receiver,
            directory,
        );
        let ended = CancellationToken::new();
        let at_end = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _at_end = at_end;
            writer.run().await;
        });
        Self {
            database,
            identity: id.identity(),
            tail,
            commands,
            ended,
        }
    }

    /// Reads the writer's durability settings back from SQLite.
    pub async fn writer_settings(&self) -> Result<WriterSettings, StoreError> {
        self.database.writer_settings().await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let closed = || StoreError::Unavailable("the log is closed".to_owned());
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| {
            Err(StoreError::Uncertain(
                "the log's writer has ended".to_owned(),
            ))
        })
    }

    async fn head(&self, topic: TopicIncarnation) -> Result<Head, StoreError> {
        let mut connection = self
            .database
            .readers()
            .acquire()
            .await
            .map_err(|error| self.database.failed(&error))?;
        log_rows::read_head(&mut connection, topic)
            .await
            .map_err(|error| self.database.failed(&error))?
            .ok_or(StoreError::NoSuchLog)
    }

    /// The topic's end, as far as it may be shown.
    async fn end(&self, topic: TopicIncarnation) -> Result<Offset, StoreError> {
        loop {
            if let Some(&[end]) = self.tail.ends(topic).as_deref() {
                return Ok(end);
            }
            self.learn(topic).await?;
        }
    }

    async fn learn(&self, topic: TopicIncarnation) -> Result<(), StoreError> {
        let head = self.head(topic).await?;
        self.tail.learn(topic, &[head.end]);
        Ok(())
    }
}

fn known(partition: Partition) -> Result<(), StoreError> {
    if partition == PARTITION {
        Ok(())
    } else {
        Err(StoreError::NoSuchLog)
    }
}

#[async_trait]
impl MessageLog for SqliteLog {
    fn backend(&self) -> &'static str {
        "sqlite"
    }

    async fn check(&self, patience: Duration) -> Result<(), StoreError> {
        if self.ended.is_cancelled() {
            return Err(StoreError::Unavailable(
                "the log's writer has ended".to_owned(),
            ));
        }
        self.database.check(patience).await
    }

    fn shortage(&self) -> Option<String> {
        self.database.reserve().shortage()
    }

    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn retention_min(&self) -> Duration {
        Duration::MAX
    }

    fn trims(&self) -> Trims {
        Trims::Anywhere
    }

    async fn attach(&self, _: &str) -> Result<Option<LogLocation>, StoreError> {
        Err(only_own_logs())
    }

    async fn retain(&self, _: &TopicLog, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn location(&self, _: TopicIncarnation, _: &TopicName) -> LogLocation {
        LogLocation::embedded()
    }

    async fn create(
        &self,
        topic: TopicIncarnation,
        _: &TopicName,
    ) -> Result<LogLocation, StoreError> {
        self.ask(|reply| Command::Create(topic, reply)).await?;
        Ok(LogLocation::embedded())
    }

    async fn delete(&self, topic: &TopicLog) -> Result<(), StoreError> {
        let topic = topic.incarnation;
        while self.ask(|reply| Command::Delete(topic, reply)).await? {}
        Ok(())
    }

    async fn append(
        &self,
        topic: &TopicLog,
        messages: AcceptedMessages,
    ) -> Result<Vec<AppendedRun>, StoreError> {
        let topic = topic.incarnation;
        let messages = messages.into_messages();
        if messages.is_empty() {
            return self.end(topic).await.map(|_| Vec::new());
        }
        self.database.reserve().admit().await?;
        self.ask(|reply| {
            Command::Append(Append {
                topic,
                messages,
                reply,
            })
        })
        .await
    }

    async fn read(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
        bytes_max: usize,
    ) -> Result<ReadBatch, StoreError> {
        let topic = topic.incarnation;
        known(partition)?;
        loop {
            match self.tail.read(topic, partition, range.clone(), bytes_max) {
                TailRead::Answer(batch) => return Ok(batch),
                TailRead::Older { end } => {
                    return log_read::read(&self.database, topic, range, bytes_max, end).await;
                }
                TailRead::Unknown => self.learn(topic).await?,
            }
        }
    }

    async fn bounds(&self, topic: &TopicLog) -> Result<Vec<PartitionBounds>, StoreError> {
        let topic = topic.incarnation;
        let end = self.end(topic).await?;
        let head = self.head(topic).await?;
        Ok(vec![PartitionBounds {
            partition: PARTITION,
            start: head.start.min(end),
            end,
        }])
    }

    async fn watch(&self, topic: &TopicLog) -> Result<LogEnds, StoreError> {
        let topic = topic.incarnation;
        loop {
            if let Some(ends) = self.tail.watch(topic) {
                return Ok(ends);
            }
            self.learn(topic).await?;
        }
    }

    async fn offset_at(
        &self,
        topic: &TopicLog,
        partition: Partition,
        time: Timestamp,
    ) -> Result<Offset, StoreError> {
        let topic = topic.incarnation;
        known(partition)?;
        let end = self.end(topic).await?;
        let offset = log_read::offset_at(&self.database, topic, time).await?;
        Ok(offset.map_or(end, |offset| offset.min(end)))
    }

    async fn trim(
        &self,
        topic: &TopicLog,
        partition: Partition,
        done: &[Range<Offset>],
    ) -> Result<Option<Offset>, StoreError> {
        let topic = topic.incarnation;
        known(partition)?;
        let (runs, next) = log_delete::select(&self.database, topic, done).await?;
        if !runs.is_empty() {
            self.ask(|reply| Command::Trim(topic, runs, reply)).await?;
        }
        Ok(next)
    }

    async fn whole_batches(
        &self,
        topic: &TopicLog,
        partition: Partition,
        range: Range<Offset>,
    ) -> Result<Range<Offset>, StoreError> {
        known(partition)?;
        log_read::whole_batches(&self.database, topic.incarnation, range).await
    }

    async fn skip_damage(
        &self,
        topic: &TopicLog,
        partition: Partition,
        from: Offset,
    ) -> Result<Offset, StoreError> {
        let topic = topic.incarnation;
        known(partition)?;
        let end = self.end(topic).await?;
        log_read::skip_damage(&self.database, topic, from, end).await
    }

    async fn close(&self) {
        // If the writer has ended already, so has everything that was accepted.
        self.commands.send(Command::Close).await.ok();
        self.ended.cancelled().await;
        self.database.close().await;
    }
}
