//! The data directory: whose it is, which format it has, who uses it. Never overwrites what is not ours.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use super::{LOG, STATE, database::Kind, private, reserve};

/// The format that this version writes. A directory of a later one is refused.
const FORMAT: u32 = 1;
const MARKER: &str = "PACKETBOAT";
/// The marker while it is being written.
const MARKER_DRAFT: &str = "PACKETBOAT.new";
const LOCK: &str = "LOCK";
/// What a new file system has at its top.
const LOST_AND_FOUND: &str = "lost+found";
/// What SQLite adds to a database's name for the files that it makes beside it.
const DATABASE_SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Why a data directory was not opened. Each text says what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It holds something else.
    #[error(
        "{path} is not empty and is not a Packetboat data directory (it has no file PACKETBOAT): \
         name an empty or new directory"
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// A later version wrote it.
    #[error(
        "{path} was written by a newer version of Packetboat (its format is {found}, this version knows up to \
         {known}): run that version, or name another data directory"
    )]
    Newer {
        /// The directory or the file in it.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest format that this version can open.
        known: u32,
    },
    /// Another process uses it.
    #[error(
        "{path} is in use by {holder}: stop that server, use it, or name another data directory"
    )]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who says to hold it: its process id and address.
        holder: String,
    },
    /// A file of it is gone.
    #[error(
        "{path} is missing from the data directory: restore the directory from a backup, or name another one"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file of it is truncated or is not what its name says.
    #[error(
        "{path} cannot be read ({reason}): restore the data directory from a backup, or name another one"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Files of different directories were mixed.
    #[error(
        "{path} belongs to the log {found}, not to the log {expected}: put back the file that belongs here, or name \
         another data directory, or the log that it was made for"
    )]
    OtherLog {
        /// The file.
        path: PathBuf,
        /// The log that it belongs to.
        found: String,
        /// The log that is used with it now.
        expected: String,
    },
    /// Everybody may write to it.
    #[error(
        "every user of this machine may write to {path}, and so read, forge and delete what is stored there: name \
         another data directory, or change its owner and permissions (chown, chmod go-rwx)"
    )]
    Exposed {
        /// The directory or the file in it.
        path: PathBuf,
    },
    /// A file that is overwritten is a symbolic link.
    #[error(
        "{path} is a symbolic link, and is not followed, as what it leads to would be overwritten: remove it"
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// The file system refused.
    #[error(
        "{path}: {source}: check that the data directory is a directory, has room, and belongs to the user of this process"
    )]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
    /// SQLite refused for a reason that is not damage.
    #[error(
        "{path}: {source}: check that the disk has room, and that this process may write the file and open more files"
    )]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it answered.
        source: sqlx::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// Names a log for ever. State says which log it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogId(pub(super) [u8; 16]);

impl LogId {
    pub(super) fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// As other stores know it.
    pub(super) fn identity(self) -> String {
        format!("sqlite:{}", self.to_hex())
    }

    fn from_hex(text: &str) -> Option<Self> {
        let id = u128::from_str_radix(text, 16).ok()?;
        (text.len() == 32).then(|| Self(id.to_be_bytes()))
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    let mut text = String::with_capacity(2 * bytes.len());
    text.extend(digits);
    text
}

/// A log as a file names it: the id of a data directory, or another backend's text.
pub(super) fn shown_log(log: &[u8]) -> String {
    match <[u8; 16]>::try_from(log) {
        Ok(id) => LogId(id).to_hex(),
        Err(_) => String::from_utf8_lossy(log).into_owned(),
    }
}

/// Holds the data directory for this process, until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct DirectoryLock {
    path: PathBuf,
    file: Arc<File>,
}

impl DirectoryLock {
    /// Lets another process have the directory, once both stores are closed.
    pub fn release(&self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, path = %self.path.display(), "the data directory was not released");
        }
    }

    /// Notes the address that this process serves, for another process that wants the directory meanwhile.
    pub fn set_address(&self, address: &str) -> Result<(), OpenError> {
        self.write(&format!(
            "process {}, which serves {address}",
            std::process::id()
        ))
    }

    fn write(&self, holder: &str) -> Result<(), OpenError> {
        let write = || {
            let mut file = &*self.file;
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(holder.as_bytes())
        };
        write().map_err(|source| io_error(&self.path, source))
    }
}

