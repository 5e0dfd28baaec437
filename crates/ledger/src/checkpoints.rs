//! Checkpoints: signed, kept, found again (C2SP tlog-checkpoint; design decision 17).
//!
//! A checkpoint writes no audit entry: on an idle server the log would grow by its own evidence for ever.

use std::sync::Arc;

use mastio_audit::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    note::{Name, NoteError},
    tree::{Tree, TreeError, TreeHead},
};
use mastio_authority::{Outage, Refusal};
use mastio_core::Stamp;
use mastio_store::{
    ReadError, Unit,
    audit::{
        checkpoints::{self, CheckpointRow},
        tree::StoredTiles,
    },
    sqlite::Database,
};

use crate::{
    Ledger,
    checkpoint_file::Known,
    log_key::{LogKey, LogKeyError},
    tree::GrowError,
};

/// Why there is no new checkpoint. Those that were signed before stay.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is no log yet.
    #[error("{0}")]
    Key(#[from] LogKeyError),
    /// The tree does not reach the newest entry.
    #[error("{0}")]
    Grow(#[from] GrowError),
    /// The stored tiles do not give a root.
    #[error("{0}")]
    Tree(#[from] TreeError<ReadError>),
    /// It could not be signed.
    #[error("the checkpoint could not be signed: {0}")]
    Sign(#[from] NoteError),
    /// There are no entries.
    #[error("the audit log has no entries yet")]
    Empty,
    /// The log contradicts what it published.
    #[error(
        "no checkpoints are signed, because the log is behind or contradicts one that it published; see mastio audit accept-restore"
    )]
    RolledBack,
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<ReadError> for CheckpointError {
    fn from(error: ReadError) -> Self {
        Self::Outage(error.into())
    }
}

impl Refusal for CheckpointError {
    fn status(&self) -> u16 {
        match self {
            Self::Key(error) => error.status(),
            Self::Grow(error) => error.status(),
            Self::Tree(TreeError::Source(error)) => Outage::from(error.clone()).status(),
            Self::Tree(_) | Self::Sign(_) => 500,
            Self::Empty => 404,
            Self::RolledBack => 409,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Key(error) => error.reason(),
            Self::Grow(error) => error.reason(),
            Self::Tree(_) => "audit_tree_unreadable",
            Self::Sign(_) => "log_key_unusable",
            Self::Empty => "audit_log_empty",
            Self::RolledBack => "audit_rolled_back",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// A checkpoint of ours that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The note: the log's signature, then those of witnesses that have arrived, by their names.
    pub note: SignedCheckpoint,
    /// When the log signed it.
    pub signed_at: Stamp,
}

impl Published {
    /// Its tree.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        self.note.unverified().head
    }

    fn read(database: &Database, row: CheckpointRow) -> Result<Self, ReadError> {
        let said = row.note.unverified();
        let lines = checkpoints::cosignatures(database, &said.origin, said.head.size)?;
        let mut note = row.note;
        for cosignature in lines {
            match note.with_line(&cosignature.line) {
                Ok(longer) => note = longer,
                Err(error) => {
                    tracing::warn!(witness = cosignature.witness, %error, "a stored cosignature is left out");
                }
            }
        }
        Ok(Self { note, signed_at: row.signed_at })
    }
}

type Find = fn(&Database, &Name, u64) -> Result<Option<CheckpointRow>, ReadError>;

impl Ledger {
    /// A checkpoint over every entry that was committed before the call: the newest one if it has them, else a new one.
    ///
    /// # Errors
    /// When none can be signed; see [`CheckpointError`].
    pub async fn checkpoint_now(&self) -> Result<Published, CheckpointError> {
        let wanted = self.last_seq().await?;
        let _one = self.log.signing.lock().await;
        let key = self.log_key().await?;
        if self.log.rewind.is_clear()
            && let Some(newest) = self.newest_checkpoint().await?
            && key.base_seq + newest.head().size > wanted
        {
            return Ok(newest);
        }
        self.sign(&key).await
    }

    /// Looks at what the log published before, and signs what has come since. The caller holds the lock of signing.
    pub(crate) async fn sign(&self, key: &Arc<LogKey>) -> Result<Published, CheckpointError> {
        let size = self.grow().await?;
        if self.look_back(key, size).await? {
            return Err(CheckpointError::RolledBack);
        }
        if size == 0 {
            return Err(CheckpointError::Empty);
        }
        if let Some(newest) = self.newest_checkpoint().await?
            && newest.head().size == size
        {
            self.show(&newest);
            return Ok(newest);
        }
        let (signing, now) = (Arc::clone(key), self.authority.clock().now());
        let signed = self.reading(move |database| {
            let head = Tree::new(size, &StoredTiles(database)).head()?;
            let checkpoint = Checkpoint { origin: signing.origin().clone(), head };
            Ok::<_, CheckpointError>(checkpoint.sign(signing.signer())?)
        });
        let row = CheckpointRow { note: signed.await?, signed_at: now };
        self.authority.commit(Unit::default().write(row.insert())).await.map_err(Outage::from)?;
        let published = Published { note: row.note, signed_at: row.signed_at };
        self.copy_out(&published).await;
        self.show(&published);
        Ok(published)
    }

    /// Writes it into the file beside the database. The log goes on without, and says so.
    async fn copy_out(&self, published: &Published) {
        let file = self.log.file.clone();
        let known = Known { note: published.note.clone(), at: Some(published.signed_at) };
        let path = file.path().display().to_string();
        let written = tokio::task::spawn_blocking(move || file.append(&known)).await;
        if let Err(error) = written.unwrap_or_else(|join| Err(std::io::Error::other(join))) {
            self.authority.metrics.evidence.checkpoint_file_errors.inc();
            tracing::warn!(%error, path, "a checkpoint could not be written into the file beside the database; a rewind past it would show only at a witness");
        }
    }

    fn show(&self, newest: &Published) {
        let metrics = &self.authority.metrics.evidence;
        metrics.checkpoint_size.set(newest.head().size.cast_signed());
        metrics.checkpoint_at.set(newest.signed_at.unix());
    }

    /// The newest checkpoint of the current origin.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn newest_checkpoint(&self) -> Result<Option<Published>, CheckpointError> {
        self.find(0, |database, origin, _| checkpoints::newest(database, origin)).await
    }

    /// The checkpoint of the current origin for a tree of `size` leaves.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn checkpoint_of_size(&self, size: u64) -> Result<Option<Published>, CheckpointError> {
        self.find(size, checkpoints::of_size).await
    }

    /// The smallest checkpoint of the current origin that has the entry `seq` in its tree; a new one when none has.
    ///
    /// # Errors
    /// When none can be signed, or there is no such entry ([`CheckpointError::Empty`]).
    pub async fn checkpoint_covering(&self, seq: u64) -> Result<Published, CheckpointError> {
        let index = seq.checked_sub(self.log_key().await?.base_seq).ok_or(CheckpointError::Empty)?;
        let finds: [Find; 2] = [checkpoints::cosigned_covering, checkpoints::covering];
        for find in finds {
            if let Some(found) = self.find(index, find).await? {
                return Ok(found);
            }
        }
        let new = self.checkpoint_now().await?;
        if new.head().size > index { Ok(new) } else { Err(CheckpointError::Empty) }
    }

    async fn find(&self, number: u64, find: Find) -> Result<Option<Published>, CheckpointError> {
        let key = self.log_key().await?;
        let found = self.reading(move |database| {
            let row = find(database, key.origin(), number)?;
            Ok::<_, CheckpointError>(row.map(|row| Published::read(database, row)).transpose()?)
        });
        found.await
    }
}
