//! Proofs of single entries out of the stored tiles of a large tree.

use std::time::Duration;

use mastio_audit::tree::{Edge, Hash, Tree, TreeHead};
use mastio_core::{Clock, sha256};
use mastio_store::{
    Store, Unit,
    audit::tree::{self, StoredTiles},
};

use crate::{audit, bench::Bench, error::BenchError, load::Taken, process, scenario::Measured};

/// Entries of one unit when the tree is filled.
const PER_UNIT: u64 = 65_536;

/// Inclusion proofs of entries all over the tree, each verified as the server does before it gives one out.
pub(crate) fn inclusion(bench: &Bench) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    let store = audit::open(bench, &folder.path().join("audit.db"))?;
    plant(bench, &store, bench.options.entries)?;
    let head = Tree::new(bench.options.entries, &StoredTiles(store.database())).head().map_err(broken)?;
    let (before, end) = (process::cpu(std::process::id())?, bench.clock.elapsed() + bench.time());
    let mut runs = Vec::new();
    while runs.is_empty() || bench.clock.elapsed() < end {
        runs.push(prove(bench, &store, &head, runs.len() as u64)?);
    }
    let cpu = process::cpu(std::process::id())? - before;
    store.close();
    let taken: Taken = runs.into_iter().collect();
    Ok(Measured::new(&taken, cpu))
}

fn prove(bench: &Bench, store: &Store, head: &TreeHead, run: u64) -> Result<Duration, BenchError> {
    // A stride that is prime to most sizes: neighbours in time are far apart in the tree.
    let index = run.wrapping_mul(7_919_111) % head.size;
    let begin = bench.clock.elapsed();
    let proof = Tree::new(head.size, &StoredTiles(store.database())).inclusion(index).map_err(broken)?;
    proof.verify(&entry_hash(index), head).map_err(broken)?;
    Ok(bench.clock.elapsed() - begin)
}

/// A stored tree over entries that are nowhere: only their hashes count here.
fn plant(bench: &Bench, store: &Store, entries: u64) -> Result<(), BenchError> {
    bench.runtime.block_on(store.submit(Unit::default().write(tree::begin(1))))?;
    let mut edge = Edge::load(0, &StoredTiles(store.database())).map_err(broken)?;
    while edge.size() < entries {
        let from = edge.size();
        let to = entries.min(from + PER_UNIT);
        (from..to).for_each(|index| edge.append(&entry_hash(index)));
        let unit = Unit::default().write_all(tree::grow(from, to, edge.take_growth()));
        bench.runtime.block_on(store.submit(unit))?;
    }
    Ok(())
}

fn entry_hash(index: u64) -> Hash {
    sha256(&index.to_be_bytes())
}

fn broken(error: impl ToString) -> BenchError {
    BenchError::Audit(error.to_string())
}
