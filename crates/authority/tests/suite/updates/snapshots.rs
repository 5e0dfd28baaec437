//! What is kept of before an update, and for how long.

use std::time::Duration;

use mastio_authority::Refusal as _;

use super::*;

#[tokio::test]
async fn a_readable_snapshot_is_wiped_in_time_and_a_sealed_one_stays() {
    for (settings, sealed, kept) in [(&[][..], false, 0), (&[PASSPHRASE], true, 1)] {
        let world = legacy();
        let (authority, _) = halted(&world, settings, &[]).await;
        authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
        let snapshot = authority.updates().unwrap()[0].snapshot.unwrap();
        assert_eq!((snapshot.sealed, snapshot.wiped_after.is_none()), (sealed, sealed));
        let readable =
            "SELECT count(*) FROM migration_state_backups WHERE snapshot_json LIKE '%BEGIN PRIVATE%'";
        assert_eq!(world.count(readable), i64::from(!sealed));
        authority.tidy_updates().await.unwrap();
        let count = "SELECT count(*) FROM migration_state_backups";
        assert_eq!(world.count(count), 1);
        world.clock.advance(Duration::from_secs(14 * 86_400));
        authority.tidy_updates().await.unwrap();
        assert_eq!(world.count(count), kept);
        assert_eq!(world.events("admin.update_snapshot_wiped"), 1 - kept);
        match kept {
            0 => assert_eq!(
                reason(authority.roll_back_update(PATH_LEN, &operator()).await),
                (404, "no_snapshot")
            ),
            _ => authority.wipe_snapshot(PATH_LEN, &operator()).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn keys_that_were_parked_readable_go_and_come_back() {
    let world = World::new();
    fixture(&world, "adopted-encrypted.db");
    world.clock.advance(Duration::from_secs(10_000_000));
    world.sql("DELETE FROM legacy_pki_archive; INSERT INTO legacy_pki_archive VALUES ('legacy-org-ca-x', 'org_ca', 'the key', 'then')");
    let settings = [("MCP_PROXY_DB_ENCRYPTION_KEY", "fixture-passphrase-0123456789abcdef")];
    let authority = world.boot(&settings).await.unwrap();
    assert_eq!(authority.trust().updates.waiting(), 1);
    assert_eq!(halt(&authority), None, "it is not critical");
    let parked =
        "SELECT count(*) FROM legacy_pki_archive WHERE legacy_pem = 'the key' AND archived_at = 'then'";
    authority.apply_update(PARKED, None, &operator()).await.unwrap();
    assert_eq!(world.count(parked), 0);
    assert_eq!(
        world.count("SELECT count(*) FROM migration_state_backups WHERE snapshot_json LIKE '%the key%'"),
        0
    );
    // What the plan promises is what is done.
    let refused = async |why: &str| {
        let plan = authority.plan_roll_back(PARKED).unwrap_err();
        let done = authority.roll_back_update(PARKED, &operator()).await.unwrap_err();
        assert!(plan.to_string().contains(why) && done.to_string() == plan.to_string(), "{plan}: {done}");
        assert_eq!(done.reason(), "snapshot_unusable");
    };
    world.sql("INSERT INTO legacy_pki_archive VALUES ('legacy-org-ca-x', 'org_ca', 'other', 'now')");
    refused("has a row legacy-org-ca-x again").await;
    world.sql("DELETE FROM legacy_pki_archive; ALTER TABLE legacy_pki_archive RENAME TO elsewhere");
    refused("is gone").await;
    world.sql("ALTER TABLE elsewhere RENAME TO legacy_pki_archive");
    authority.roll_back_update(PARKED, &operator()).await.unwrap();
    assert_eq!(world.count(parked), 1);
}

/// Whether any file of the database has the secret part of a PEM.
pub(super) fn lies_anywhere(world: &World, pem: &str) -> bool {
    let middle = pem.lines().nth(2).unwrap();
    let data = std::fs::read_dir(world.dir.path().join("data")).unwrap();
    data.map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default())
        .any(|bytes| bytes.windows(middle.len()).any(|window| window == middle.as_bytes()))
}

#[tokio::test]
async fn a_snapshot_is_sealed_when_a_passphrase_comes_later() {
    let world = legacy();
    let (authority, holders) = halted(&world, &[], &["alice"]).await;
    let before = authority.trust().root.clone();
    authority.apply_update(PATH_LEN, None, &operator()).await.unwrap();
    leave(authority);
    assert!(lies_anywhere(&world, &vector("root_key")));
    let authority = world.boot(&[PASSPHRASE]).await.unwrap();
    assert!(!lies_anywhere(&world, &vector("root_key")), "nor is it left over anywhere");
    let kept = authority.updates().unwrap()[0].snapshot.unwrap();
    assert_eq!((kept.sealed, kept.wiped_after), (true, None));
    assert_eq!(world.events("pki.keys_sealed"), 2, "the keys in use, and that of the snapshot");
    world.clock.advance(Duration::from_secs(15 * 86_400));
    authority.tidy_updates().await.unwrap();
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!(authority.trust().root, before);
    mint_mtls(&authority, &holders[0].peer()).await.unwrap();
}

#[tokio::test]
async fn a_key_that_was_wiped_lies_nowhere_any_more() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &[]).await;
    authority.apply_update(PATH_LEN, None, &operator()).await.unwrap();
    assert!(lies_anywhere(&world, &vector("root_key")));
    authority.wipe_snapshot(PATH_LEN, &operator()).await.unwrap();
    assert!(!lies_anywhere(&world, &vector("root_key")));
}

