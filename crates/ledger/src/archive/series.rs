//! All archives of a log as one chain.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use mastio_store::audit::archive::{Mark, Span};

use super::{
    file::Called,
    segment::{self, Segment, SegmentError},
};

/// Why archives are not one chain.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// The folder.
    #[error("{}: {source}", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There are none.
    #[error("{} holds no archive", .0.display())]
    Empty(PathBuf),
    /// One does not verify.
    #[error("{}: {source}", file.display())]
    Segment {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: SegmentError,
    },
    /// One does not begin where the one before it ends.
    #[error("{} does not go on from entry {after}, where the archive before it ends", file.display())]
    Link {
        /// The file.
        file: PathBuf,
        /// The last entry of the one before it.
        after: i64,
    },
    /// One holds the same entries as the one that was made, and is not it.
    #[error("{} is not the file that was archived: its SHA-256 is not that of its mark, {marked}", file.display())]
    OtherFile {
        /// The file.
        file: PathBuf,
        /// The SHA-256 of the original, in hex.
        marked: String,
    },
    /// The log tells of an archive that is not among them.
    #[error("entries {} to {} are missing: the log tells that they went to {file}", span.first, span.last)]
    Missing {
        /// The entries.
        span: Span,
        /// Where the log says that they are.
        file: String,
    },
    /// The log does not tell of an archive.
    #[error(
        "{} holds entries {} to {}, and the log tells of no such archive; if an older backup was restored, archives \
         that were made after it belong to the database that was lost: keep them, in a folder of their own",
        file.display(), span.first, span.last
    )]
    Untold {
        /// The file.
        file: PathBuf,
        /// The entries.
        span: Span,
    },
}

/// Archives of one log that follow each other, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// Each file with what it holds.
    pub archives: Vec<(PathBuf, Segment)>,
}

impl Series {
    /// Verifies every archive in `folders` and below them, and that each goes on where the one before it ends. `told`
    /// hears of each that holds.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(folders: &[PathBuf], told: &mut dyn FnMut(&Path, &Segment)) -> Result<Self, SeriesError> {
        let (mut seen, mut files) = (BTreeSet::new(), Vec::new());
        for folder in folders {
            let found = collect(folder, &mut seen, &mut files);
            found.map_err(|source| SeriesError::Folder { folder: folder.clone(), source })?;
        }
        // Their numbers have leading zeros.
        files.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
        let mut series = Self::default();
        for file in files {
            let segment = segment::verify(&file, &Called::default());
            let segment = segment.map_err(|source| SeriesError::Segment { file: file.clone(), source })?;
            if let Some((_, before)) = series.archives.last()
                && (segment.span.first != before.span.last + 1
                    || segment.previous_hash != Some(before.last_hash)
                    || segment.org != before.org)
            {
                return Err(SeriesError::Link { file, after: before.span.last });
            }
            told(&file, &segment);
            series.archives.push((file, segment));
        }
        match folders.first() {
            Some(folder) if series.archives.is_empty() => Err(SeriesError::Empty(folder.clone())),
            _ => Ok(series),
        }
    }

    /// That they are the archives that the log tells of, in the very files: they begin where it began, and it goes on
    /// where they end.
    ///
    /// # Errors
    /// [`SeriesError::Missing`], [`SeriesError::Untold`] and [`SeriesError::OtherFile`].
    pub fn leads_to(&self, marks: &[Mark]) -> Result<(), SeriesError> {
        let is_of = |mark: &Mark, segment: &Segment| {
            mark.span == segment.span && mark.head_hash == hex::encode(segment.last_hash)
        };
        for (file, segment) in &self.archives {
            let Some(mark) = marks.iter().find(|mark| is_of(mark, segment)) else {
                return Err(SeriesError::Untold { file: file.clone(), span: segment.span });
            };
            if mark.bundle_sha256 != hex::encode(segment.sha256) {
                return Err(SeriesError::OtherFile {
                    file: file.clone(),
                    marked: mark.bundle_sha256.clone(),
                });
            }
        }
        match marks.iter().find(|mark| !self.archives.iter().any(|(_, segment)| is_of(mark, segment))) {
            Some(mark) => Err(SeriesError::Missing { span: mark.span, file: mark.file.clone() }),
            None => Ok(()),
        }
    }
}

/// Adds the archives in `folder` and below it to `files`; `seen` are the folders and files that were looked at, so
/// that links lead nowhere twice.
fn collect(folder: &Path, seen: &mut BTreeSet<PathBuf>, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !seen.insert(folder.canonicalize()?) {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            collect(&path, seen, files)?;
        } else if name.starts_with("audit-") && name.ends_with(".tar.gz") && seen.insert(path.canonicalize()?)
        {
            files.push(path);
        }
    }
    Ok(())
}
