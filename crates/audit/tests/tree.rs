//! The tree, its proofs and its checkpoints.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{cell::Cell, collections::BTreeMap};

use mastio_audit::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    note::{KeyKind, Name, NoteError, NoteKey, NoteSigner},
    proof::ProofError,
    tlog_proof::TlogProof,
    tree::{Edge, Growth, Hash, Peaks, TILE_WIDTH, TileId, Tiles, Tree, TreeError, TreeHead},
};
use mastio_core::{Stamp, SystemRng, sha256};
use proptest::prelude::*;

/// Stored tiles, as the database keeps them.
#[derive(Debug, Default)]
struct Stored {
    tiles: BTreeMap<TileId, Vec<u8>>,
    reads: Cell<usize>,
}

impl Stored {
    fn store(&mut self, growth: Vec<Growth>) {
        for Growth { tile, stored, hashes } in growth {
            let bytes = self.tiles.entry(tile).or_default();
            assert_eq!(bytes.len(), stored, "{tile:?}");
            bytes.extend(hashes);
        }
    }
}

impl Tiles for Stored {
    type Error = &'static str;

    fn tile(&self, tile: TileId, _width: usize) -> Result<Vec<u8>, &'static str> {
        self.reads.set(self.reads.get() + 1);
        self.tiles.get(&tile).cloned().ok_or("no such tile")
    }
}

fn entry(number: u64) -> Hash {
    sha256(&number.to_be_bytes())
}

/// A tree of `size` leaves that was stored in steps, each by an edge that was loaded anew.
fn grown(sizes: &[u64]) -> Stored {
    let mut stored = Stored::default();
    let mut size = 0;
    for next in sizes {
        let mut edge = Edge::load(size, &stored).unwrap();
        (size..*next).for_each(|number| edge.append(&entry(number)));
        stored.store(edge.take_growth());
        assert!(edge.take_growth().is_empty());
        size = *next;
    }
    stored
}

/// RFC 9162 §2.1.1, word for word.
fn root_of(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(b""),
        [leaf] => sha256(&[&[0], leaf.as_slice()].concat()),
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            sha256(&[&[1], root_of(left).as_slice(), root_of(right).as_slice()].concat())
        }
    }
}

fn head(stored: &Stored, size: u64) -> TreeHead {
    Tree::new(size, stored).head().unwrap()
}

#[test]
fn the_root_is_that_of_the_rfc_at_every_size() {
    let stored = grown(&[1, 2, 255, 256, 257, 600, 66_000]);
    let leaves: Vec<Hash> = (0..66_000).map(entry).collect();
    for size in [0, 1, 2, 3, 7, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 66_000] {
        let expected = root_of(&leaves[..usize::try_from(size).unwrap()]);
        assert_eq!(head(&stored, size), TreeHead { size, root: expected }, "{size}");
        let mut peaks = Peaks::default();
        leaves.iter().take(usize::try_from(size).unwrap()).for_each(|leaf| peaks.append(leaf));
        assert_eq!(peaks.head(), TreeHead { size, root: expected }, "{size}");
    }
}

#[test]
fn a_walk_over_entries_goes_on_from_any_size() {
    let stored = grown(&[700]);
    for size in [0, 1, 255, 256, 300, 512, 699] {
        let mut peaks = Tree::new(size, &stored).peaks().unwrap();
        (size..700).for_each(|number| peaks.append(&entry(number)));
        assert_eq!(peaks.head(), head(&stored, 700), "{size}");
    }
}

#[test]
fn a_proof_reads_a_few_tiles_however_large_the_tree() {
    let stored = grown(&[66_000]);
    let tree = Tree::new(66_000, &stored);
    stored.reads.set(0);
    tree.inclusion(1234).unwrap();
    tree.consistency(40_000).unwrap();
    assert!(stored.reads.get() <= 16, "{}", stored.reads.get());
}

#[test]
fn tiles_have_the_widths_of_the_specification() {
    // The example of C2SP tlog-tiles, "Partial Tiles".
    let width = |level, index| TileId { level, index }.width_in(70_000);
    assert_eq!([width(0, 272), width(0, 273), width(0, 274)], [TILE_WIDTH, 112, 0]);
    assert_eq!([width(1, 0), width(1, 1), width(2, 0), width(3, 0)], [TILE_WIDTH, 17, 1, 0]);
    assert_eq!(TileId { level: 200, index: u64::MAX }.width_in(u64::MAX), 0);
}