#[tokio::test]
async fn keys_that_the_existing_system_left_in_snapshots_are_treated_as_ours() {
    let left = || {
        let world = World::new();
        fixture(&world, "adopted-plain.db");
        world.clock.advance(Duration::from_secs(10_000_000));
        let key = vector("root_key");
        // Longer than a page.
        let snapshot = serde_json::json!({ "internal_agents": "x".repeat(9000), "org_ca_key_pem": key, "z": [{ "y": key }] });
        world.sql(&format!(
            "UPDATE migration_state_backups SET snapshot_json = '{snapshot}'; \
             INSERT INTO migration_state_backups VALUES ('2031-01-01-unknown-1', '2026-04-23T19:08:12+00:00', '{snapshot}')"
        ));
        world
    };
    let readable = "SELECT count(*) FROM migration_state_backups WHERE snapshot_json LIKE '%PRIVATE KEY%'";

    let world = left();
    let authority = world.boot(&[PASSPHRASE]).await.unwrap();
    assert_eq!(world.count(readable), 0);
    assert_eq!(world.count("SELECT count(*) FROM migration_state_backups"), 2);
    assert!(authority.updates().unwrap()[0].snapshot.unwrap().sealed);

    let world = left();
    let authority = world.boot(&[]).await.unwrap();
    let kept = authority.updates().unwrap()[0].snapshot.unwrap();
    assert!(!kept.sealed && kept.wiped_after.is_some(), "{kept:?}");
    assert_eq!((world.count(readable), world.events("admin.update_snapshot_dated")), (2, 2));
    leave(authority);
    world.clock.advance(Duration::from_secs(86_400));
    let authority = world.boot(&[]).await.unwrap();
    assert_eq!(authority.updates().unwrap()[0].snapshot, Some(kept), "the first start sets the time");
    world.clock.advance(Duration::from_secs(14 * 86_400));
    authority.tidy_updates().await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM migration_state_backups"), 0);
    assert!(!lies_anywhere(&world, &vector("root_key")));
}

