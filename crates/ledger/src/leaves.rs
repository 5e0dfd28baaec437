//! The leaves of the tree as the entries have them, whatever is stored of the tree.
//!
//! Entries that went into archives are no rows any more, unless they were brought back: of those only the stored leaf
//! hashes are left.

use mastio_audit::tree::{Hash, Peaks, TILE_WIDTH, TileId, Tiles, TreeHead, leaf_hash};
use mastio_core::OrgId;
use mastio_store::{
    ReadError,
    audit::{
        self, Chain,
        tree::{self, StoredTiles},
    },
    sqlite::Database,
};

const WIDTH: u64 = TILE_WIDTH as u64;

/// Why the leaves end early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeafError {
    /// An entry up to this place is in an archive, and its leaf hash is not stored either.
    #[error("the leaf hash of an entry is not stored, and up to {0} they are in archives")]
    Archived(u64),
    /// It should be a row.
    #[error("entry {0} is not in the log")]
    Missing(u64),
    /// The database.
    #[error("{0}")]
    Read(#[from] ReadError),
}

/// The leaves of a chain, read a tile at a time.
#[derive(Debug)]
pub(crate) struct Leaves<'a> {
    database: &'a Database,
    org: &'a OrgId,
    base_seq: u64,
    /// Entries up to this place are in archives.
    archived_through: u64,
    last_seq: u64,
}

impl<'a> Leaves<'a> {
    /// Those of the chain of `org` from `base_seq` to its newest entry.
    pub(crate) fn of(database: &'a Database, org: &'a OrgId, base_seq: u64) -> Result<Self, ReadError> {
        let archived = audit::start(database, &Chain::Organisation(org.to_string()))?;
        let last = tree::bounds(database, org)?.map_or(0, |(_, last)| last);
        Ok(Self { database, org, base_seq, archived_through: archived.seq, last_seq: last })
    }

    /// How many there are.
    pub(crate) fn size(&self) -> u64 {
        (self.last_seq + 1).saturating_sub(self.base_seq)
    }

    /// The place of the last entry of which only a stored hash may be left; `None`: there is none in the tree.
    pub(crate) fn archived_through(&self) -> Option<u64> {
        Some(self.archived_through).filter(|last| *last >= self.base_seq)
    }

    /// Those of the tile `index` of level 0; none behind the last tile. The second: whether stored hashes are among
    /// them.
    pub(crate) fn tile(&self, index: u64) -> Result<(Vec<Hash>, bool), LeafError> {
        let first = self.base_seq + index * WIDTH;
        let last = self.last_seq.min(first + WIDTH - 1);
        let entries = tree::entry_hashes(self.database, self.org, first, last)?;
        let mut stored = None;
        let leaf = |(place, seq): (usize, u64)| match entries.get(&seq) {
            Some(entry_hash) => Ok(leaf_hash(entry_hash)),
            None if seq > self.archived_through => Err(LeafError::Missing(seq)),
            None => {
                let stored: &Vec<u8> = match &stored {
                    Some(stored) => stored,
                    None => stored.insert(StoredTiles(self.database).tile(TileId { level: 0, index }, 0)?),
                };
                stored.as_chunks().0.get(place).copied().ok_or(LeafError::Archived(self.archived_through))
            }
        };
        let leaves = (0..).zip(first..=last).map(leaf).collect::<Result<_, _>>()?;
        Ok((leaves, stored.is_some()))
    }

    /// The tree of the first `size` of them; `None` when there are fewer.
    pub(crate) fn head(&self, size: u64) -> Result<Option<TreeHead>, LeafError> {
        if size > self.size() {
            return Ok(None);
        }
        let mut peaks = Peaks::default();
        for index in 0..size.div_ceil(WIDTH) {
            let rest = usize::try_from(size - peaks.size()).unwrap_or(usize::MAX);
            self.tile(index)?.0.into_iter().take(rest).for_each(|leaf| peaks.push(leaf));
        }
        Ok(Some(peaks.head()))
    }
}
