//! Keeps the data directory to the user of this process: what is in it are messages and the key of the ack ids.
//!
//! Symbolic links are followed where somebody has put them on purpose: to the directory, to a database. They never are
//! where a file is made or overwritten.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::Path,
};

use rustix::{fs::OFlags, io::Errno, process::geteuid};

use super::directory::{OpenError, io_error};

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Permissions of the group and of everybody.
const OTHERS: u32 = 0o077;
const EVERYBODY_WRITES: u32 = 0o002;

/// Who can get at a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exposure {
    /// This user alone.
    None,
    /// Others, until its permissions are changed, which this user can do.
    Own,
    /// Its owner, who is another user.
    OtherOwner,
    /// Everybody, and it is not this user's to change that.
    Everybody,
}

/// Judges a directory by its owner and its permissions. `me` is the user of this process.
const fn judge(owner: u32, mode: u32, me: u32) -> Exposure {
    match (owner == me, mode & OTHERS) {
        (true, 0) => Exposure::None,
        (true, _) => Exposure::Own,
        (false, others) if others & EVERYBODY_WRITES != 0 => Exposure::Everybody,
        (false, _) => Exposure::OtherOwner,
    }
}

/// Refuses a directory in which everybody may replace files, unless this user can change that. Changes nothing.
/// Returns what is dangerous about it, if anything is, and what to do.
pub(super) fn check(directory: &Path) -> Result<Option<(String, String)>, OpenError> {
    let found = fs::metadata(directory).map_err(|source| io_error(directory, source))?;
    let (me, owner, shown) = (geteuid().as_raw(), found.uid(), directory.display());
    match judge(owner, found.mode(), me) {
        Exposure::None | Exposure::Own => Ok(None),
        Exposure::OtherOwner => Ok(Some((
            format!(
                "the data directory {shown} belongs to user {owner}, not to the user of this process, {me}"
            ),
            format!(
                "user {owner} can read and change what is in it; make it over (chown {me} {shown}), or name another one"
            ),
        ))),
        Exposure::Everybody => Err(OpenError::Exposed {
            path: directory.to_owned(),
        }),
    }
}

/// Takes others' permissions from a directory of this user and from those of its files that have one of these names.
pub(super) fn tighten<'a>(
    directory: &Path,
    files: impl Iterator<Item = &'a str>,
) -> Result<(), OpenError> {
    let files = files.map(|name| directory.join(name));
    for path in [directory.to_owned()].into_iter().chain(files) {
        let Ok(found) = fs::metadata(&path) else {
            continue;
        };
        if judge(found.uid(), found.mode(), geteuid().as_raw()) != Exposure::Own {
            continue;
        }
        let changed = fs::set_permissions(&path, Permissions::from_mode(found.mode() & !OTHERS));
        // Some file systems have no permissions, and take a change without making it.
        let mode = fs::metadata(&path).map_or(found.mode(), |now| now.mode());
        if mode & EVERYBODY_WRITES != 0 {
            return Err(OpenError::Exposed { path });
        }
        if mode & OTHERS != 0 {
            let error = changed
                .err()
                .map(|error| format!(" ({error})"))
                .unwrap_or_default();
            tracing::warn!(
                "others may read {}, and that cannot be changed{error}",
                path.display()
            );
        }
    }
    Ok(())
}

/// Makes a directory that is missing, with those above it.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
}

/// Makes a file in place of what has this name, which is not written to: it may be a link to something else.
pub(super) fn replace(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Opens a file to read and write it, and makes it if it is missing.
pub(super) fn open_or_make(path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE);
    open_itself(path, &mut options)
}

/// Opens a file of ours to read it.
pub(super) fn open(path: &Path) -> Result<File, OpenError> {
    open_itself(path, &mut OpenOptions::new())
}

