//! Updates that fail, and the power that goes at any unit of them.

use std::{sync::Arc, time::Duration};

use mastio_authority::{Authority, updates::UpdateError};
use mastio_core::Clock;
use mastio_pki::Certificate;
use mastio_store::updates::Status;
use secrecy::ExposeSecret;

use super::*;

const UNDER_WAY: &str = "SELECT count(*) FROM update_under_way";

/// After `left` more commits the database takes no more, as if the process had died there.
fn die_after(world: &World, left: u32) {
    world.sql(&format!(
        "CREATE TABLE life (rest INTEGER); INSERT INTO life VALUES ({left}); \
         CREATE TRIGGER death BEFORE UPDATE ON cullis_writer WHEN NEW.id = 1 BEGIN \
         SELECT RAISE(ABORT, 'dead') WHERE (SELECT rest FROM life) <= 0; UPDATE life SET rest = rest - 1; END"
    ));
}

fn revive(world: &World) {
    world.sql("DROP TRIGGER death; DROP TABLE life");
}

/// A start after such a death. The database of the dead may take a moment to close.
async fn start_again(world: &World, dead: Arc<Authority>) -> Arc<Authority> {
    drop(dead);
    for _ in 0..500 {
        if let Ok(authority) = world.boot(&[]).await {
            return authority;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not start")
}

/// What is visible of an update: the root, the pinned leaf, and where its row is.
async fn seen(authority: &Authority, world: &World, holder: &Holder) -> (Certificate, Certificate, i64) {
    let applied = world.count("SELECT count(*) FROM pending_updates WHERE status = 'applied'");
    (authority.trust().root.clone(), leaf_of(&row(authority, holder).await), applied)
}

#[tokio::test]
async fn whenever_the_power_goes_it_is_before_or_after() {
    let world = legacy();
    let (mut authority, holders) = halted(&world, &[], &["alice"]).await;
    let alice = &holders[0];
    let before = seen(&authority, &world, alice).await;
    let mut units = 0;
    loop {
        die_after(&world, units);
        let _ = authority.apply_update(PATH_LEN, None, &operator()).await;
        revive(&world);
        authority = start_again(&world, authority).await;
        let after = seen(&authority, &world, alice).await;
        assert_eq!(world.count(UNDER_WAY), 0, "after {units} units");
        assert!(authority.certificate(&alice.peer()).await.is_ok(), "after {units} units");
        if after == before {
            assert!(halt(&authority).is_some(), "after {units} units");
            units += 1;
            assert!(units < 50, "it never ends");
            continue;
        }
        let all_changed = after.0 != before.0 && after.1 != before.1 && after.2 == 1;
        assert!(all_changed && halt(&authority).is_none(), "after {units} units");
        break;
    }
    assert!(units > 2, "the test counts units: {units}");
    let applied = seen(&authority, &world, alice).await;
    assert_ne!(applied.0, before.0);

    let mut units = 0;
    loop {
        die_after(&world, units);
        let _ = authority.roll_back_update(PATH_LEN, &operator()).await;
        revive(&world);
        authority = start_again(&world, authority).await;
        let now = seen(&authority, &world, alice).await;
        assert!(now == applied || now == before, "after {units} units");
        mint_mtls(&authority, &alice.peer()).await.unwrap();
        if now == before {
            break;
        }
        units += 1;
    }
}

#[tokio::test]
async fn a_failure_changes_nothing_and_can_be_tried_again_or_set_aside() {
    let world = legacy();
    let (authority, holders) = halted(&world, &[], &["alice"]).await;
    let before = seen(&authority, &world, &holders[0]).await;
    let broken =
        "CREATE TRIGGER broken BEFORE INSERT ON leaf_generations BEGIN SELECT RAISE(ABORT, 'no room'); END";
    world.sql(broken);
    let failed = authority.apply_update(PATH_LEN, None, &operator()).await;
    assert!(matches!(failed, Err(UpdateError::Failed(_))), "{failed:?}");
    assert_eq!(seen(&authority, &world, &holders[0]).await, before);
    authority.reload().unwrap();
    assert_eq!(halt(&authority), Some(Halt::PendingUpdate(PATH_LEN)), "it is as broken as before");
    let row = authority.updates().unwrap().remove(0).row.unwrap();
    assert_eq!(row.status, Status::Failed);
    assert!(row.error.unwrap().contains("no room"));
    assert_eq!(world.events("admin.update_apply_failed"), 1);
    let kept = || authority.updates().unwrap().remove(0).snapshot.unwrap();
    let first = kept();

    let later = Duration::from_secs(13 * 86_400);
    world.clock.advance(later);
    world.sql("DROP TRIGGER broken");
    authority.apply_update(PATH_LEN, None, &operator()).await.unwrap();
    let retried = kept();
    assert_eq!(retried.created_at, first.created_at, "it is what was before the first attempt");
    assert_eq!(
        retried.wiped_after,
        first.wiped_after.map(|end| end.plus(later)),
        "and there is all the time for the way back"
    );
    assert_eq!(reason(authority.apply_update(PATH_LEN, None, &operator()).await), (409, "already_applied"));
    assert_eq!(kept(), retried, "a refusal does not touch it");
}

/// A Mastio whose first attempt failed; the next one would not.
async fn failed_once(world: &World) -> Arc<Authority> {
    let (authority, _) = halted(world, &[], &["alice"]).await;
    world.sql("CREATE TRIGGER broken BEFORE UPDATE ON pki_cas BEGIN SELECT RAISE(ABORT, 'no room'); END");
    authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap_err();
    world.sql("DROP TRIGGER broken");
    authority
}

#[tokio::test]
async fn a_retry_keeps_what_the_first_attempt_kept() {
    let world = legacy();
    let authority = failed_once(&world).await;
    world
        .sql("UPDATE migration_state_backups SET snapshot_json = json_set(snapshot_json, '$.mark', 'first')");
    authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
    let first = "SELECT count(*) FROM migration_state_backups WHERE snapshot_json ->> 'mark' = 'first'";
    assert_eq!(world.count(first), 1);
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!(authority.trust().root.pem(), vector("root"));
}

/// Nothing leads back with it.
#[tokio::test]
async fn a_retry_does_not_keep_what_cannot_be_used_or_is_of_other_cas() {
    let (root, key) = crate::rotation::root(World::new().clock.now(), |_| {});
    let (root, key) = (root.pem(), key.to_pkcs8_pem());
    let key = key.expose_secret();
    for change in [
        format!("json_set(snapshot_json, '$.org_ca_cert_pem', '{root}', '$.org_ca_key_pem', '{key}')"),
        format!("json_set(snapshot_json, '$.org_ca_key_pem', '{key}')"),
        format!("json_set(snapshot_json, '$.mastio_ca_cert_pem', '{root}')"),
        "json_remove(snapshot_json, '$.org_ca_key_pem')".to_owned(),
        "json_remove(snapshot_json, '$.mastio_ca_cert_pem')".to_owned(),
        "json_remove(snapshot_json, '$.format')".to_owned(),
        "CAST(snapshot_json AS BLOB)".to_owned(),
        "'nothing'".to_owned(),
    ] {
        let world = legacy();
        let authority = failed_once(&world).await;
        world.sql(&format!("UPDATE migration_state_backups SET snapshot_json = {change}"));
        authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
        authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
        assert_eq!(authority.trust().root.pem(), vector("root"), "{change}");
    }
}

#[tokio::test]
async fn an_update_that_the_database_failed_is_ended_and_says_so() {
    let world = legacy();
    let (authority, holders) = halted(&world, &[], &["alice"]).await;
    let before = seen(&authority, &world, &holders[0]).await;
    die_after(&world, 2);
    authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap_err();
    revive(&world);
    assert_eq!(world.count(UNDER_WAY), 1, "nothing could be written any more");
    authority.tidy_updates().await.unwrap();
    assert_eq!(world.count(UNDER_WAY), 0);
    let row = authority.updates().unwrap().remove(0).row.unwrap();
    assert_eq!(row.status, Status::Failed);
    assert!(row.error.unwrap().contains("apply it again"));
    assert_eq!(seen(&authority, &world, &holders[0]).await, before);
    authority.reload().unwrap();
    assert_eq!(authority.trust().updates.waiting(), 1);
    authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
}

#[tokio::test]
async fn an_update_that_was_applied_at_the_second_try_is_taken_back() {
    let world = legacy();
    let (authority, holders) = halted(&world, &[], &["alice"]).await;
    let before = seen(&authority, &world, &holders[0]).await;
    world.sql(
        "CREATE TRIGGER broken BEFORE INSERT ON leaf_generations BEGIN SELECT RAISE(ABORT, 'no room'); END",
    );
    authority.apply_update(PATH_LEN, None, &operator()).await.unwrap_err();
    world.sql("DROP TRIGGER broken");
    authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
    assert_ne!(authority.trust().root, before.0);
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!(seen(&authority, &world, &holders[0]).await, before);
}

/// What the existing system tried, and could not finish, is tried here; its snapshot knows nothing of what is here.
#[tokio::test]
async fn an_update_that_the_existing_system_failed_is_taken_back_to_what_was_here() {
    for snapshot in ["{\"org_ca_cert_pem\": \"x\"}", "nothing"] {
        let world = legacy();
        let (authority, holders) = halted(&world, &[], &["alice"]).await;
        let before = seen(&authority, &world, &holders[0]).await;
        world.sql(&format!(
            "UPDATE pending_updates SET status = 'failed'; \
             INSERT INTO migration_state_backups VALUES ('{PATH_LEN}', '2026-04-23T19:08:12+00:00', '{snapshot}')"
        ));
        authority.apply_update(PATH_LEN, None, &operator()).await.unwrap();
        authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
        assert_eq!(seen(&authority, &world, &holders[0]).await, before);
    }
}

#[tokio::test]
async fn a_failed_update_is_set_aside_by_rolling_it_back() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &["alice"]).await;
    let root = authority.trust().root.clone();
    world.sql(
        "CREATE TRIGGER broken BEFORE INSERT ON leaf_generations BEGIN SELECT RAISE(ABORT, 'no room'); END",
    );
    authority.apply_update(PATH_LEN, None, &operator()).await.unwrap_err();
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!((halt(&authority), &authority.trust().root), (None, &root));
    assert_eq!(reason(authority.roll_back_update(PATH_LEN, &operator()).await), (404, "no_snapshot"));
}

