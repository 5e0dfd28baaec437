//! Growing the tree over committed entries.
//!
//! One task takes the entries that the tree lacks, in pieces, and writes what they add to the tiles through the one
//! writer. Every piece is whole or not there, so a crash leaves a smaller tree and nothing to repair.

use std::sync::Arc;

use mastio_audit::tree::{Edge, Hash, TILE_WIDTH, TreeError};
use mastio_authority::{Outage, Refusal};
use mastio_core::OrgId;
use mastio_store::{
    ReadError, Unit,
    audit::tree::{self, StoredTiles},
    sqlite::Database,
};

use crate::{Ledger, log_key::LogKeyError};

/// How many whole tiles one unit takes into the tree. After a long backlog other units come between these.
const TILES: u64 = 16;

/// Why the tree does not grow. What it has stays true.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// There is no log yet.
    #[error("{0}")]
    Key(#[from] LogKeyError),
    /// What is stored cannot be continued.
    #[error("{0}")]
    Tree(#[from] TreeError<ReadError>),
    /// The next entry is not there, or does not link to the one before it.
    #[error(
        "the audit tree ends at entry {0}, because the entry after it is missing or does not link to it; run mastio audit verify, and if the entries hold, stop the server and run mastio audit rebuild-tree"
    )]
    Broken(u64),
    /// What is stored is not what the edge was read from.
    #[error(
        "the audit tree does not grow behind entry {0}: its size and its stored hashes do not fit each other; stop the server and run mastio audit rebuild-tree"
    )]
    Unfit(u64),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<ReadError> for GrowError {
    fn from(error: ReadError) -> Self {
        Self::Outage(error.into())
    }
}

impl Refusal for GrowError {
    fn status(&self) -> u16 {
        match self {
            Self::Key(error) => error.status(),
            Self::Tree(TreeError::Source(error)) => Outage::from(error.clone()).status(),
            Self::Tree(_) | Self::Broken(_) | Self::Unfit(_) => 500,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Key(error) => error.reason(),
            Self::Tree(_) | Self::Unfit(_) => "audit_tree_unreadable",
            Self::Broken(_) => "audit_chain_broken",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// The right edge of the stored tree.
#[derive(Debug)]
pub(crate) struct Growing {
    base_seq: u64,
    edge: Edge,
    /// The hash of the last entry in it.
    last: Option<Hash>,
}

impl Growing {
    fn load(database: &Database, org: &OrgId) -> Result<Self, GrowError> {
        let stored = tree::stored(database)?.ok_or(LogKeyError::NoTree)?;
        let edge = Edge::load(stored.size, &StoredTiles(database))?;
        let last = match stored.size {
            0 => None,
            size => {
                let seq = stored.base_seq + size - 1;
                Some(tree::entry_hash(database, org, seq)?.ok_or(GrowError::Broken(seq))?)
            }
        };
        Ok(Self { base_seq: stored.base_seq, edge, last })
    }

    fn next_seq(&self) -> u64 {
        self.base_seq + self.edge.size()
    }

    /// Takes the next entries in memory, and says how to store them. `None` when there are none.
    fn advance(&mut self, database: &Database, org: &OrgId) -> Result<Option<Unit>, GrowError> {
        let from = self.edge.size();
        for _ in 0..TILES {
            self.take_tile(database, org)?;
        }
        let to = self.edge.size();
        let grown = to > from;
        Ok(grown.then(|| Unit::default().write_all(tree::grow(from, to, self.edge.take_growth()))))
    }

    /// Takes as many of the next entries as a tile has. More at once would stay with the allocator, for each thread
    /// that ever read them.
    fn take_tile(&mut self, database: &Database, org: &OrgId) -> Result<(), GrowError> {
        for leaf in tree::leaves(database, org, self.next_seq(), TILE_WIDTH as u64)? {
            let links = self.last.is_none_or(|last| leaf.previous_hash == Some(last));
            if leaf.seq != self.next_seq() || !links {
                return Err(GrowError::Broken(self.next_seq() - 1));
            }
            self.edge.append(&leaf.entry_hash);
            self.last = Some(leaf.entry_hash);
        }
        Ok(())
    }
}

impl Ledger {
    /// Takes every entry into the tree that is committed now, and returns how many there are in it.
    ///
    /// # Errors
    /// When the tree cannot be continued or stored; what was stored counts.
    pub async fn grow(&self) -> Result<u64, GrowError> {
        self.log_key().await?;
        let mut held = self.log.growing.lock().await;
        // Taken out: after any failure the edge in memory may be ahead of the stored one, and is loaded anew.
        let mut growing = held.take();
        loop {
            let org = self.authority.trust().org.clone();
            let step = self.reading(move |database| {
                let mut growing = match growing {
                    Some(growing) => growing,
                    None => Growing::load(database, &org)?,
                };
                let before = growing.next_seq() - 1;
                let unit = growing.advance(database, &org)?;
                Ok::<_, GrowError>((growing, before, unit))
            });
            let (next, before, unit) = step.await?;
            let size = next.edge.size();
            self.authority.metrics.evidence.tree_size.set(size.cast_signed());
            let Some(unit) = unit else {
                *held = Some(next);
                return Ok(size);
            };
            // Nobody else grows the tree of a served database.
            self.authority.commit(unit).await.map_err(|error| match error.into() {
                Outage::Contended => GrowError::Unfit(before),
                outage => outage.into(),
            })?;
            growing = Some(next);
        }
    }

    /// The last entry of our chain that is committed; 0 while there is none.
    pub(crate) async fn last_seq(&self) -> Result<u64, Outage> {
        let org = Arc::clone(&self.authority).trust().org.clone();
        let bounds = self.reading(move |database| Ok::<_, Outage>(tree::bounds(database, &org)?)).await?;
        Ok(bounds.map_or(0, |(_, last)| last))
    }
}
