use std::time::Duration;

use mastio_core::{OrgId, Stamp, SystemRng};
use mastio_pki::{Issuer, KeyPair, profile};
use mastio_store::rotations::{Mode, Transition};

use super::*;

fn now() -> Stamp {
    Stamp::from_unix(1_800_000_000)
}

fn root() -> Issuer<KeyPair> {
    let key = KeyPair::generate_p256().unwrap();
    let org = OrgId::parse("acme").unwrap();
    Issuer::new(profile::root(&org, &key, now(), &SystemRng).unwrap(), key).unwrap()
}

/// The row of a root that certified from the day `day` on.
fn row(root: &Issuer<KeyPair>, state: CaState, day: u32) -> CaRow {
    let since = now().plus(Duration::from_secs(86_400) * day);
    CaRow {
        thumbprint: root.certificate().thumbprint(),
        kind: CaKind::Root,
        state,
        certificate: root.certificate().pem(),
        private: None,
        cut: false,
        compromised: false,
        link: None,
        lineage: None,
        created_at: since,
        activated_at: (state != CaState::Staged).then_some(since),
        superseded_at: (state == CaState::Superseded).then(|| since.plus(Duration::from_secs(86_400))),
        retired_at: None,
    }
}

fn rotation(old: &CaRow, new: &CaRow, compromise: bool) -> Rotation {
    Rotation {
        id: "r".to_owned(),
        mode: Mode::Mint,
        transition: Transition::Cut,
        phase: Phase::Done,
        paused: false,
        compromise,
        old_root: old.thumbprint,
        new_root: new.thumbprint,
        started_by: "operator".to_owned(),
        started_at: now(),
        changed_at: now(),
        ended_at: Some(now()),
        error: None,
    }
}

fn vouched(line: &Line) -> Vec<bool> {
    line.steps().map(|step| step.vouched.is_ok()).collect()
}

#[test]
fn the_line_follows_statements_whatever_the_order_of_the_rows() {
    let roots = [root(), root(), root()];
    let mut rows = [
        row(&roots[0], CaState::Retired, 0),
        row(&roots[1], CaState::Superseded, 1),
        row(&roots[2], CaState::Active, 2),
    ];
    for index in 0..2 {
        rows[index].lineage =
            Some(lineage::vouch(&roots[index], roots[index + 1].certificate(), now()).unwrap());
    }
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let line = line_of(&order.map(|index| rows[index].clone()), &[]).unwrap();
        let expected: Vec<_> = roots.iter().map(Issuer::certificate).collect();
        assert_eq!(line.roots().collect::<Vec<_>>(), expected);
        assert_eq!(vouched(&line), [true, true]);
    }
}

#[test]
fn a_compromised_root_vouches_for_nothing_whatever_its_row_says() {
    let (old, new) = (root(), root());
    let mut rows = [row(&old, CaState::Superseded, 0), row(&new, CaState::Active, 1)];
    rows[0].compromised = true;
    rows[0].lineage = Some(lineage::vouch(&old, new.certificate(), now()).unwrap());
    let line = line_of(&rows, &[rotation(&rows[0], &rows[1], true)]).unwrap();
    let broken = line.steps().next().unwrap().vouched.unwrap_err();
    assert_eq!(broken, mastio_pki::lineage::StepError::Break(Break::Compromise));
}

#[test]
fn a_later_compromise_leaves_earlier_statements_what_they_are() {
    let roots = [root(), root(), root()];
    let mut rows = [
        row(&roots[0], CaState::Superseded, 0),
        row(&roots[1], CaState::Superseded, 1),
        row(&roots[2], CaState::Active, 2),
    ];
    rows[0].lineage = Some(lineage::vouch(&roots[0], roots[1].certificate(), now()).unwrap());
    for row in &mut rows[..2] {
        row.compromised = true;
    }
    let rotations = [rotation(&rows[1], &rows[2], true), rotation(&rows[0], &rows[1], false)];
    assert_eq!(vouched(&line_of(&rows, &rotations).unwrap()), [true, false]);
}

#[test]
fn a_compromise_that_ends_an_overlap_breaks_the_line_at_both_of_its_roots() {
    let roots = [root(), root(), root()];
    let mut rows = [
        row(&roots[0], CaState::Superseded, 0),
        row(&roots[1], CaState::Superseded, 1),
        row(&roots[2], CaState::Active, 2),
    ];
    rows[0].lineage = Some(lineage::vouch(&roots[0], roots[1].certificate(), now()).unwrap());
    for row in &mut rows[..2] {
        row.compromised = true;
    }
    let ended = Rotation {
        transition: Transition::Overlap,
        phase: Phase::Aborted,
        ..rotation(&rows[0], &rows[1], false)
    };
    let rotations = [rotation(&rows[1], &rows[2], true), ended];
    let line = line_of(&rows, &rotations).unwrap();
    let expected: Vec<_> = roots.iter().map(Issuer::certificate).collect();
    assert_eq!(line.roots().collect::<Vec<_>>(), expected);
    assert_eq!(vouched(&line), [false, false]);
}

#[test]
fn a_root_that_came_back_is_led_to_by_nobody_twice() {
    // A rotation with overlap that was undone after its activation: the old root is the active one again.
    let (old, new) = (root(), root());
    let mut rows = [row(&old, CaState::Active, 2), row(&new, CaState::Retired, 1)];
    rows[0].lineage = Some(lineage::vouch(&old, new.certificate(), now()).unwrap());
    let line = line_of(&rows, &[]).unwrap();
    assert_eq!(line.roots().collect::<Vec<_>>(), [old.certificate()]);
}

#[test]
fn what_an_adopted_database_tells_is_a_line_with_a_break() {
    let (first, second, active, staged) = (root(), root(), root(), root());
    let rows = [
        row(&first, CaState::Superseded, 0),
        row(&second, CaState::Superseded, 1),
        row(&active, CaState::Active, 3),
        row(&staged, CaState::Staged, 4),
    ];
    let line = line_of(&rows, &[]).unwrap();
    let expected = [first.certificate(), second.certificate(), active.certificate()];
    assert_eq!(line.roots().collect::<Vec<_>>(), expected);
    assert_eq!(vouched(&line), [false, false]);
    assert!(line_of(&rows[..2], &[]).is_none());
}
