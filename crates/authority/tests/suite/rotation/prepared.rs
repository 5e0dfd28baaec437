//! Roots that were looked at before they count, and what is left of the old key.

use std::{fs, sync::Arc, time::Duration};

use mastio_authority::rotation::{RotationError, Source, Words};

use super::{COMPROMISE, CUT, PASSPHRASE, cut, prepared};
use crate::world::*;

#[tokio::test]
async fn what_was_looked_at_is_what_is_committed_once_and_in_time() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let shown = authority.candidate(&Source::Mint).unwrap();
    let (name, late) = (
        prepared(&authority, Arc::clone(&shown), CUT),
        prepared(&authority, authority.candidate(&Source::Mint).unwrap(), CUT),
    );
    let named = |name: &str| Source::Prepared(name.to_owned());
    authority.rotate_root(named(&name), CUT, &operator()).await.unwrap();
    assert_eq!(authority.trust().root, *shown.certificate());
    assert_eq!(reason(authority.rotate_root(named(&name), CUT, &operator()).await), (404, "candidate_gone"));
    world.clock.advance(Duration::from_secs(601));
    assert_eq!(reason(authority.rotate_root(named(&late), CUT, &operator()).await), (404, "candidate_gone"));
}

#[tokio::test]
async fn a_prepared_root_is_good_for_the_plan_that_it_was_shown_with() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let before = authority.trust().root.clone();
    let prepare =
        |plan| Source::Prepared(prepared(&authority, authority.candidate(&Source::Mint).unwrap(), plan));
    let (leaked, plain) = (prepare(COMPROMISE), prepare(CUT));
    for (source, plan) in [(&leaked, CUT), (&plain, COMPROMISE)] {
        let refused = authority.rotate_root(source.clone(), plan, &operator()).await;
        assert_eq!(reason(refused), (409, "plan_differs"), "{plan:?}");
    }
    let refused = authority.begin_overlap(leaked.clone(), 14, &operator()).await;
    assert_eq!(reason(refused), (409, "plan_differs"));
    assert_eq!(authority.trust().root, before);
    let plan = authority.plan(Words::default(), &leaked).unwrap();
    assert_eq!(plan, COMPROMISE.into(), "who says nothing gets what was shown");
    assert!(authority.rotate_root(leaked, COMPROMISE, &operator()).await.unwrap().continuity.is_err());
}

#[tokio::test]
async fn a_prepared_root_takes_the_place_of_the_root_that_was_shown_and_of_no_other() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for plan in [CUT, COMPROMISE] {
        let prepare =
            || Source::Prepared(prepared(&authority, authority.candidate(&Source::Mint).unwrap(), plan));
        let (first, second) = (prepare(), prepare());
        let rotated = authority.rotate_root(first, plan, &operator()).await.unwrap();
        let refused = authority.rotate_root(second, plan, &operator()).await;
        assert_eq!(reason(refused), (409, "root_changed"), "{plan:?}");
        assert_eq!(authority.trust().root.thumbprint(), rotated.fingerprint);
    }
}

#[tokio::test]
async fn of_several_at_once_one_is_carried_out() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for (plan, rotations) in [(CUT, 1), (COMPROMISE, 2)] {
        let by = operator();
        let rotate = || authority.rotate_root(Source::Mint, plan, &by);
        let (one, two, three) = tokio::join!(rotate(), rotate(), rotate());
        let refused = [one, two, three].into_iter().filter_map(Result::err).collect::<Vec<_>>();
        assert_eq!(refused.len(), 2, "{plan:?}: {refused:?}");
        for error in &refused {
            assert!(matches!(error, RotationError::InProgress), "{plan:?}: {error}");
        }
        assert_eq!((world.events("org_ca.rotated"), world.events("org_ca.rotation_failed")), (rotations, 0));
    }
    // One that goes on by itself stands in the way of others.
    world.sql("UPDATE pki_rotations SET phase = 'distribute', transition = 'overlap', ended_at = NULL WHERE compromise = 0");
    assert_eq!(reason(cut(&authority).await), (409, "rotation_in_progress"));
}

#[tokio::test]
async fn the_old_key_is_readable_nowhere_in_the_database() {
    for more in [&[][..], &[PASSPHRASE]] {
        let world = World::new();
        let authority = world.boot(more).await.unwrap();
        let column = "SELECT value FROM proxy_config WHERE key = 'org_ca_key'";
        let old = world.text(column);
        cut(&authority).await.unwrap();
        let (new, data) = (world.text(column), world.dir.path().join("data"));
        // Lines of PEM, or pieces of the envelope.
        let pieces = |stored: &str| -> Vec<String> {
            let lines = stored.lines().filter(|line| !line.starts_with("-----"));
            lines.map(|line| line[line.len() / 2..].chars().take(40).collect()).collect()
        };
        assert!(!pieces(&old).is_empty() && pieces(&old)[0].len() >= 20, "{:?}", pieces(&old));
        for name in ["mcp_proxy.db", "mcp_proxy.db-wal"] {
            let bytes = fs::read(data.join(name)).unwrap();
            let holds = |piece: &String| bytes.windows(piece.len()).any(|window| window == piece.as_bytes());
            let left: Vec<_> = pieces(&old).into_iter().filter(|piece| holds(piece)).collect();
            assert!(left.is_empty(), "{name} holds {} pieces of the old key", left.len());
            if name == "mcp_proxy.db" {
                assert!(pieces(&new).iter().all(holds), "what is there is found");
            }
        }
        leave(authority);
        assert!(world.boot(more).await.is_ok());
    }
}
