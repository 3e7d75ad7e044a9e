//! Examines a database before or while nodes use it. Only reads, and registers as no node.
//!
//! - `judgement`: what the answers of the server and the database mean.

mod judgement;

use super::finding::{self, Finding};
use crate::{
    clock::Clock,
    store::postgres::{Inspection, OpenError, Options, Refusal, Server, TopicRows},
};

/// What was found.
#[derive(Debug)]
pub(super) struct Examined {
    /// One by one.
    pub(super) findings: Vec<Finding>,
    /// The topics, if they can be read and are of the log that was given.
    pub(super) topics: Option<TopicRows>,
}

/// Examines the database. `log` is the identity of the log that messages are stored in, if that is known.
pub(super) async fn examine(options: &Options, log: Option<&str>, clock: &Clock) -> Examined {
    let mut findings = Vec::new();
    let examined = examine_all(options, log, clock, &mut findings).await;
    let topics = examined.unwrap_or_else(|cause| {
        let database = options.shown().to_owned();
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
) -> Result<Option<TopicRows>, Refusal> {
    let mut database = Inspection::connect(options).await?;
    let (server, ahead) = ask(&mut database, clock).await?;
    findings.extend(judgement::server(&server, options.shown()));
    findings.push(finding::clock("Postgres", ahead));
    findings.push(judgement::old_transactions(
        &database.old_transactions().await?,
    ));
    let others = database.tables_of_others().await?;
    findings.extend(judgement::tables_of_others(&others));
    let (mut nodes, mut topics) = (Vec::new(), None);
    if let Some(store) = database.store().await? {
        findings.push(judgement::tables(Some(store.version)));
        findings.push(judgement::belongs(&store.log_identity, log));
        if store.is_readable() {
            nodes = database.nodes().await?;
            findings.push(judgement::nodes(&nodes));
        }
        if store.is_readable() && log == Some(&store.log_identity) {
            topics = Some(database.topics());
        }
    } else if others.is_empty() {
        findings.push(judgement::tables(None));
        topics = Some(TopicRows::default());
    }
    findings.push(judgement::connections(
        server.connections_max,
        server.connections_of_others,
        nodes.len(),
    ));
    database.close().await;
    Ok(topics)
}

/// What the server says, and by how much its clock is ahead.
async fn ask(database: &mut Inspection, clock: &Clock) -> Result<(Server, i64), Refusal> {
    let asked = clock.now();
    let time = database.time().await?;
    let ahead = finding::ahead_by(asked, time, clock.now());
    Ok((database.server().await?, ahead))
}
