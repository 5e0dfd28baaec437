//! The log as static files (C2SP tlog-tiles): tiles and hashes of entries, as far as the newest checkpoint goes.

use mastio_audit::tree::{Hash, TileId, Tiles};
use mastio_store::audit::tree::{self, StoredTiles};

use crate::{Ledger, proofs::ProveError};

impl Ledger {
    /// The first `width` hashes of `tile`.
    ///
    /// # Errors
    /// [`ProveError::NotPublished`] when no checkpoint implies them yet.
    pub async fn tile(&self, tile: TileId, width: usize) -> Result<Vec<u8>, ProveError> {
        self.implies(tile, width).await?;
        let read =
            self.reading(move |database| Ok::<_, ProveError>(StoredTiles(database).tile(tile, width)?));
        let mut hashes = read.await?;
        let length = width * size_of::<Hash>();
        if hashes.len() < length {
            return Err(ProveError::Tree(mastio_audit::tree::TreeError::Short(tile)));
        }
        hashes.truncate(length);
        Ok(hashes)
    }

    /// The data of the first `width` leaves below the tile `index` of level 0, which are hashes of entries: each 32
    /// bytes behind its length as two bytes.
    ///
    /// # Errors
    /// [`ProveError::NotPublished`] when no checkpoint implies them yet, or the entries were archived.
    pub async fn entry_bundle(&self, index: u64, width: usize) -> Result<Vec<u8>, ProveError> {
        let tile = TileId { level: 0, index };
        self.implies(tile, width).await?;
        let first = self.log_key().await?.base_seq + index * mastio_audit::tree::TILE_WIDTH as u64;
        let org = self.authority().trust().org.clone();
        let read = self
            .reading(move |database| Ok::<_, ProveError>(tree::leaves(database, &org, first, width as u64)?));
        let leaves = read.await?;
        let gapless = leaves.iter().zip(first..).all(|(leaf, seq)| leaf.seq == seq);
        if leaves.len() != width || !gapless {
            return Err(ProveError::NotPublished);
        }
        Ok(leaves.iter().flat_map(|leaf| [0, 32].into_iter().chain(leaf.entry_hash)).collect())
    }

    async fn implies(&self, tile: TileId, width: usize) -> Result<(), ProveError> {
        let newest = self.newest_checkpoint().await?;
        let implied = newest.is_some_and(|newest| tile.width_in(newest.head().size) >= width);
        if implied { Ok(()) } else { Err(ProveError::NotPublished) }
    }
}
