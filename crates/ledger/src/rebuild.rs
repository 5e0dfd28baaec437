//! Computing the tree anew from the entries, after its stored tiles or its size were damaged.
//!
//! The entries must verify, and have the root of the newest signed checkpoint: if they do not, it is they that were
//! changed, and a tree over them would hide it. Of entries in archives the stored leaf hashes are taken, which must lead
//! to the same root; or the entries themselves, where they were brought back.

mod error;

use std::collections::BTreeMap;

use crate::{leaves::Leaves, log_key::Announcement, rewind};
use mastio_audit::{
    checkpoint::Checkpoint,
    tree::{Edge, Growth, Hash, Peaks, Tiles, TreeHead},
};
use mastio_core::{Event, OrgId, event::catalogue};
use mastio_store::{
    Store, Unit,
    audit::{
        self, Chain, Walk, checkpoints, draft, origins,
        tree::{self, StoredTiles, StoredTree},
    },
    sqlite::Database,
};

pub use error::RebuildError;

/// Rows verified, and tiles written, in one piece.
const ROWS: u32 = 2000;
const TILES: usize = 64;

/// What was put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// How many entries the tree has.
    pub size: u64,
    /// How many of them the checkpoint has that it was held against.
    pub checkpoint_size: u64,
    /// How many tiles were written anew.
    pub replaced: u64,
    /// How many tiles were removed.
    pub removed: u64,
    /// The damage had been told as a rewind; that is withdrawn.
    pub rewind_withdrawn: bool,
}

/// Computes the tree of `org` from its entries and puts what differs in the place of what is stored, as `by` asks; `None`
/// when nothing does. No server may run. `progress` is told how many entries were verified and taken in, of twice as many
/// as there are.
///
/// # Errors
/// [`RebuildError`]; then nothing was changed.
pub async fn rebuild_tree(
    store: &Store,
    org: &OrgId,
    by: &str,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Option<Rebuilt>, RebuildError> {
    let database = store.database();
    let signed = Signed::newest(database)?;
    let leaves = Leaves::of(database, org, signed.base_seq)?;
    let (size, expected) = (leaves.size(), signed.checkpoint.head);
    if size < expected.size {
        return Err(RebuildError::Cut { signed: expected.size, entries: size });
    }
    let verified = verify(database, org, &mut |rows| progress(rows, 2 * size))?;
    let told = rewind::told_by(database, &signed.row)?;
    let mut building = Building::new(store, [Some(expected), told].into_iter().flatten());
    store.submit(Unit::default().write_all(draft::begin())).await?;
    for index in 0.. {
        let (tile, is_stored) = leaves.tile(index).map_err(|error| RebuildError::of(error, database, org))?;
        if tile.is_empty() {
            break;
        }
        building.take(&tile, is_stored).await?;
        progress(verified + building.peaks.size(), 2 * size);
    }
    let built = building.finish().await?;
    if !built.has(expected) {
        return Err(match leaves.archived_through().filter(|_| built.from_tiles) {
            Some(through) => RebuildError::archived(through, database, org),
            None => RebuildError::Changed { size: expected.size },
        });
    }
    let rebuilt = Rebuilt {
        size,
        checkpoint_size: expected.size,
        replaced: built.differing as u64,
        removed: draft::surplus(database, size)?,
        rewind_withdrawn: told.is_some_and(|told| built.has(told)),
    };
    exchange(store, &signed, rebuilt, built.differing, by).await
}

/// Puts the draft in the place of what differs from it, and tells it; `None` when nothing does.
async fn exchange(
    store: &Store,
    signed: &Signed,
    rebuilt: Rebuilt,
    tiles: usize,
    by: &str,
) -> Result<Option<Rebuilt>, RebuildError> {
    let Rebuilt { size, checkpoint_size, replaced, removed, rewind_withdrawn } = rebuilt;
    let stored = tree::stored(store.database())?;
    let is_whole = stored == Some(StoredTree { base_seq: signed.base_seq, size });
    if is_whole && (replaced, removed, rewind_withdrawn) == (0, 0, false) {
        return Ok(None);
    }
    let event = Event::new(&catalogue::TreeRebuilt {
        origin: signed.checkpoint.origin.to_string(),
        entries: size,
        entries_before: stored.map(|stored| stored.size),
        checkpoint_entries: checkpoint_size,
        tiles_replaced: replaced,
        tiles_removed: removed,
        rewind_withdrawn,
        by: by.to_owned(),
    });
    let unit = Unit::of(event).write_all(draft::exchange(signed.base_seq, size, tiles));
    store.submit(unit.write_all(rewind_withdrawn.then(rewind::forget))).await?;
    Ok(Some(rebuilt))
}

/// What the newest checkpoint says, and where the tree begins.
struct Signed {
    row: origins::OriginRow,
    checkpoint: Checkpoint,
    base_seq: u64,
}

impl Signed {
    fn newest(database: &Database) -> Result<Self, RebuildError> {
        for row in origins::all(database)? {
            let Some(newest) = checkpoints::newest(database, row.vkey.name())? else { continue };
            let unsigned = |_| RebuildError::Unsigned(row.vkey.name().to_string());
            let checkpoint = newest.note.verify(&row.vkey).map_err(unsigned)?.clone();
            // The row that says it too may be damaged.
            return Ok(Self { checkpoint, base_seq: Announcement::read(&row.announcement)?.base_seq, row });
        }
        Err(RebuildError::NoCheckpoint)
    }
}

/// Verifies hashes and links of every entry, and says how many there are.
fn verify(database: &Database, org: &OrgId, progress: &mut dyn FnMut(u64)) -> Result<u64, RebuildError> {
    let chain = Chain::Organisation(org.to_string());
    let start = audit::start(database, &chain)?;
    let (mut walk, mut verified) = (Walk::new(chain, start, None), 0);
    loop {
        match walk.advance(database, ROWS)?? {
            0 => return Ok(verified),
            rows => verified += rows,
        }
        progress(verified);
    }
}

/// A tree that is being computed. Full tiles that differ from what is stored go into the draft.
struct Building<'a> {
    store: &'a Store,
    edge: Edge,
    peaks: Peaks,
    /// The root of each size that was signed or told before.
    roots: BTreeMap<u64, Hash>,
    waiting: Vec<Growth>,
    differing: usize,
    from_tiles: bool,
}

