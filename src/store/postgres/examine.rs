//! Examines a database before or while nodes use it. Only reads, and registers as no node.
//!
//! - `facts`: what the server and the database say.
//! - `judgement`: what that means.

mod facts;
mod judgement;

use sqlx::{Connection as _, PgConnection};

use self::facts::Facts;
use super::{
    OpenError, Options, Refusal,
    database::{Database, bounded},
    open, topics,
};
use crate::{
    clock::Clock,
    store::{
        StoreError,
        finding::{self, Finding},
        resources::TopicRow,
    },
};

/// What was found.
#[derive(Debug)]
pub struct Examined {
    /// One by one.
    pub findings: Vec<Finding>,
    /// The topics, if they can be read and are of the log that was given.
    pub topics: Option<Topics>,
}

/// Reads the rows of topics.
#[derive(Debug)]
pub struct Topics {
    /// `None` where there are no tables yet.
    database: Option<Database>,
}

/// Examines the database. `log` is the identity of the log that messages are stored in, if that is known.
pub async fn examine(options: &Options, log: Option<&str>, clock: &Clock) -> Examined {
    let mut findings = Vec::new();
    let examined = examine_all(options, log, clock, &mut findings).await;
    let topics = examined.unwrap_or_else(|cause| {
        let database = options.shown.clone();
        findings.push(Finding::failure(&OpenError { database, cause }));
        None
    });
    Examined { findings, topics }
}

async fn examine_all(
    options: &Options,
    log: Option<&str>,
    clock: &Clock,
    findings: &mut Vec<Finding>,
) -> Result<Option<Topics>, Refusal> {
    let options = read_only(options);
    let mut connection = open::connect(&options).await?;
    let (facts, ahead) = ask(&mut connection, clock).await?;
    findings.extend(facts.findings(&options.shown));
    findings.push(finding::clock("Postgres", ahead));
    let old = bounded(facts::old_transactions(&mut connection)).await?;
    findings.push(judgement::old_transactions(&old));
    let others = bounded(facts::tables_of_others(&mut connection)).await?;
    findings.extend(judgement::tables_of_others(&others));
    let store = bounded(facts::store(&mut connection)).await?;
    let (mut nodes, mut topics) = (Vec::new(), None);
    if let Some(store) = &store {
        findings.push(judgement::version(Some(store.version)));
        findings.push(judgement::belongs(&store.log_identity, log));
        if store.is_readable() {
            nodes = bounded(facts::nodes(&mut connection)).await?;
            findings.push(judgement::nodes(&nodes));
        }
        if store.is_readable() && log == Some(&store.log_identity) {
            let database = Database::new(options.connect.clone(), &options.shown);
            topics = Some(Topics {
                database: Some(database),
            });
        }
    } else if others.is_empty() {
        findings.push(judgement::version(None));
        topics = Some(Topics { database: None });
    }
    findings.push(judgement::connections(
        facts.connections_max,
        facts.connections_of_others,
        nodes.len(),
    ));
    // The server ends the session in any case.
    connection.close().await.ok();
    Ok(topics)
}

/// The same database for sessions that change nothing.
fn read_only(options: &Options) -> Options {
    let connect = options.connect.clone();
    Options {
        connect: connect
            .application_name("packetboat doctor")
            .options([("default_transaction_read_only", "on")]),
        ..options.clone()
    }
}

/// The facts, and by how much the server's clock is ahead.
async fn ask(connection: &mut PgConnection, clock: &Clock) -> Result<(Facts, i64), Refusal> {
    let asked = clock.now();
    let time = bounded(facts::time(connection)).await?;
    let ahead = finding::ahead_by(asked, time, clock.now());
    Ok((bounded(Facts::read(connection)).await?, ahead))
}

impl Topics {
    /// All rows, as they are now.
    pub async fn rows(&self) -> Result<Vec<TopicRow>, StoreError> {
        match &self.database {
            Some(database) => topics::logs(database).await,
            None => Ok(Vec::new()),
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        if let Some(database) = self.database {
            database.close().await;
        }
    }
}