/// One of each. A variant that is missing here does not compile.
macro_rules! every {
    ($($pattern:pat => $why:expr),+ $(,)?) => {{
        let _ = |why: &UpdateError| match why { $($pattern => (),)+ };
        [$({
            let why = $why;
            assert!(matches!(why, $pattern), "{why:?}");
            why
        }),+]
    }};
}

#[test]
fn every_reason_for_a_refusal_is_in_the_docs() {
    use mastio_authority::{Outage, Refusal, updates::UpdateError as Why};
    let (id, text) = (PATH_LEN, String::new);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/troubleshooting.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, page) = page.split_once("## Framework updates").unwrap();
    for why in every! {
        Why::Unconfirmed(_) => Why::Unconfirmed(id),
        Why::Unknown(_) => Why::Unknown(text()),
        Why::Strategy { .. } => Why::Strategy { asked: text(), has: text() },
        Why::NoSnapshot(_) => Why::NoSnapshot(id),
        Why::FailedEarly(_) => Why::FailedEarly(id),
        Why::NoRow(_) => Why::NoRow(id),
        Why::AlreadyApplied => Why::AlreadyApplied,
        Why::RolledBack(_) => Why::RolledBack(id),
        Why::NotPending(_) => Why::NotPending(id),
        Why::NotApplied { .. } => Why::NotApplied { id, status: Status::Pending },
        Why::Busy => Why::Busy,
        Why::Rotation(_) => Why::Rotation(text()),
        Why::HaltMismatch(_) => Why::HaltMismatch(id),
        Why::RootExpired => Why::RootExpired,
        Why::MovedOn(_) => Why::MovedOn(id),
        Why::StrictPki => Why::StrictPki,
        Why::Raced => Why::Raced,
        Why::Snapshot(_) => Why::Snapshot(text()),
        Why::Failed(_) => Why::Failed(text()),
        Why::Outage(_) => Why::Outage(Outage::Contended),
    } {
        let row = format!("| `{}` | {}: ", why.reason(), why.status());
        assert!(page.contains(&row), "docs/troubleshooting.md lacks: {row}");
    }
}

#[tokio::test]
async fn an_update_that_is_interrupted_while_its_key_is_made_can_be_set_aside() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &["alice"]).await;
    // Its beginning and its snapshot are written, and nothing after them.
    die_after(&world, 2);
    authority.apply_update(PATH_LEN, None, &operator()).await.unwrap_err();
    revive(&world);
    let authority = start_again(&world, authority).await;
    assert_eq!(authority.updates().unwrap()[0].row.as_ref().unwrap().status, Status::Failed);
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!(halt(&authority), None);
}

#[tokio::test]
async fn an_update_that_failed_before_its_snapshot_changed_nothing_and_is_told_so() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &["alice"]).await;
    world.sql("UPDATE pending_updates SET status = 'failed'");
    let refused = authority.roll_back_update(PATH_LEN, &operator()).await;
    assert!(refused.as_ref().unwrap_err().to_string().contains("nothing was changed"), "{refused:?}");
    assert_eq!(reason(refused), (404, "no_snapshot"));
}
