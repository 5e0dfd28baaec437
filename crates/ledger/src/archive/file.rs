//! The file of an archive: a name of its own until it is whole, then its place.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mastio_core::OrgId;
use mastio_store::audit::archive::Span;

/// The name of the archive of a part of the chain of `org`.
pub(super) fn name(org: &OrgId, span: Span) -> String {
    format!("audit-{org}-{:012}-{:012}.tar.gz", span.first, span.last)
}

/// Makes a folder for archives, for its owner only, unless it is there.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A file under a temporary name, readable by its owner only.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) path: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Begins the file that will be `target`. What an attempt before left is thrown away.
    pub(super) fn create(target: &Path) -> io::Result<(Self, File)> {
        let mut path = target.as_os_str().to_owned();
        path.push(".part");
        let draft = Self { path: path.into(), target: target.to_owned() };
        draft.discard()?;
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&draft.path)?;
        Ok((draft, file))
    }

    /// Gives the file its name. It is durable when this returns.
    pub(super) fn put_into_place(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        match self.target.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Throws it away.
    pub(super) fn discard(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether the work on a file was called off. Work on another thread does not end when nobody waits for it any more.
#[derive(Debug, Clone, Default)]
pub(super) struct Called(Arc<AtomicBool>);

impl Called {
    /// Calls it off when dropped.
    pub(super) fn off_on_drop(&self) -> CallOff {
        CallOff(self.clone())
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the work on the archive was called off")),
            false => Ok(()),
        }
    }
}

pub(super) struct CallOff(Called);

impl Drop for CallOff {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// A file that is written until the work is called off.
pub(super) struct Output {
    pub(super) file: File,
    pub(super) called: Called,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.called.check()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
