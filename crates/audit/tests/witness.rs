//! Requests to a witness, as bytes.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use mastio_audit::{
    checkpoint::{Checkpoint, SignedCheckpoint},
    note::{KeyKind, Name, NoteSigner},
    tree::TreeHead,
    witness::{AddCheckpoint, Relation, RequestError},
};
use mastio_core::SystemRng;

fn note(size: u64, root: u8) -> SignedCheckpoint {
    let origin = Name::parse("acme.example/audit").unwrap();
    let signer = NoteSigner::generate(KeyKind::Log, origin.clone(), &SystemRng).unwrap();
    Checkpoint { origin, head: TreeHead { size, root: [root; 32] } }.sign(&signer).unwrap()
}

#[test]
fn a_request_reads_as_it_is_written() {
    for path in [vec![], vec![[1; 32]], vec![[2; 32]; 63]] {
        let request = AddCheckpoint { old: 7, path, checkpoint: note(9, 1) };
        assert_eq!(request.to_string().parse(), Ok(request));
    }
    let text = AddCheckpoint { old: 0, path: vec![[0; 32]], checkpoint: note(9, 1) }.to_string();
    assert!(
        text.starts_with("old 0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nacme.example/audit\n9\n")
    );
}

#[test]
fn what_is_not_a_request_is_named() {
    let good = AddCheckpoint { old: 10, path: vec![[1; 32]], checkpoint: note(11, 1) }.to_string();
    for (from, to, problem) in [
        ("old 10", "old -1", RequestError::Old),
        ("old 10", "old 010", RequestError::Old),
        ("old 10", "old  10", RequestError::Old),
        ("old 10", "OLD 10", RequestError::Old),
        ("old 10", "old 18446744073709551616", RequestError::Old),
        ("old 10\n", "old 10\r\n", RequestError::Old),
        ("\n\n", "\nAAAA\n\n", RequestError::Proof),
    ] {
        assert_eq!(good.replacen(from, to, 1).parse::<AddCheckpoint>(), Err(problem), "{to:?}");
    }
    let long = AddCheckpoint { path: vec![[1; 32]; 64], ..good.parse().unwrap() };
    assert_eq!(long.to_string().parse::<AddCheckpoint>(), Err(RequestError::Proof));
    assert!(matches!("old 10\n\n".parse::<AddCheckpoint>(), Err(RequestError::Checkpoint(_))));
    assert_eq!("old 10".parse::<AddCheckpoint>(), Err(RequestError::Old));
}

#[test]
fn a_tree_without_entries_has_one_root() {
    let request = |note: SignedCheckpoint| AddCheckpoint { old: 0, path: vec![], checkpoint: note };
    assert_eq!(request(note(0, 1)).relation_to(&TreeHead::empty()), Relation::Contradicts);
    assert_eq!(request(note(1, 1)).relation_to(&TreeHead::empty()), Relation::Extends);
    let known = TreeHead { size: 1, root: [1; 32] };
    assert_eq!(request(note(1, 1)).relation_to(&known), Relation::Stale);
    assert_eq!(request(note(1, 2)).relation_to(&known), Relation::Contradicts);
}
