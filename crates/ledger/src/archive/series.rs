//! All archives of a log as one chain.

use std::{
    io,
    path::{Path, PathBuf},
};

use mastio_store::audit::archive::Mark;

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
    /// The log goes on from somewhere else.
    #[error("the log goes on from entry {}, and the archives end with entry {archived}", marked.map_or_else(|| "1".to_owned(), |seq| format!("{}", seq + 1)))]
    Log {
        /// The last entry of the archives.
        archived: i64,
        /// The last entry that the log says was archived; `None`: it says of none.
        marked: Option<i64>,
    },
}

/// Archives of one log that follow each other, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// Each file with what it holds.
    pub archives: Vec<(PathBuf, Segment)>,
}

impl Series {
    /// Verifies every archive in `folder`, and that each goes on where the one before it ends. `told` hears of each that
    /// holds.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(folder: &Path, told: &mut dyn FnMut(&Path, &Segment)) -> Result<Self, SeriesError> {
        let mut files =
            names(folder).map_err(|source| SeriesError::Folder { folder: folder.to_owned(), source })?;
        // Their numbers have leading zeros.
        files.sort();
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
        match series.archives.is_empty() {
            true => Err(SeriesError::Empty(folder.to_owned())),
            false => Ok(series),
        }
    }

    /// That the log goes on where the archives end, and marked these very files: its newest mark is on their last entry.
    ///
    /// # Errors
    /// [`SeriesError::Log`] and [`SeriesError::OtherFile`].
    pub fn leads_to(&self, marks: &[Mark]) -> Result<(), SeriesError> {
        let Some((_, last)) = self.archives.last() else { return Ok(()) };
        for (file, segment) in &self.archives {
            let mark = marks.iter().find(|mark| mark.span == segment.span);
            if let Some(mark) = mark.filter(|mark| mark.bundle_sha256 != hex::encode(segment.sha256)) {
                return Err(SeriesError::OtherFile {
                    file: file.clone(),
                    marked: mark.bundle_sha256.clone(),
                });
            }
        }
        match marks.last() {
            Some(mark)
                if mark.span.last == last.span.last && mark.head_hash == hex::encode(last.last_hash) =>
            {
                Ok(())
            }
            mark => {
                Err(SeriesError::Log { archived: last.span.last, marked: mark.map(|mark| mark.span.last) })
            }
        }
    }
}

fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("audit-") && name.ends_with(".tar.gz") {
            files.push(path);
        }
    }
    Ok(files)
}
