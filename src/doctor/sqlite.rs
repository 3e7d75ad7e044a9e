//! Examines a data directory. Changes nothing in it, and leaves one alone that a server uses.

use std::path::Path;

use super::finding::Finding;
use crate::store::sqlite::{DataFile, Inspection, OpenError, TopicRows};

/// Contents of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents<'a> {
    /// Messages and everything else.
    Everything,
    /// Messages only.
    Log,
    /// Everything but messages, which are in the log of that identity, if it is known.
    State(Option<&'a str>),
}

/// What was found.
#[derive(Debug)]
pub(super) struct Examined {
    /// One by one.
    pub(super) findings: Vec<Finding>,
    /// The identity of the log in it, or a text that says that there is none yet.
    pub(super) log: Option<String>,
    /// The topics, if they can be read, and are of the log that was given.
    pub(super) topics: Option<TopicRows>,
}

/// Examines the contents of a directory.
pub(super) async fn examine(path: &Path, contents: Contents<'_>) -> Examined {
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
    let Some(directory) = Inspection::of(path)? else {
        examined.findings.push(Finding::ok(format!(
            "the data directory {shown} is new: its files are made at start"
        )));
        examined.log = Some(format!("the new data directory {shown}"));
        examined.topics = Some(TopicRows::default());
        return Ok(());
    };
    examined.log = Some(directory.log_identity());
    if let Some((found, advice)) = directory.danger() {
        examined.findings.push(Finding::warning(found, advice));
    }
    if let Some(user) = directory.user()? {
        examined.findings.push(Finding::ok(format!(
            "the data directory {shown} is in use by {user}, and is left alone"
        )));
        return Ok(());
    }
    let files: &[DataFile] = match contents {
        Contents::Everything => &[DataFile::Log, DataFile::State],
        Contents::Log => &[DataFile::Log],
        Contents::State(_) => &[DataFile::State],
    };
    let mut is_current = true;
    for file in files {
        is_current &= directory.is_current(*file)?;
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
        examined.topics = directory.topics(expected).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{clock::Clock, doctor::finding::Level, store::sqlite};

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
        let (state, lock) = sqlite::open_state(path, "kafka:a:b").await.expect("open");
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
        let rows = examined.topics.expect("topics").read().await;
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
        let (log, state, lock) = sqlite::open(path, Clock::system()).await.expect("open");
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
