use mastio_audit::{
    checkpoint::Checkpoint,
    note::{KeyKind, Name, NoteSigner},
    tree::TreeHead,
};
use mastio_core::SystemRng;

use super::*;

fn signer() -> NoteSigner {
    NoteSigner::generate(KeyKind::Log, Name::parse("test/audit").unwrap(), &SystemRng).unwrap()
}

fn known(signer: &NoteSigner, size: u64) -> Known {
    let origin = signer.key().name().clone();
    let note = Checkpoint { origin, head: TreeHead { size, root: [7; 32] } }.sign(signer).unwrap();
    Known { note, at: Some(Stamp::from_unix(1_790_000_000 + size.cast_signed())) }
}

fn sizes(known: &[Known]) -> Vec<u64> {
    known.iter().map(|known| known.note.unverified().head.size).collect()
}

#[test]
fn what_is_appended_is_read_again_and_only_its_owner_may() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let file = CheckpointFile::beside(&dir.path().join("mcp_proxy.db"));
    assert_eq!(file.all().unwrap(), []);
    let all: Vec<Known> = (1..=100).map(|size| known(&signer, size)).collect();
    all.iter().for_each(|known| file.append(known).unwrap());
    assert_eq!(file.all().unwrap(), all);
    let last = file.last().unwrap();
    assert!(last.len() > 20 && last.len() < 100, "{}", last.len());
    assert_eq!(last[..], all[100 - last.len()..]);
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn half_a_note_is_passed_over_and_does_not_spoil_the_next() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let file = CheckpointFile::beside(&dir.path().join("mcp_proxy.db"));
    file.append(&known(&signer, 1)).unwrap();
    file.append(&known(&signer, 2)).unwrap();
    let whole = fs::read(file.path()).unwrap();
    let first = entry(&known(&signer, 1)).len();
    for cut in first + 1..whole.len() {
        fs::write(file.path(), &whole[..cut]).unwrap();
        assert_eq!(sizes(&file.all().unwrap())[0], 1, "cut at {cut}");
        file.append(&known(&signer, 3)).unwrap();
        let after = sizes(&file.all().unwrap());
        // The second counts only with the line that ends it.
        assert!(after == [1, 3] || after == [1, 2, 3], "cut at {cut}: {after:?}");
        assert!(after == [1, 3] || cut + 36 > whole.len(), "cut at {cut}: {after:?}");
    }
}

#[test]
fn it_is_bounded_and_keeps_the_newest() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let file = CheckpointFile::beside(&dir.path().join("mcp_proxy.db"));
    let one = entry(&known(&signer, 5)).repeat(usize::try_from(MAX_BYTES).unwrap() / 150);
    fs::write(file.path(), one).unwrap();
    file.append(&known(&signer, 6)).unwrap();
    let all = sizes(&file.all().unwrap());
    assert_eq!((all.len(), all.first(), all.last()), (KEEP, Some(&5), Some(&6)));
}