#[test]
fn what_is_not_stored_is_named() {
    let mut stored = grown(&[300]);
    let tree = Tree::new(300, &stored);
    assert!(matches!(tree.inclusion(300), Err(TreeError::Outside { size: 300, asked: 300 })));
    assert!(matches!(tree.consistency(301), Err(TreeError::Outside { size: 300, asked: 301 })));
    let missing = TileId { level: 0, index: 0 };
    stored.tiles.get_mut(&missing).unwrap().truncate(32 * 100);
    let short = Tree::new(300, &stored).inclusion(200);
    assert!(matches!(short, Err(TreeError::Short(tile)) if tile == missing), "{short:?}");
    stored.tiles.remove(&missing);
    assert!(matches!(Tree::new(300, &stored).inclusion(5), Err(TreeError::Source("no such tile"))));
}

proptest! {
    #[test]
    fn proofs_hold_for_what_is_there_and_nothing_else(
        sizes in prop::collection::btree_set(1u64..900, 1..6),
        pick in any::<prop::sample::Index>(),
        past in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
    ) {
        let sizes: Vec<u64> = sizes.into_iter().collect();
        let size = *sizes.last().unwrap();
        let stored = grown(&sizes);
        let tree = Tree::new(size, &stored);
        let now = tree.head().unwrap();

        let index = pick.index(usize::try_from(size).unwrap()) as u64;
        let proof = tree.inclusion(index).unwrap();
        prop_assert_eq!(proof.verify(&entry(index), &now), Ok(()));
        prop_assert_eq!(proof.verify(&entry(index + 1), &now), Err(ProofError::NotIncluded));
        let other = TreeHead { root: entry(0), ..now };
        prop_assert_eq!(proof.verify(&entry(index), &other), Err(ProofError::NotIncluded));
        if !proof.path.is_empty() {
            let mut forged = proof.clone();
            forged.path[flip.index(proof.path.len())][0] ^= 1;
            prop_assert_eq!(forged.verify(&entry(index), &now), Err(ProofError::NotIncluded));
            forged.path.pop();
            prop_assert_eq!(forged.verify(&entry(index), &now), Err(ProofError::NotIncluded));
        }

        let from = past.index(usize::try_from(size).unwrap() + 1) as u64;
        let before = head(&stored, from);
        let proof = tree.consistency(from).unwrap();
        prop_assert_eq!(proof.verify(&before, &now), Ok(()));
        if from > 0 {
            let rewritten = TreeHead { root: entry(99), ..before };
            prop_assert!(proof.verify(&rewritten, &now).is_err());
        }
    }

    #[test]
    fn no_number_makes_a_check_panic(index: u64, size: u64, from: u64, length in 0usize..80) {
        let path = vec![entry(1); length];
        let head = TreeHead { size, root: entry(2) };
        let inclusion = mastio_audit::proof::InclusionProof { index, size, path: path.clone() };
        prop_assert!(inclusion.verify(&entry(3), &head).is_err());
        let consistency = mastio_audit::proof::ConsistencyProof { from, to: size, path };
        let _ = consistency.verify(&TreeHead { size: from, root: entry(4) }, &head);
    }
}

fn signer(kind: KeyKind, name: &str) -> NoteSigner {
    NoteSigner::generate(kind, Name::parse(name).unwrap(), &SystemRng).unwrap()
}

fn checkpoint(origin: &str, size: u64) -> Checkpoint {
    Checkpoint { origin: Name::parse(origin).unwrap(), head: TreeHead { size, root: entry(size) } }
}

#[test]
fn a_checkpoint_is_believed_only_as_it_was_signed() {
    let log = signer(KeyKind::Log, "mastio.example/audit");
    let signed = checkpoint("mastio.example/audit", 7).sign(&log).unwrap();
    let read = SignedCheckpoint::parse(signed.as_str()).unwrap();
    assert_eq!(read.verify(log.key()).unwrap(), &checkpoint("mastio.example/audit", 7));

    let forged = SignedCheckpoint::parse(&signed.to_string().replace("\n7\n", "\n8\n")).unwrap();
    assert_eq!(forged.verify(log.key()), Err(NoteError::Forged(log.key().to_string())));
    let stranger = signer(KeyKind::Log, "mastio.example/audit");
    assert_eq!(read.verify(stranger.key()), Err(NoteError::Unsigned(stranger.key().to_string())));
    let other = signer(KeyKind::Log, "elsewhere");
    assert!(matches!(read.verify(other.key()), Err(NoteError::OtherOrigin { .. })));
    assert!(matches!(checkpoint("elsewhere", 7).sign(&log), Err(NoteError::OtherOrigin { .. })));
}