/// A directory that is ours and locked.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) log_id: LogId,
    /// Whether its files were made completely once.
    pub(super) is_ready: bool,
    pub(super) lock: DirectoryLock,
}

impl Directory {
    /// Takes the directory, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        make(path).map_err(|source| io_error(path, source))?;
        let danger = private::check(path)?;
        // Before anything is changed: a directory that is not ours stays as it is.
        if read_marker(path)?.is_none() && !is_empty(path)? {
            return Err(OpenError::NotOurs {
                path: path.to_owned(),
            });
        }
        if let Some((found, advice)) = danger {
            tracing::warn!("{found}: {advice}");
        }
        private::tighten(path, files().iter().map(String::as_str))?;
        let lock = lock(path)?;
        let (log_id, is_ready) = if let Some(marker) = read_marker(path)? {
            marker
        } else {
            let mut id = [0; 16];
            getrandom::fill(&mut id)?;
            write_marker(path, LogId(id), false)?;
            (LogId(id), false)
        };
        Ok(Self {
            path: path.to_owned(),
            log_id,
            is_ready,
            lock,
        })
    }

    /// Removes what a first start that did not finish has left. Nothing was stored in it.
    pub(super) fn remove_unfinished(&self, kind: &Kind) -> Result<(), OpenError> {
        for name in database_files(kind) {
            let path = self.path.join(name);
            if let Err(source) = fs::remove_file(&path)
                && source.kind() != ErrorKind::NotFound
            {
                return Err(io_error(&path, source));
            }
        }
        Ok(())
    }

    /// Makes the empty file of a database, whose permissions SQLite gives to those that it makes beside it.
    pub(super) fn make_file(&self, kind: &Kind) -> Result<(), OpenError> {
        let path = self.path.join(kind.file);
        private::replace(&path)
            .map(drop)
            .map_err(|source| io_error(&path, source))
    }

    /// Marks the files as complete, once they are on the disk.
    pub(super) fn set_ready(&mut self) -> Result<(), OpenError> {
        write_marker(&self.path, self.log_id, true)?;
        self.is_ready = true;
        Ok(())
    }
}

/// A database's file and those that SQLite makes beside it.
fn database_files(kind: &Kind) -> impl Iterator<Item = String> {
    DATABASE_SUFFIXES
        .iter()
        .map(|suffix| format!("{}{suffix}", kind.file))
}

/// The names of everything that is ever made in a data directory.
fn files() -> Vec<String> {
    let databases = [&LOG, &STATE].into_iter().flat_map(database_files);
    let others = [MARKER, MARKER_DRAFT, LOCK, reserve::FILE, reserve::PROBE];
    others
        .map(str::to_owned)
        .into_iter()
        .chain(databases)
        .collect()
}

/// Checks a file's header before SQLite does, which would take an empty file for a new one. Returns the version of its
/// tables.
pub(super) fn check_file(directory: &Path, kind: &Kind) -> Result<u32, OpenError> {
    let path = directory.join(kind.file);
    let unreadable = |reason: &str| OpenError::Unreadable {
        path: path.clone(),
        reason: reason.to_owned(),
    };
    let mut header = [0; 100];
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(source) if source.kind() == ErrorKind::NotFound => {
            return Err(OpenError::Missing { path });
        }
        Err(source) => return Err(io_error(&path, source)),
    };
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(source) if source.kind() == ErrorKind::UnexpectedEof => {
            return Err(unreadable("it is shorter than a header"));
        }
        Err(source) => return Err(io_error(&path, source)),
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(unreadable("it is not an SQLite file"));
    }
    if be_u32(&header, 68) != kind.application_id {
        return Err(unreadable("another program has made it"));
    }
    let known = kind.migrations.len() as u32;
    let found = be_u32(&header, 60);
    if found > known {
        return Err(OpenError::Newer { path, found, known });
    }
    let bytes = file
        .metadata()
        .map_err(|source| io_error(&path, source))?
        .len();
    let expected = u64::from(page_bytes(&header)) * u64::from(be_u32(&header, 28));
    // With a write-ahead log beside it, the file may be in the middle of growing or shrinking.
    if bytes < expected && !has_wal(&path) {
        return Err(unreadable(&format!(
            "it is truncated: {bytes} of {expected} bytes are left"
        )));
    }
    Ok(found)
}

