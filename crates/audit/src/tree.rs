//! The Merkle tree over a chain (RFC 9162 §2.1), kept as tiles (C2SP tlog-tiles).
//!
//! Leaf data is the 32 bytes of `entry_hash`; leaf `n` is the entry `base_seq + n` (design decision 17). A tile of level
//! 0 holds up to 256 leaf hashes, one of level `l + 1` the roots of full tiles of level `l`. [`Edge`] grows the tree and
//! says what to store; [`Tree`] reads what is stored and proves from it.

use mastio_core::counted;
use std::cell::RefCell;

use tlog_tiles::{
    tile::Tile,
    tlog::{self, HashReader},
};

use crate::proof::{ConsistencyProof, InclusionProof};

/// A node of the tree, or the hash of an entry.
pub type Hash = [u8; 32];

/// How many hashes a full tile has.
pub const TILE_WIDTH: usize = 256;
/// Larger trees are refused: positions must fit the database's integers with room for the library's arithmetic.
pub const MAX_SIZE: u64 = 1 << 48;

const HEIGHT: u8 = 8;
const HASH: usize = 32;
const FULL: usize = TILE_WIDTH * HASH;

/// The hash of a leaf whose data is `entry_hash`.
#[must_use]
pub fn leaf_hash(entry_hash: &Hash) -> Hash {
    tlog::record_hash(entry_hash).0
}

/// A tree as a number and a hash: what a checkpoint signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeHead {
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl TreeHead {
    /// The tree without leaves (RFC 9162 §2.1.1).
    #[must_use]
    pub fn empty() -> Self {
        Self { size: 0, root: mastio_core::sha256(&[]) }
    }
}

/// The place of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// 0 for leaves.
    pub level: u8,
    /// From the left, 0 first.
    pub index: u64,
}

impl TileId {
    /// How many hashes this tile has in a tree of `size` leaves: 0 when it is not in it, at most [`TILE_WIDTH`].
    #[must_use]
    pub fn width_in(self, size: u64) -> usize {
        let hashes = size.checked_shr(u32::from(self.level) * u32::from(HEIGHT)).unwrap_or(0);
        let before = self.index.saturating_mul(TILE_WIDTH as u64);
        usize::try_from(hashes.saturating_sub(before)).unwrap_or(usize::MAX).min(TILE_WIDTH)
    }
}

/// Hashes to add to a stored tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Which tile.
    pub tile: TileId,
    /// How many bytes it has already; 0 for a new one.
    pub stored: usize,
    /// What comes after them: whole hashes.
    pub hashes: Vec<u8>,
}

/// The right edge of a tree: the one open tile of each level. It is all that is needed to grow.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    size: u64,
    levels: Vec<Open>,
    full: Vec<Growth>,
}

#[derive(Debug, Clone)]
struct Open {
    index: u64,
    bytes: Vec<u8>,
    stored: usize,
}

impl Edge {
    /// The edge of a stored tree of `size` leaves.
    ///
    /// # Errors
    /// What `source` says when a tile cannot be read.
    pub fn load<S: Tiles>(size: u64, source: &S) -> Result<Self, TreeError<S::Error>> {
        let mut levels = Vec::new();
        for level in 0.. {
            let hashes = size.checked_shr(u32::from(level) * u32::from(HEIGHT)).unwrap_or(0);
            if hashes == 0 {
                break;
            }
            let tile = TileId { level, index: hashes / TILE_WIDTH as u64 };
            let bytes = match tile.width_in(size) {
                0 => Vec::new(),
                width => read(source, tile, width)?,
            };
            levels.push(Open { index: tile.index, stored: bytes.len(), bytes });
        }
        Ok(Self { size, levels, full: Vec::new() })
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next leaf.
    pub fn append(&mut self, entry_hash: &Hash) {
        self.push(leaf_hash(entry_hash));
    }

    /// Adds the next leaf, whose hash is known.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        self.size += 1;
        for level in 0u8.. {
            let place = usize::from(level);
            if place == self.levels.len() {
                self.levels.push(Open { index: 0, bytes: Vec::with_capacity(FULL), stored: 0 });
            }
            let open = &mut self.levels[place];
            open.bytes.extend_from_slice(&hash);
            if open.bytes.len() < FULL {
                return;
            }
            hash = Tile::subtree_hash(&open.bytes).0;
            let hashes = open.bytes.split_off(open.stored);
            let tile = TileId { level, index: open.index };
            self.full.push(Growth { tile, stored: open.stored, hashes });
            *open = Open { index: open.index + 1, bytes: Vec::with_capacity(FULL), stored: 0 };
        }
    }