#[test]
fn a_witness_signs_what_it_saw_and_when() {
    let log = signer(KeyKind::Log, "mastio.example/audit");
    let witness = signer(KeyKind::Witness, "witness.example");
    let signed = checkpoint("mastio.example/audit", 7).sign(&log).unwrap();
    let line = signed.cosign(&witness, Stamp::from_unix(1_790_000_000)).unwrap();
    let both = signed.with_line(&line).unwrap();
    assert_eq!(both.cosigned_at(witness.key()), Ok(Stamp::from_unix(1_790_000_000)));
    assert!(both.verify(log.key()).is_ok());

    let other = checkpoint("mastio.example/audit", 8).sign(&log).unwrap().with_line(&line).unwrap();
    assert_eq!(other.cosigned_at(witness.key()), Err(NoteError::Forged(witness.key().to_string())));
    assert!(other.verify(log.key()).is_ok(), "a stranger's bad line is not the log's");
    assert!(matches!(signed.cosign(&log, Stamp::from_unix(1)), Err(NoteError::Kind(_))));
    assert!(matches!(both.cosigned_at(log.key()), Err(NoteError::Kind(_))));
}

#[test]
fn keys_are_kept_and_read_again() {
    let log = signer(KeyKind::Log, "mastio.example/audit");
    let text = log.key().to_string();
    assert_eq!(&text.parse::<NoteKey>().unwrap(), log.key());
    let kept =
        NoteSigner::from_pkcs8(KeyKind::Log, log.key().name().clone(), &log.to_pkcs8().unwrap()).unwrap();
    assert_eq!(kept.key(), log.key());
    assert_eq!(format!("{log:?}"), format!("NoteSigner({text:?})"));
    let (name, rest) = text.split_once('+').unwrap();
    for bad in ["", "a+b", &format!("other+{rest}"), &format!("{name}+00000000+AAAA"), &format!("{text}=")] {
        assert_eq!(bad.parse::<NoteKey>(), Err(NoteError::Key), "{bad}");
    }
    for bad in ["", "a b", "a+b", "a\nb", &"x".repeat(257)] {
        assert_eq!(Name::parse(bad), Err(NoteError::Name), "{bad}");
    }
}

#[test]
fn what_is_no_checkpoint_is_refused() {
    let log = signer(KeyKind::Log, "o");
    let good = checkpoint("o", 7).sign(&log).unwrap().to_string();
    for bad in [
        String::new(),
        "o\n7\n".to_owned(),
        good.replace("\n7\n", "\n07\n"),
        good.replace("\n7\n", "\n-7\n"),
        good.replace("\n7\n", "\n18446744073709551615\n"),
        good.replace("o\n7", "\n7"),
        good.trim_end().to_owned(),
        good.replace('\u{2014}', "-"),
    ] {
        assert_eq!(SignedCheckpoint::parse(&bad), Err(NoteError::Malformed), "{bad:?}");
    }
}

#[test]
fn a_proof_file_carries_its_checkpoint() {
    let stored = grown(&[300]);
    let tree = Tree::new(300, &stored);
    let log = signer(KeyKind::Log, "mastio.example/audit");
    let origin = log.key().name().clone();
    let signed = Checkpoint { origin, head: tree.head().unwrap() }.sign(&log).unwrap();
    let proof = TlogProof { inclusion: tree.inclusion(77).unwrap(), checkpoint: signed };
    let text = proof.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 77\n"), "{text}");
    let read: TlogProof = text.parse().unwrap();
    assert_eq!(read, proof);
    let believed = read.checkpoint.verify(log.key()).unwrap();
    assert_eq!(read.inclusion.verify(&entry(77), &believed.head), Ok(()));
    assert!(text.replace("v1\n", "v1\nextra AAAA\n").parse::<TlogProof>().is_ok());
    for bad in
        [text.replace("@v1", "@v2"), text.replace("index 77", "index 077"), text.replacen("=\n", "\n", 1)]
    {
        assert_eq!(bad.parse::<TlogProof>(), Err(NoteError::Malformed));
    }
}
