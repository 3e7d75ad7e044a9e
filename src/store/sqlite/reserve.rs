//! Room on the disk for what makes room: pulling, acknowledging and deleting go on when the disk is full.
//!
//! The reserve is a file of allocated blocks beside the databases. It is removed when a write finds no room, and made
//! again when there is twice as much. Until then nothing is published, created or changed.

use std::{
    fs,
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::Errno,
};

use super::private;
use crate::{
    limits::{DISK_RESERVE_BYTES, DISK_RESERVE_SHARE, DISK_RESERVE_WAL_SHARE},
    store::StoreError,
};

pub(super) const FILE: &str = "RESERVE";
/// Tells whether anything can be written.
pub(super) const PROBE: &str = "RESERVE.probe";
const PROBE_BYTES: usize = 64 * 1024;
const MIB: u64 = 1024 * 1024;

/// The reserve of a data directory.
#[derive(Debug)]
pub(super) struct Reserve {
    directory: PathBuf,
    bytes: u64,
    is_released: AtomicBool,
    /// Held while the file is made or removed.
    file: Mutex<()>,
}

impl Reserve {
    /// Finds the reserve of a directory or makes it, if there is room for both it and what is stored next.
    pub(super) fn open(directory: &Path) -> io::Result<Arc<Self>> {
        let disk = statvfs(directory)?;
        let share = disk.f_blocks.saturating_mul(disk.f_frsize) / DISK_RESERVE_SHARE;
        let bytes = share.clamp(*DISK_RESERVE_BYTES.start(), *DISK_RESERVE_BYTES.end());
        Ok(Arc::new(Self::of_bytes(directory, bytes)?))
    }

    /// The same, of a given size.
    pub(super) fn of_bytes(directory: &Path, bytes: u64) -> io::Result<Self> {
        let reserve = Self {
            directory: directory.to_owned(),
            bytes,
            is_released: AtomicBool::new(true),
            file: Mutex::default(),
        };
        let is_there = fs::symlink_metadata(reserve.path())
            .is_ok_and(|file| file.is_file() && file.len() == bytes);
        if is_there && free(directory)? >= reserve.wal_bytes_max() {
            reserve.is_released.store(false, Ordering::Release);
        } else {
            // Of another size, or needed for the start.
            remove(&reserve.path());
            if !reserve.try_restore() {
                reserve.say();
            }
        }
        Ok(reserve)
    }

    /// Size to which a write-ahead log may grow: what it holds is needed once more when it is moved into its file.
    pub(super) const fn wal_bytes_max(&self) -> u64 {
        self.bytes / DISK_RESERVE_WAL_SHARE
    }

    /// Whether the disk was full and has not got enough room since.
    pub(super) fn is_released(&self) -> bool {
        self.is_released.load(Ordering::Acquire)
    }

    /// What nothing can be stored for, if that is so.
    pub(super) fn shortage(&self) -> Option<String> {
        self.is_released().then(|| {
            format!(
                "the disk that holds {} is full: nothing can be published, created or updated until {} MiB of it are \
                 free; acknowledge messages, delete subscriptions or topics, or make room on the disk",
                self.directory.display(),
                self.needed() / MIB
            )
        })
    }

    /// Refuses what takes room while the disk is full.
    pub(super) async fn admit(self: &Arc<Self>) -> Result<(), StoreError> {
        if !self.is_released() || self.restore().await {
            return Ok(());
        }
        self.shortage()
            .map_or(Ok(()), |text| Err(StoreError::Full(text)))
    }

    /// Makes the reserve again if there is room; whether it is there now.
    pub(super) async fn restore(self: &Arc<Self>) -> bool {
        let reserve = Arc::clone(self);
        let restored = tokio::task::spawn_blocking(move || {
            let was_released = reserve.is_released();
            let is_there = reserve.try_restore();
            if was_released && is_there {
                let directory = reserve.directory.display();
                tracing::info!("the disk that holds {directory} has room again");
            }
            is_there
        });
        restored.await.unwrap_or(false)
    }

    /// Gives the reserve up, as a write found no room.
    pub(super) fn release(&self) {
        if self.is_released() {
            return;
        }
        let _file = self.file.lock();
        if !self.is_released.swap(true, Ordering::AcqRel) {
            remove(&self.path());
            self.say();
        }
    }

    /// Whether a small file cannot be written for want of room: SQLite has one code for all failures of the system but
    /// one, so a quota that is used up is found out this way.
    pub(super) fn is_exhausted(&self) -> bool {
        let path = self.directory.join(PROBE);
        let written =
            private::replace(&path).and_then(|mut file| file.write_all(&vec![0; PROBE_BYTES]));
        remove(&path);
        written.is_err_and(|error| is_full(&error))
    }

    fn say(&self) {
        let text = self.shortage().unwrap_or_default();
        tracing::error!("{text}");
    }

    const fn needed(&self) -> u64 {
        2 * self.bytes
    }

    fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    fn try_restore(&self) -> bool {
        // Who comes while another makes it hears that it is not there yet.
        let Some(_file) = self.file.try_lock() else {
            return false;
        };
        if !self.is_released() {
            return true;
        }
        if !free(&self.directory).is_ok_and(|free| free >= self.needed()) {
            return false;
        }
        if let Err(error) = allocate(&self.path(), self.bytes) {
            remove(&self.path());
            tracing::warn!(%error, "the reserve for a full disk could not be made");
            return false;
        }
        self.is_released.store(false, Ordering::Release);
        true
    }
}

/// Bytes that this process may still use on the disk of a directory.
fn free(directory: &Path) -> io::Result<u64> {
    let disk = statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = private::replace(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        // Some file systems can only be written to.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = vec![0; MIB as usize];
            for _ in 0..bytes / MIB {
                file.write_all(&zeros)?;
            }
            file.set_len(bytes)?;
            file.sync_data()
        }
        Err(error) => Err(error.into()),
    }
}

/// A file that is not there is as good as removed.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "a file could not be removed");
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}