fn open_itself(path: &Path, options: &mut OpenOptions) -> Result<File, OpenError> {
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    let opened = options.read(true).custom_flags(no_follow).open(path);
    opened.map_err(|source| {
        if Errno::from_io_error(&source) == Some(Errno::LOOP) {
            OpenError::Link {
                path: path.to_owned(),
            }
        } else {
            io_error(path, source)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::{super::open as open_stores, *};
    use crate::{
        clock::Clock,
        store::{MessageLog as _, StateBackend as _},
    };

    /// Opens the stores of a directory as a server does, and closes them.
    async fn start(path: &Path) -> Result<(), OpenError> {
        let (log, state, lock) = open_stores(path, Clock::system()).await?;
        // While they are open, SQLite's files are beside the databases.
        if let Some((name, mode)) = names_and_modes(path)
            .into_iter()
            .find(|(_, mode)| mode & OTHERS != 0)
        {
            panic!("{name} has the mode {mode:o}");
        }
        state.close().await;
        log.close().await;
        lock.release();
        Ok(())
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    }

    fn names_and_modes(directory: &Path) -> Vec<(String, u32)> {
        let entries = fs::read_dir(directory).expect("a directory");
        let entries = entries.filter(|entry| {
            let entry = entry.as_ref().expect("an entry");
            !entry.file_type().expect("a type").is_symlink()
        });
        let entries = entries.map(|entry| {
            let path = entry.expect("an entry").path();
            (path.to_string_lossy().into_owned(), mode(&path))
        });
        entries.collect()
    }

    #[test]
    fn only_this_user_s_directories_are_changed_and_those_of_everybody_refused() {
        for (owner, mode, exposure) in [
            (7, 0o700, Exposure::None),
            (7, 0o2700, Exposure::None),
            (7, 0o755, Exposure::Own),
            (7, 0o1777, Exposure::Own),
            (0, 0o700, Exposure::OtherOwner),
            (0, 0o2775, Exposure::OtherOwner),
            (0, 0o757, Exposure::Everybody),
            (0, 0o1777, Exposure::Everybody),
        ] {
            assert_eq!(judge(owner, mode, 7), exposure, "{owner} {mode:o}");
        }
    }

    #[tokio::test]
    async fn a_new_directory_and_one_of_an_older_version_are_private() {
        let parent = tempfile::tempdir().expect("a directory");
        let data = parent.path().join("above/data");
        start(&data).await.expect("opened");
        assert_eq!(
            (mode(&data), mode(data.parent().expect("made"))),
            (0o700, 0o700)
        );
        assert!(names_and_modes(&data).len() >= 5);
        for (path, _) in names_and_modes(&data) {
            set_mode(Path::new(&path), 0o644);
        }
        set_mode(&data, 0o2777);
        let theirs = data.join("theirs");
        fs::write(&theirs, "of no name of ours").expect("written");
        set_mode(&theirs, 0o600);
        start(&data).await.expect("opened");
        assert_eq!(mode(&data), 0o2700);
    }

    #[tokio::test]
    async fn a_directory_of_another_user_is_left_as_it_is_and_not_used_if_everybody_writes_to_it() {
        if !geteuid().is_root() {
            return; // Only root can give a directory away. The judgement has a test of its own.
        }
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path();
        chown(data, Some(12_345), None).expect("root may");
        set_mode(data, 0o750);
        start(data).await.expect("opened");
        assert_eq!(mode(data), 0o750);
        for open in [0o757, 0o1777] {
            set_mode(data, open);
            let refused = start(data).await.expect_err("exposed");
            assert!(matches!(refused, OpenError::Exposed { .. }), "{refused}");
            assert_eq!(mode(data), open);
        }
    }

    #[tokio::test]
    async fn nothing_is_written_through_a_symbolic_link() {
        let directory = tempfile::tempdir().expect("a directory");
        let (victim, data) = (
            directory.path().join("victim"),
            directory.path().join("data"),
        );
        fs::create_dir(&data).expect("made");
        fs::write(&victim, "precious").expect("written");
        let lock = data.join("LOCK");
        symlink(&victim, &lock).expect("a link");
        let refused = start(&data).await.expect_err("a link");
        assert!(matches!(refused, OpenError::Link { .. }), "{refused}");
        fs::remove_file(lock).expect("removed");
        symlink(&victim, data.join("PACKETBOAT.new")).expect("a link");
        start(&data).await.expect("opened");
        for name in ["PACKETBOAT.new", "RESERVE", "RESERVE.probe"] {
            let path = data.join(name);
            drop(fs::remove_file(&path));
            symlink(&victim, path).expect("a link");
        }
        start(&data).await.expect("opened");
        // A first start that was interrupted begins anew.
        let marker = fs::read_to_string(data.join("PACKETBOAT")).expect("a marker");
        fs::write(data.join("PACKETBOAT"), marker.replace("ready", "creating")).expect("written");
        for name in ["log.db", "state.db", "log.db-wal", "state.db-journal"] {
            let path = data.join(name);
            drop(fs::remove_file(&path));
            symlink(&victim, path).expect("a link");
        }
        start(&data).await.expect("opened");
        assert_eq!(fs::read(&victim).expect("still there"), b"precious");
        let probe = data.join("RESERVE.probe");
        drop(fs::remove_file(&probe));
        symlink(&victim, &probe).expect("a link");
        replace(&probe).expect("made");
        assert!(fs::symlink_metadata(&probe).expect("made").is_file());
        assert_eq!(fs::read(&victim).expect("still there"), b"precious");
    }
}