/// Whether a file has a write-ahead log beside it that is not in the file.
pub(super) fn has_wal(path: &Path) -> bool {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    fs::metadata(wal).is_ok_and(|wal| wal.len() > 0)
}

fn be_u32(header: &[u8; 100], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn page_bytes(header: &[u8; 100]) -> u32 {
    match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => u32::from(bytes),
    }
}

pub(super) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Whether nothing is in it but what a start that did not get as far as the marker has left, and what a new file
/// system has at its top.
pub(super) fn is_empty(path: &Path) -> Result<bool, OpenError> {
    let entries = fs::read_dir(path).map_err(|source| io_error(path, source))?;
    for entry in entries {
        let name = entry.map_err(|source| io_error(path, source))?.file_name();
        if name != LOCK && name != MARKER_DRAFT && name != LOST_AND_FOUND {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(directory: &Path) -> Result<DirectoryLock, OpenError> {
    let path = directory.join(LOCK);
    let file = private::open_or_make(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::Held {
                path: directory.to_owned(),
                holder: holder(&path),
            });
        }
        Err(TryLockError::Error(source)) => return Err(io_error(&path, source)),
    }
    let lock = DirectoryLock {
        path,
        file: Arc::new(file),
    };
    lock.write(&format!("process {}", std::process::id()))?;
    Ok(lock)
}

/// Who says in a directory's file `LOCK` to hold it.
fn holder(lock: &Path) -> String {
    match fs::read_to_string(lock) {
        Ok(holder) if !holder.is_empty() => holder,
        _ => "another process".to_owned(),
    }
}

/// Who uses a directory just now, if anybody does. It is locked for no longer than this check takes.
pub(super) fn user(directory: &Path) -> Result<Option<String>, OpenError> {
    let path = directory.join(LOCK);
    let file = match private::open(&path) {
        Ok(file) => file,
        Err(OpenError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(holder(&path))),
        Err(TryLockError::Error(source)) => Err(io_error(&path, source)),
    }
}

/// Whose log a directory has, and whether its files were made completely once; `None` where nothing says that it is
/// ours.
pub(super) fn read_marker(directory: &Path) -> Result<Option<(LogId, bool)>, OpenError> {
    let path = directory.join(MARKER);
    let text = match fs::read(&path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(&path, source)),
    };
    let value = |key: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim())
    };
    if let Some(found) = value("format").and_then(|format| format.parse().ok())
        && found > FORMAT
    {
        return Err(OpenError::Newer {
            path: directory.to_owned(),
            found,
            known: FORMAT,
        });
    }
    let is_ready = match value("state") {
        Some("ready") => Some(true),
        Some("creating") => Some(false),
        _ => None,
    };
    let log_id = value("log").and_then(LogId::from_hex);
    match (value("format"), log_id, is_ready) {
        (Some("1"), Some(log_id), Some(is_ready)) => Ok(Some((log_id, is_ready))),
        _ => Err(OpenError::Unreadable {
            path,
            reason: "it does not say format, log and state".to_owned(),
        }),
    }
}

/// Replaces the marker as a whole, so that a crash leaves the old one or the new one.
fn write_marker(directory: &Path, log_id: LogId, is_ready: bool) -> Result<(), OpenError> {
    let draft = directory.join(MARKER_DRAFT);
    let state = if is_ready { "ready" } else { "creating" };
    let text = format!(
        "format = {FORMAT}\nlog = {}\nstate = {state}\n",
        log_id.to_hex()
    );
    let write = || {
        let mut file = private::replace(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, directory.join(MARKER))?;
        sync_directory(directory)
    };
    write().map_err(|source| io_error(&draft, source))
}

/// Makes a directory with those above it, so that a power cut does not take it away again.
fn make(path: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    private::make_directory(path)?;
    for made in missing {
        let above = made.parent().filter(|path| !path.as_os_str().is_empty());
        match sync_directory(above.unwrap_or(Path::new("."))) {
            // It may be one in which this user may make directories and not list them.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            done => done?,
        }
    }
    Ok(())
}

/// Makes the names in a directory durable.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
