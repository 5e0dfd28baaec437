//! The file of an archive: an evidence bundle of exactly its entries.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use aws_lc_rs::digest::{Context, SHA256};
use mastio_audit::LocalRow;
use mastio_bundle::{Trusted, Unreadable, WriteError, verify_entries};
use mastio_store::audit::archive::Span;

use super::file::{Called, Output};
use crate::{Ledger, bundle::BundleError};

/// What a verified file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Whose chain it is.
    pub org: String,
    /// Which entries.
    pub span: Span,
    /// What its first entry links to; `None` at the beginning of the chain.
    pub previous_hash: Option<[u8; 32]>,
    /// The hash of its first entry.
    pub first_hash: [u8; 32],
    /// The hash of its last entry.
    pub last_hash: [u8; 32],
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

/// Why a file is not written or does not verify.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The entries cannot be proved.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It could not be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It does not hold: the step that fails, in words.
    #[error("{0}")]
    Broken(String),
}

/// Writes the entries of `span`, durably.
pub(super) async fn write(ledger: &Ledger, span: Span, out: Output) -> Result<(), SegmentError> {
    let out = ledger.archive_bundle(span.first, span.last, out).await??;
    let synced = tokio::task::spawn_blocking(move || out.file.sync_all()).await;
    Ok(synced.unwrap_or_else(|join| Err(io::Error::other(join)))?)
}

/// Verifies `file` by itself, as anybody can. What it says of its organisation is believed.
///
/// # Errors
/// When it does not hold or cannot be read.
pub(super) fn verify(file: &Path, called: &Called) -> Result<Segment, SegmentError> {
    walk(file, called, &mut |_| {})
}

/// The same, and hands its entries to `each`. They hold only if no error is returned.
///
/// # Errors
/// As [`verify`].
pub(super) fn walk(
    file: &Path,
    called: &Called,
    each: &mut dyn FnMut(&LocalRow<'_>),
) -> Result<Segment, SegmentError> {
    let mut input = Input { file: File::open(file)?, called, sha256: Context::new(&SHA256) };
    let report = verify_entries(&mut input, &Trusted::default(), each)?;
    if let Some(failure) = report.failure() {
        return Err(SegmentError::Broken(failure.to_string()));
    }
    let span = report.span.ok_or_else(|| SegmentError::Broken("it holds no entries".to_owned()))?;
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(input.sha256.finish().as_ref());
    Ok(Segment {
        org: span.org_id,
        span: Span { first: span.first_seq.cast_signed(), last: span.last_seq.cast_signed() },
        previous_hash: span.previous_hash.map(|hash| hash.0),
        first_hash: span.first_hash.0,
        last_hash: span.last_hash.0,
        sha256,
    })
}

/// A file that is read to its end, or until the work is called off.
struct Input<'a> {
    file: File,
    called: &'a Called,
    sha256: Context,
}

impl Read for Input<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.called.check()?;
        let read = self.file.read(bytes)?;
        self.sha256.update(&bytes[..read]);
        Ok(read)
    }
}