impl<'a> Building<'a> {
    /// `said`: the trees that [`Building::has`] is asked for.
    fn new(store: &'a Store, said: impl Iterator<Item = TreeHead>) -> Self {
        Self {
            store,
            edge: Edge::default(),
            peaks: Peaks::default(),
            roots: said.map(|said| (said.size, Hash::default())).collect(),
            waiting: Vec::new(),
            differing: 0,
            from_tiles: false,
        }
    }

    /// Whether its beginning is this tree.
    fn has(&self, said: TreeHead) -> bool {
        self.roots.get(&said.size) == Some(&said.root)
    }

    /// Takes the next leaves. `is_stored`: some of them are hashes that were stored.
    async fn take(&mut self, leaves: &[Hash], is_stored: bool) -> Result<(), RebuildError> {
        self.from_tiles |= is_stored;
        for leaf in leaves {
            self.edge.push(*leaf);
            self.peaks.push(*leaf);
            if let Some(root) = self.roots.get_mut(&self.peaks.size()) {
                *root = self.peaks.head().root;
            }
        }
        let full = self.edge.take_full();
        self.compare(full)?;
        if self.waiting.len() >= TILES { self.write().await } else { Ok(()) }
    }

    async fn finish(mut self) -> Result<Self, RebuildError> {
        let open = self.edge.take_growth();
        self.compare(open)?;
        self.write().await?;
        Ok(self)
    }

    fn compare(&mut self, tiles: Vec<Growth>) -> Result<(), RebuildError> {
        for growth in tiles {
            if StoredTiles(self.store.database()).tile(growth.tile, 0)? != growth.hashes {
                self.waiting.push(growth);
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), RebuildError> {
        self.differing += self.waiting.len();
        let statements = self.waiting.drain(..).map(draft::put);
        self.store.submit(Unit::default().write_all(statements)).await?;
        Ok(())
    }
}
