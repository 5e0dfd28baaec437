//! Every checkpoint once more, in a file beside the database: whoever puts an older copy of the database back does not
//! put back this file with it, so it shows the rewind (design decision 18).
//!
//! A note, then a line `-- ` with the time it was signed; lines are only added. What does not parse is passed over: a
//! crash may leave half of a note at the end.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use mastio_audit::checkpoint::SignedCheckpoint;
use mastio_core::Stamp;

/// Its name, in the folder of the database.
pub const FILE_NAME: &str = "audit-checkpoints.log";
/// How much of its end is read for the newest checkpoint: room for more than twenty.
const TAIL: u64 = 16 << 10;
/// It is rewritten when it is larger,
const MAX_BYTES: u64 = 8 << 20;
/// and then keeps so many of its last checkpoints.
const KEEP: usize = 10_000;

/// A checkpoint that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The note. Nothing of it is verified.
    pub note: SignedCheckpoint,
    /// When it was signed, if that is known.
    pub at: Option<Stamp>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct CheckpointFile {
    path: PathBuf,
}

impl CheckpointFile {
    /// The one that belongs to `database`.
    #[must_use]
    pub fn beside(database: &Path) -> Self {
        Self { path: database.with_file_name(FILE_NAME) }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last checkpoints in it, oldest first; none when there is no file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn last(&self) -> io::Result<Vec<Known>> {
        self.read(Some(TAIL))
    }

    /// All checkpoints in it, oldest first.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn all(&self) -> io::Result<Vec<Known>> {
        self.read(None)
    }

    fn read(&self, tail: Option<u64>) -> io::Result<Vec<Known>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        if let Some(tail) = tail {
            file.seek(SeekFrom::Start(file.metadata()?.len().saturating_sub(tail)))?;
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(parse(&String::from_utf8_lossy(&bytes)))
    }

    /// Adds a checkpoint, durably.
    ///
    /// # Errors
    /// When it cannot be written; a next one can.
    pub fn append(&self, known: &Known) -> io::Result<()> {
        let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let length = file.metadata()?.len();
        let mut text = entry(known);
        if !ends_whole(&mut file, length)? {
            // What a crash left behind becomes a piece of its own that does not parse, not even if only the end of its
            // signature is missing.
            text.insert_str(0, "\ntorn\n--\n");
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if length == 0 {
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        }
        if length > MAX_BYTES { self.shorten() } else { Ok(()) }
    }

    /// Puts a file with the last checkpoints in its place, in one step.
    fn shorten(&self) -> io::Result<()> {
        let all = self.all()?;
        let text: String = all[all.len().saturating_sub(KEEP)..].iter().map(entry).collect();
        let draft = self.path.with_extension("log.new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

/// A checkpoint as it stands in the file.
pub(crate) fn entry(known: &Known) -> String {
    let at = known.at.map(|at| format!(" {at}")).unwrap_or_default();
    format!("{}--{at}\n", known.note)
}

/// Whether the last line is one that ends a checkpoint.
fn ends_whole(file: &mut File, length: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(length.saturating_sub(64)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end).into_owned();
    Ok(length == 0 || end.strip_suffix('\n').is_some_and(|end| end.lines().next_back().is_some_and(is_end)))
}

fn is_end(line: &str) -> bool {
    line == "--" || line.starts_with("-- ")
}

/// The checkpoints in a text.
pub(crate) fn parse(text: &str) -> Vec<Known> {
    let (mut found, mut note) = (Vec::new(), String::new());
    for line in text.split_inclusive('\n') {
        if !is_end(line.trim_end()) {
            note.push_str(line);
            continue;
        }
        if let Ok(parsed) = SignedCheckpoint::parse(&note) {
            let at = line.strip_prefix("-- ").and_then(|at| Stamp::parse(at).ok());
            found.push(Known { note: parsed, at });
        }
        note.clear();
    }
    found
}

#[cfg(test)]
mod tests;
