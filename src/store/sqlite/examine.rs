//! Examines a data directory. Changes nothing in it, and leaves one alone that a server uses.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
};

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    LOG, STATE,
    database::Kind,
    directory::{self, LogId, OpenError},
    open_error, topics,
};
use crate::store::{finding::Finding, resources::TopicRow};

/// Contents of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents<'a> {
    /// Messages and everything else.
    Everything,
    /// Messages only.
    Log,
    /// Everything but messages, which are in the log of that identity, if it is known.
    State(Option<&'a str>),
}

/// What was found.
#[derive(Debug)]
pub struct Examined {
    /// One by one.
    pub findings: Vec<Finding>,
    /// The identity of the log in it, or a text that says that there is none yet.
    pub log: Option<String>,
    /// The topics, if they can be read, and are of the log that was given.
    pub topics: Option<Topics>,
}

/// Reads the rows of topics.
#[derive(Debug)]
pub struct Topics {
    /// `None` where there is no file yet.
    file: Option<PathBuf>,
}

/// Examines the contents of a directory.
pub async fn examine(path: &Path, contents: Contents<'_>) -> Examined {
    let mut examined = Examined {
        findings: Vec::new(),
        log: None,
        topics: None,
    };
    if let Err(error) = examine_files(path, contents, &mut examined).await {
        examined.findings.push(Finding::failure(&error));
    }
    examined
}

async fn examine_files(
    path: &Path,
    contents: Contents<'_>,
    examined: &mut Examined,
) -> Result<(), OpenError> {
    let shown = path.display();
    let Some((id, true)) = found(path)? else {
        examined.findings.push(Finding::ok(format!(
            "the data directory {shown} is new: its files are made at start"
        )));
        examined.log = Some(format!("the new data directory {shown}"));
        examined.topics = Some(Topics { file: None });
        return Ok(());
    };
    examined.log = Some(id.identity());
    if let Some(user) = directory::user(path)? {
        examined.findings.push(Finding::ok(format!(
            "the data directory {shown} is in use by {user}, and is left alone"
        )));
        return Ok(());
    }
    let kinds: &[&Kind] = match contents {
        Contents::Everything => &[&LOG, &STATE],
        Contents::Log => &[&LOG],
        Contents::State(_) => &[&STATE],
    };
    let mut is_current = true;
    for kind in kinds {
        is_current &= directory::check_file(path, kind)? == kind.migrations.len() as u32;
        let file = path.join(kind.file);
        let opened = OpenOptions::new().read(true).write(true).open(&file);
        opened.map_err(|source| directory::io_error(&file, source))?;
    }
    examined.findings.push(Finding::ok(format!(
        "the data directory {shown} is complete, and no server uses it"
    )));
    if !is_current {
        examined.findings.push(Finding::ok(
            "its tables are of an older version: they are brought up to date at start",
        ));
        return Ok(());
    }
    if let Contents::State(expected) = contents {
        let file = path.join(STATE.file);
        let found = log_of(&file).await;
        let found = found.map_err(|source| open_error(&file, source))?;
        match expected {
            None => {}
            Some(expected) if found == expected.as_bytes() => {
                examined.topics = Some(Topics { file: Some(file) });
            }
            Some(expected) => {
                return Err(OpenError::OtherLog {
                    path: file,
                    found: directory::shown_log(&found),
                    expected: expected.to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Whose log is there; `None` where the next start makes everything.
fn found(path: &Path) -> Result<Option<(LogId, bool)>, OpenError> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(source) => return Err(directory::io_error(path, source)),
    }
    let marker = directory::read_marker(path)?;
    if marker.is_none() && !directory::is_empty(path)? {
        return Err(OpenError::NotOurs {
            path: path.to_owned(),
        });
    }
    Ok(marker)
}

async fn log_of(file: &Path) -> Result<Vec<u8>, sqlx::Error> {
    let mut connection = connect(file).await?;
    let log = sqlx::query_scalar("SELECT log_id FROM store")
        .fetch_one(&mut connection)
        .await;
    connection.close().await?;
    log
}

/// Without making a file beside it, unless a crash has left some that have to be read with it.
async fn connect(file: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .immutable(!directory::has_wal(file))
        .disable_statement_logging()
        .connect()
        .await
}

impl Topics {
    /// All rows, as they are now.
    pub async fn rows(&self) -> Result<Vec<TopicRow>, OpenError> {
        let Some(file) = &self.file else {
            return Ok(Vec::new());
        };
        let read = async {
            let mut connection = connect(file).await?;
            let rows = topics::rows(&mut connection).await;
            connection.close().await?;
            rows
        };
        read.await.map_err(|source| open_error(file, source))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{clock::Clock, store::finding::Level};

    /// Names and contents of what is in a directory.
    fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(path).expect("a directory");
        let mut files: Vec<_> = entries
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let contents = fs::read(&path).expect("a file");
                (path.to_string_lossy().into_owned(), contents)
            })
            .collect();
        files.sort();
        files
    }

    fn levels(examined: &Examined) -> Vec<Level> {
        examined.findings.iter().map(|one| one.level).collect()
    }

    #[tokio::test]
    async fn a_directory_that_does_not_exist_is_not_made() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("data");
        let examined = examine(&path, Contents::Everything).await;
        assert_eq!(levels(&examined), [Level::Ok]);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_directory_is_left_as_it_is_in_use_or_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let (state, lock) = super::super::open_state(path, "kafka:a:b")
            .await
            .expect("open");
        lock.set_address("127.0.0.1:1").expect("written");
        let before = files(path);
        let examined = examine(path, Contents::State(Some("kafka:a:b"))).await;
        let text = &examined.findings[0].text;
        assert!(text.contains("127.0.0.1:1"), "{text}");
        assert_eq!((levels(&examined), files(path)), (vec![Level::Ok], before));

        crate::store::StateBackend::close(&state).await;
        drop((state, lock));
        let before = files(path);
        let examined = examine(path, Contents::State(Some("kafka:a:b"))).await;
        assert_eq!(levels(&examined), [Level::Ok]);
        let rows = examined.topics.expect("topics").rows().await;
        assert_eq!(rows.expect("rows"), []);
        let examined = examine(path, Contents::State(Some("kafka:a:c"))).await;
        let problem = examined.findings.last().expect("a finding");
        assert_eq!(problem.level, Level::Problem);
        assert!(problem.text.contains("kafka:a:b"), "{problem}");
        assert_eq!(files(path), before);
    }

    #[tokio::test]
    async fn a_directory_of_something_else_and_one_that_lost_a_file_are_problems() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        fs::write(path.join("letter"), "dear").expect("written");
        let examined = examine(path, Contents::Everything).await;
        assert_eq!(levels(&examined), [Level::Problem]);

        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let (log, state, lock) = super::super::open(path, Clock::system())
            .await
            .expect("open");
        crate::store::StateBackend::close(&state).await;
        crate::store::MessageLog::close(&log).await;
        drop((log, state, lock));
        assert_eq!(
            levels(&examine(path, Contents::Everything).await),
            [Level::Ok]
        );
        fs::remove_file(path.join("log.db")).expect("removed");
        let examined = examine(path, Contents::Everything).await;
        assert_eq!(levels(&examined), [Level::Problem]);
        let text = &examined.findings[0].text;
        assert!(text.contains("log.db"), "{text}");
    }
}