#[tokio::test]
async fn a_key_in_what_is_no_snapshot_at_all_is_sealed_or_wiped_too() {
    let key = vector("root_key");
    for left in [key.clone(), serde_json::json!([key]).to_string(), serde_json::json!(key).to_string()] {
        for (settings, sealed) in [(&[][..], false), (&[PASSPHRASE], true)] {
            let world = World::new();
            fixture(&world, "adopted-plain.db");
            world.clock.advance(Duration::from_secs(10_000_000));
            world.sql(&format!("UPDATE migration_state_backups SET snapshot_json = '{left}'"));
            let authority = world.boot(settings).await.unwrap();
            let kept = authority.updates().unwrap()[0].snapshot.unwrap();
            assert_eq!((kept.sealed, kept.wiped_after.is_none()), (sealed, sealed), "{left}");
            assert_eq!(lies_anywhere(&world, &key), !sealed, "{left}");
            let refused = authority.roll_back_update(PATH_LEN, &operator()).await;
            assert_eq!(reason(refused), (409, "snapshot_unusable"));
            world.clock.advance(Duration::from_secs(14 * 86_400));
            authority.tidy_updates().await.unwrap();
            let count = world.count("SELECT count(*) FROM migration_state_backups");
            assert_eq!((count, lies_anywhere(&world, &key)), (i64::from(sealed), false), "{left}");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_parked_between_snapshot_and_change_does_not_go_without_one() {
    let parked = "SELECT count(*) FROM legacy_pki_archive";
    let first = "INSERT INTO legacy_pki_archive VALUES ('legacy-org-ca-x', 'org_ca', 'the key', 'then')";
    for meanwhile in [
        "INSERT INTO legacy_pki_archive VALUES ('legacy-org-ca-y', 'org_ca', 'another key', 'now')",
        "UPDATE legacy_pki_archive SET legacy_pem = 'another key'",
    ] {
        let world = World::new();
        fixture(&world, "adopted-encrypted.db");
        world.clock.advance(Duration::from_secs(10_000_000));
        world.sql(&format!("DELETE FROM legacy_pki_archive; {first}"));
        let settings = [("MCP_PROXY_DB_ENCRYPTION_KEY", "fixture-passphrase-0123456789abcdef")];
        let authority = world.boot(&settings).await.unwrap();
        world.sql(&format!(
            "CREATE TRIGGER meanwhile AFTER INSERT ON migration_state_backups BEGIN {meanwhile}; END"
        ));
        let raced = authority.apply_update(PARKED, None, &operator()).await;
        assert_eq!(reason(raced), (409, "update_raced"), "{meanwhile}");
        let another = format!("{parked} WHERE legacy_pem = 'another key'");
        assert_eq!(world.count(&another), 1, "{meanwhile}");
        world.sql("DROP TRIGGER meanwhile");
        authority.apply_update(PARKED, None, &operator()).await.unwrap();
        assert_eq!(world.count(parked), 0);
        authority.roll_back_update(PARKED, &operator()).await.unwrap();
        assert_eq!(world.count(&another), 1, "{meanwhile}");
    }
}

#[tokio::test]
async fn the_snapshot_of_a_migration_that_nobody_knows_is_wiped_too() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (unknown, by) = ("2031-01-01-unknown-1", operator());
    let refused = authority.wipe_snapshot(unknown, &by).await;
    assert_eq!(reason(refused), (404, "unknown_migration"));
    world.sql(&format!(
        "INSERT INTO migration_state_backups VALUES ('{unknown}', '2026-04-23T19:08:12+00:00', '{{}}')"
    ));
    authority.plan_wipe(unknown).unwrap();
    authority.wipe_snapshot(unknown, &by).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM migration_state_backups"), 0);
    assert_eq!(world.events("admin.update_snapshot_wiped"), 1);
}

#[tokio::test]
async fn a_parked_key_that_is_gone_before_a_retry_comes_back_with_the_others() {
    let world = World::new();
    fixture(&world, "adopted-encrypted.db");
    world.clock.advance(Duration::from_secs(10_000_000));
    let add = |id: &str| {
        world.sql(&format!(
            "INSERT INTO legacy_pki_archive VALUES ('{id}', 'org_ca', 'the key {id}', 'then')"
        ));
    };
    world.sql("DELETE FROM legacy_pki_archive");
    add("x");
    add("y");
    let settings = [("MCP_PROXY_DB_ENCRYPTION_KEY", "fixture-passphrase-0123456789abcdef")];
    let authority = world.boot(&settings).await.unwrap();
    let parked = || world.count("SELECT count(*) FROM legacy_pki_archive");
    let fails = async || {
        world.sql("CREATE TRIGGER broken BEFORE DELETE ON legacy_pki_archive BEGIN SELECT RAISE(ABORT, 'no room'); END");
        authority.apply_update(PARKED, None, &operator()).await.unwrap_err();
        world.sql("DROP TRIGGER broken");
    };
    fails().await;
    world.sql("DELETE FROM legacy_pki_archive WHERE key_id = 'x'");
    authority.apply_update(PARKED, None, &operator()).await.unwrap();
    assert_eq!(parked(), 0);
    authority.roll_back_update(PARKED, &operator()).await.unwrap();
    assert_eq!(parked(), 2, "as before the first attempt");

    // One that came meanwhile is in no snapshot yet.
    world.sql(WANTED);
    fails().await;
    add("z");
    authority.apply_update(PARKED, None, &operator()).await.unwrap();
    authority.roll_back_update(PARKED, &operator()).await.unwrap();
    assert_eq!(parked(), 3);
}
