//! Files as the operating system sees them: the server's lock, and noticing that the database is not ours any more.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::writer::Unavailable;

/// An exclusive lock on a file beside the database, held until dropped. It holds the pid for the operator to read.
#[derive(Debug)]
pub(super) struct ServerLock {
    _file: File,
}

/// Why a lock file could not be locked.
#[derive(Debug)]
pub(super) enum LockRefused {
    /// Somebody holds it; their pid if the file says it.
    Held(Option<u32>),
    Io(io::Error),
}

impl ServerLock {
    /// Takes the lock without waiting.
    pub(super) fn take(path: &Path) -> Result<Self, LockRefused> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(LockRefused::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Without a readable pid the lock is just as held.
                let _ = file.read_to_string(&mut text);
                return Err(LockRefused::Held(text.trim().parse().ok()));
            }
            Err(errno) => return Err(LockRefused::Io(errno.into())),
        }
        let write_pid = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // The pid is a courtesy; the lock is what counts.
        let _ = write_pid(&mut file);
        Ok(Self { _file: file })
    }
}

/// Whether a process holds the lock on `path` now. A missing file is not held.
pub(super) fn is_held(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// A path with the device and inode that were there when the database was opened.
#[derive(Debug, Clone)]
pub(super) struct WatchedFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl WatchedFile {
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::stat(path)?;
        Ok(Self { path: path.to_owned(), device: stat.st_dev, inode: stat.st_ino })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses when the path does not lead to the same file any more: writes would go into a deleted file.
    pub(super) fn check(&self) -> Result<(), Unavailable> {
        let gone = |how: &str| {
            let path = self.path.display();
            Err(Unavailable::Gone(format!("{path} {how} under the running server; restart it")))
        };
        match rustix::fs::stat(&self.path) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == (self.device, self.inode) => Ok(()),
            Ok(_) => gone("was replaced"),
            Err(_) => gone("disappeared"),
        }
    }
}

/// `<file><suffix>`, for the files that belong to a database.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