    /// The tiles that became full since the last call.
    pub fn take_full(&mut self) -> Vec<Growth> {
        std::mem::take(&mut self.full)
    }

    /// What was added since the last call, for the store. Store it whole or go back to [`Edge::load`].
    pub fn take_growth(&mut self) -> Vec<Growth> {
        let mut growth = self.take_full();
        for (level, open) in (0u8..).zip(&mut self.levels) {
            if open.bytes.len() > open.stored {
                let tile = TileId { level, index: open.index };
                growth.push(Growth { tile, stored: open.stored, hashes: open.bytes[open.stored..].to_vec() });
                open.stored = open.bytes.len();
            }
        }
        growth
    }
}

/// The root over leaves that go by once, in memory for one hash a level. Nothing can be proved from it.
#[derive(Debug, Clone, Default)]
pub struct Peaks {
    size: u64,
    /// The roots of the full subtrees from the left, the largest first.
    peaks: Vec<Hash>,
}

impl Peaks {
    /// How many leaves went by.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the next leaf.
    pub fn append(&mut self, entry_hash: &Hash) {
        self.push(leaf_hash(entry_hash));
    }

    /// Adds the next leaf, whose hash is known.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // As in a binary counter: each full pair is carried to the level above.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The tree of all that went by.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        let root = self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        TreeHead { size: self.size, root: root.unwrap_or_else(|| mastio_core::sha256(&[])) }
    }
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    tlog::node_hash(tlog::Hash(*left), tlog::Hash(*right)).0
}

/// Where stored tiles are read.
pub trait Tiles {
    /// Why one cannot be read.
    type Error;

    /// The bytes of `tile`: at least its first `width` hashes.
    ///
    /// # Errors
    /// When it cannot be read.
    fn tile(&self, tile: TileId, width: usize) -> Result<Vec<u8>, Self::Error>;
}

/// Why nothing can be proved from the stored tiles.
#[derive(Debug, thiserror::Error)]
pub enum TreeError<E> {
    /// A tile could not be read.
    #[error("a tile of the audit tree cannot be read: {0}")]
    Source(E),
    /// A tile is missing or too short.
    #[error("tile {} of level {} of the audit tree is missing hashes; stop the server and run mastio audit rebuild-tree", .0.index, .0.level)]
    Short(TileId),
    /// There is no such leaf or tree.
    #[error("the audit tree has {}, and {asked} was asked for", counted(*size, "leaf", "leaves"))]
    Outside {
        /// How many leaves there are.
        size: u64,
        /// Which leaf or size was asked for.
        asked: u64,
    },
    /// The stored hashes contradict each other.
    #[error(
        "the stored hashes of the audit tree contradict each other; stop the server and run mastio audit rebuild-tree"
    )]
    Inconsistent,
    /// The stored hashes are not those of the entries, which have the root that was signed for them.
    #[error(
        "the audit tree is damaged: the entries have the root that was signed, and the stored hashes do not; stop the server and run mastio audit rebuild-tree"
    )]
    Damaged,
}

fn read<S: Tiles>(source: &S, tile: TileId, width: usize) -> Result<Vec<u8>, TreeError<S::Error>> {
    let mut bytes = source.tile(tile, width).map_err(TreeError::Source)?;
    if bytes.len() < width * HASH {
        return Err(TreeError::Short(tile));
    }
    bytes.truncate(width * HASH);
    Ok(bytes)
}

/// A stored tree of a given size, which may be smaller than what is stored.
#[derive(Debug)]
pub struct Tree<'a, S> {
    size: u64,
    source: &'a S,
}

impl<'a, S: Tiles> Tree<'a, S> {
    /// The tree of the first `size` leaves.
    #[must_use]
    pub fn new(size: u64, source: &'a S) -> Self {
        Self { size: size.min(MAX_SIZE), source }
    }

    /// Its root.
    ///
    /// # Errors
    /// When the tiles cannot be read.
    pub fn head(&self) -> Result<TreeHead, TreeError<S::Error>> {
        let root = self.reading(|reader| tlog::tree_hash(self.size, reader))?;
        Ok(TreeHead { size: self.size, root: root.0 })
    }

    /// The hash of leaf `index`.
    ///
    /// # Errors
    /// When there is no such leaf, or the tiles cannot be read.
    pub fn leaf(&self, index: u64) -> Result<Hash, TreeError<S::Error>> {
        if index >= self.size {
            return Err(TreeError::Outside { size: self.size, asked: index });
        }
        let place = [tlog::stored_hash_index(0, index)];
        let hashes = self.reading(|reader| reader.read_hashes(&place))?;
        hashes.first().map(|hash| hash.0).ok_or(TreeError::Inconsistent)
    }

    /// What it takes to go on from here without the leaves before.
    ///
    /// # Errors
    /// When the tiles cannot be read.
    pub fn peaks(&self) -> Result<Peaks, TreeError<S::Error>> {
        let indexes = tlog::sub_tree_index(0, self.size, Vec::new());
        let peaks = self.reading(|reader| reader.read_hashes(&indexes))?;
        Ok(Peaks { size: self.size, peaks: peaks.into_iter().map(|hash| hash.0).collect() })
    }

    /// Proves that leaf `index` is in it.
    ///
    /// # Errors
    /// When there is no such leaf, or the tiles cannot be read.
    pub fn inclusion(&self, index: u64) -> Result<InclusionProof, TreeError<S::Error>> {
        if index >= self.size {
            return Err(TreeError::Outside { size: self.size, asked: index });
        }
        let path = self.reading(|reader| tlog::prove_record(self.size, index, reader))?;
        Ok(InclusionProof { index, size: self.size, path: path.into_iter().map(|hash| hash.0).collect() })
    }

    /// Proves that the tree of its first `from` leaves was its beginning.
    ///
    /// # Errors
    /// When `from` is larger, or the tiles cannot be read.
    pub fn consistency(&self, from: u64) -> Result<ConsistencyProof, TreeError<S::Error>> {
        if from > self.size {
            return Err(TreeError::Outside { size: self.size, asked: from });
        }
        if from == 0 {
            return Ok(ConsistencyProof { from, to: self.size, path: Vec::new() });
        }
        let path = self.reading(|reader| tlog::prove_tree(self.size, from, reader))?;
        Ok(ConsistencyProof { from, to: self.size, path: path.into_iter().map(|hash| hash.0).collect() })
    }

    fn reading<T>(
        &self,
        work: impl FnOnce(&Reader<'_, S>) -> Result<T, tlog::Error>,
    ) -> Result<T, TreeError<S::Error>> {
        let reader = Reader { tree: self, failed: RefCell::new(None) };
        work(&reader).map_err(|_| reader.failed.into_inner().unwrap_or(TreeError::Inconsistent))
    }
}

/// Finds nodes in tiles. The library's error has no room for ours, so it is kept beside.
struct Reader<'a, S: Tiles> {
    tree: &'a Tree<'a, S>,
    failed: RefCell<Option<TreeError<S::Error>>>,
}

impl<S: Tiles> HashReader for Reader<'_, S> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        let mut last: Option<(TileId, Vec<u8>)> = None;
        let mut hashes = Vec::with_capacity(indexes.len());
        for index in indexes {
            let wanted = Tile::from_index(HEIGHT, *index);
            let id = TileId { level: wanted.level(), index: wanted.level_index() };
            // Neighbours ask for the same tile one after the other, at growing widths.
            let known =
                last.take().filter(|(tile, bytes)| *tile == id && bytes.len() >= width(&wanted) * HASH);
            let bytes = match known {
                Some((_, bytes)) => bytes,
                None => read(self.tree.source, id, id.width_in(self.tree.size).max(width(&wanted)))
                    .map_err(|error| self.fail(error))?,
            };
            hashes.push(wanted.hash_at_index(&bytes, *index)?);
            last = Some((id, bytes));
        }
        Ok(hashes)
    }
}

impl<S: Tiles> Reader<'_, S> {
    fn fail(&self, error: TreeError<S::Error>) -> tlog::Error {
        *self.failed.borrow_mut() = Some(error);
        tlog::Error::InvalidTile
    }
}

fn width(tile: &Tile) -> usize {
    usize::try_from(tile.width()).unwrap_or(usize::MAX)
}
