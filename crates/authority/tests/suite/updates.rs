//! Framework updates: halt, apply by either strategy, rollback, and the power that goes at any unit of them.

use std::{fs, sync::Arc, time::Duration};

use mastio_authority::{Authority, trust::Halt, updates::UpdateError};
use mastio_core::{AgentId, Clock, SpiffeId, SystemRng};
use mastio_jose::SigningKey;
use mastio_pki::{Certificate, Issuer, KeyKind, KeyPair, lineage, profile};
use mastio_store::{agents, cas, updates::Status};

use crate::{
    renewal::{id, renew, with},
    world::*,
};

const PATH_LEN: &str = "2026-04-23-org-ca-pathlen-1";
const PARKED: &str = "2026-11-22-parked-keys-1";
const PASSPHRASE: (&str, &str) = ("MCP_PROXY_DB_ENCRYPTION_KEY", "a passphrase of the tests, long enough");
/// What an operator does who does not want the migration, and takes that back.
const SET_ASIDE: &str = "UPDATE pending_updates SET status = 'rolled_back'";
const WANTED: &str = "UPDATE pending_updates SET status = 'pending'";

/// Of a root of path length 0.
fn vector(name: &str) -> String {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pki-vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(vectors).unwrap()).unwrap();
    vectors["legacy_pathlen_zero"][name].as_str().unwrap().to_owned()
}

/// A folder whose root permits no CA below it.
fn legacy() -> World {
    let world = World::new();
    // The vector was made on 2026-11-22.
    world.clock.advance(Duration::from_secs(10_000_000));
    let tls = world.dir.path().join("nginx-certs");
    fs::create_dir_all(&tls).unwrap();
    fs::write(tls.join("org-ca.crt"), vector("root")).unwrap();
    fs::write(tls.join("org-ca.key"), vector("root_key")).unwrap();
    world
}

/// A Mastio with such a root and agents from before its halt.
async fn halted(world: &World, settings: &[(&str, &str)], agents: &[&str]) -> (Arc<Authority>, Vec<Holder>) {
    let authority = world.boot(settings).await.unwrap();
    world.sql(SET_ASIDE);
    authority.reload().unwrap();
    let mut holders = Vec::new();
    for name in agents {
        holders.push(Holder::created(&authority, name).await);
    }
    world.sql(WANTED);
    authority.reload().unwrap();
    (authority, holders)
}

fn halt(authority: &Authority) -> Option<Halt> {
    authority.trust().halt.clone()
}

async fn row(authority: &Authority, holder: &Holder) -> agents::AgentRow {
    agents::find(authority.store(), &id(holder)).await.unwrap().unwrap()
}

fn leaf_of(row: &agents::AgentRow) -> Certificate {
    Certificate::from_pem(row.certificates.as_deref().unwrap()).unwrap()
}

/// What `openssl verify` says of a chain below a root, strictly.
fn strict(authority: &Authority, chain: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let trust = folder.path().join("trust.pem");
    let leaf = folder.path().join("leaf.pem");
    fs::write(&trust, &authority.trust().trust_file).unwrap();
    fs::write(&leaf, chain).unwrap();
    let at = authority.clock().now().unix().to_string();
    let output = std::process::Command::new("openssl")
        .args(["verify", "-x509_strict", "-attime", &at, "-CAfile"])
        .arg(&trust)
        .arg("-untrusted")
        .arg(&leaf)
        .arg(&leaf)
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn the_row_halts_signing_and_sql_lifts_the_halt() {
    let world = legacy();
    let (authority, holders) = halted(&world, &[], &["alice"]).await;
    assert_eq!(halt(&authority), Some(Halt::PendingUpdate(PATH_LEN)));
    assert_eq!(reason(mint_mtls(&authority, &holders[0].peer()).await), (503, "signing_halted"));
    assert_eq!(
        halt(&authority).unwrap().to_string(),
        "signing halted — pending migration 2026-04-23-org-ca-pathlen-1"
    );
    assert_eq!(authority.trust().updates.pending(), 1);
    let gauge = |status: &str| authority.metrics.updates.with_label_values(&[status]).get();
    assert_eq!(["pending", "applied", "failed", "rolled_back"].map(gauge), [1, 0, 0, 0]);
    let refused = authority.apply_update(PARKED, None, &operator()).await;
    assert_eq!(reason(refused), (409, "not_pending"));
    world.sql(&format!("INSERT INTO pending_updates (migration_id, detected_at, status) VALUES ('{PARKED}', '2026-11-22T00:00:00Z', 'pending')"));
    let refused = authority.apply_update(PARKED, None, &operator()).await;
    assert_eq!(reason(refused), (412, "sign_halt_mismatch"), "the halt is another one's");
    world.sql(SET_ASIDE);
    authority.reload().unwrap();
    assert_eq!(halt(&authority), None);
    mint_mtls(&authority, &holders[0].peer()).await.unwrap();
    let refused = authority.apply_update(PATH_LEN, None, &operator()).await;
    assert_eq!(reason(refused), (409, "rolled_back"));
    leave(authority);
    // It is not proposed again until its row is gone.
    let authority = world.boot(&[]).await.unwrap();
    assert_eq!(halt(&authority), None);
    world.sql("DELETE FROM pending_updates");
    leave(authority);
    let authority = world.boot(&[]).await.unwrap();
    assert_eq!(halt(&authority), Some(Halt::PendingUpdate(PATH_LEN)));
    assert_eq!(world.events("admin.update_detected"), 2);
}

#[tokio::test]
async fn agents_that_others_certify_do_not_halt() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &["alice"]).await;
    world.sql("UPDATE internal_agents SET enrollment_method = 'byoca'");
    authority.reload().unwrap();
    assert_eq!(halt(&authority), None);
    for ours in ["'admin'", "'connector'", "NULL"] {
        world.sql(&format!("UPDATE internal_agents SET enrollment_method = {ours}"));
        authority.reload().unwrap();
        assert_eq!(halt(&authority), Some(Halt::PendingUpdate(PATH_LEN)), "{ours}");
    }
}

/// The root of before stated that the present one is its successor.
fn vouched(authority: &Authority, before: &Certificate) {
    let registry = cas::all(authority.store().database()).unwrap();
    let old = registry.iter().find(|row| row.thumbprint == before.thumbprint()).unwrap();
    lineage::verify(old.lineage.as_deref().unwrap(), before, &authority.trust().root).unwrap();
}

#[tokio::test]
async fn a_new_root_key_leaves_agents_with_what_they_hold() {
    for settings in [&[][..], &[PASSPHRASE]] {
        let world = legacy();
        let (authority, holders) = halted(&world, settings, &["alice", "bob", "off"]).await;
        let [alice, bob, off] = &holders[..] else { panic!() };
        authority.deactivate(&id(off), &operator()).await.unwrap();
        let before = authority.trust();
        assert!(
            strict(&authority, &alice.chain.iter().map(Certificate::pem).collect::<String>())
                .contains("error")
        );
        let plan = authority.plan_update(PATH_LEN, None).unwrap();
        assert!(plan.steps.iter().any(|step| step.contains("the leaves of 3 agents")), "{plan:?}");

        let applied = authority.apply_update(PATH_LEN, None, &operator()).await.unwrap();
        assert_eq!((applied.strategy, applied.reissued_leaves), (Some("rekey"), 3));
        let trust = authority.trust();
        assert_eq!(halt(&authority), None);
        assert_eq!((trust.root.path_len(), trust.root.key_kind()), (Some(1), KeyKind::Rsa { bits: 4096 }));
        assert_eq!(trust.root.not_after(), before.root.not_after());
        assert_eq!(trust.root.subject_raw(), before.root.subject_raw());
        vouched(&authority, &before.root);
        for holder in [alice, bob] {
            let (row, old) = (row(&authority, holder).await, &holder.chain[0]);
            let new = leaf_of(&row);
            assert_ne!(new.serial(), old.serial());
            assert_eq!(new.serial().len().max(14), new.serial().len(), "128 bits");
            let facts = |leaf: &Certificate| {
                (
                    leaf.subject_raw().to_vec(),
                    leaf.spki_der().to_vec(),
                    leaf.uri_sans().to_vec(),
                    leaf.not_before(),
                    leaf.not_after(),
                )
            };
            assert_eq!(facts(&new), facts(old));
            for chain in [row.certificates.clone().unwrap(), trust.chain_of(old)] {
                let verdict = strict(&authority, &chain);
                assert!(verdict.contains("OK"), "{verdict}");
            }
            // Both log in, and neither is a certificate of before.
            mint_mtls(&authority, &holder.peer()).await.unwrap();
            let key = KeyPair::from_pkcs8_der(&holder.key.to_pkcs8_der()).unwrap();
            let chain = mastio_pki::pem::certificates(row.certificates.as_deref().unwrap()).unwrap();
            mint_mtls(&authority, &Holder { id: holder.id.clone(), chain, key }.peer()).await.unwrap();
        }
        assert_eq!(world.events("agent.cert_pinning_grace_match"), 0);
        authority.reactivate(&id(off), &operator()).await.unwrap();
        mint_mtls(&authority, &off.peer()).await.unwrap();

        // What changes an agent finds it as it is.
        let (dpop, next) = (SigningKey::generate().unwrap(), KeyPair::generate_p256().unwrap());
        let renewed = renew(&authority, &world, bob, &dpop, &next, None).await.unwrap();
        mint_mtls(&authority, &bob.peer()).await.unwrap();
        mint_mtls(&authority, &with(bob, &renewed, next).peer()).await.unwrap();
        authority.revoke(&id(off), None, &operator()).await.unwrap();
        assert_eq!(reason(mint_mtls(&authority, &off.peer()).await).0, 401);

        assert_eq!(
            reason(authority.apply_update(PATH_LEN, None, &operator()).await),
            (409, "already_applied")
        );
        leave(authority);
        let authority = world.boot(settings).await.unwrap();
        mint_mtls(&authority, &alice.peer()).await.unwrap();
        assert_eq!(authority.trust().root, trust.root);

        authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
        let trust = authority.trust();
        assert_eq!((&trust.root, &trust.trust_file), (&before.root, &before.trust_file));
        assert_eq!(halt(&authority), None, "what was set aside does not halt");
        assert_eq!(leaf_of(&row(&authority, alice).await), alice.chain[0]);
        mint_mtls(&authority, &alice.peer()).await.unwrap();
        assert_eq!(reason(authority.roll_back_update(PATH_LEN, &operator()).await), (404, "no_snapshot"));
        assert_eq!(world.count("SELECT count(*) FROM reissued_leaves"), 0);
        leave(authority);
        let authority = world.boot(settings).await.unwrap();
        assert_eq!(authority.trust().root, before.root);
        assert_eq!(world.events("admin.update_applied") + world.events("admin.update_rolled_back"), 2);
    }
}

#[tokio::test]
async fn a_root_reissued_for_its_key_changes_nothing_else() {
    let world = legacy();
    let (authority, holders) = halted(&world, &[], &["alice"]).await;
    let before = authority.trust();
    let refused = authority.apply_update(PATH_LEN, Some("pray"), &operator()).await;
    assert_eq!(reason(refused), (400, "unknown_strategy"));
    let applied = authority.apply_update(PATH_LEN, Some("reissue"), &operator()).await.unwrap();
    assert_eq!((applied.strategy, applied.reissued_leaves), (Some("reissue"), 0));
    let trust = authority.trust();
    assert_eq!((trust.root.path_len(), trust.root.spki_der()), (Some(1), before.root.spki_der()));
    vouched(&authority, &before.root);
    assert_eq!(halt(&authority), None);
    let row = row(&authority, &holders[0]).await;
    assert_eq!(leaf_of(&row), holders[0].chain[0]);
    let verdict = strict(&authority, row.certificates.as_deref().unwrap());
    assert!(verdict.contains("OK"), "the certificate with path length 0 is out of the way: {verdict}");
    mint_mtls(&authority, &holders[0].peer()).await.unwrap();
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!(authority.trust().trust_file, before.trust_file);
    leave(authority);
    assert_eq!(world.boot(&[]).await.unwrap().trust().root, before.root);
}

#[tokio::test]
async fn agents_certified_by_the_old_root_itself_go_on_under_either_strategy() {
    for strategy in ["rekey", "reissue"] {
        let world = legacy();
        let (authority, _) = halted(&world, &[], &["alice"]).await;
        let key = KeyPair::from_pem(&vector("root_key")).unwrap();
        let root = Issuer::new(authority.trust().root.clone(), key).unwrap();
        let (org, now) = (authority.trust().org.clone(), world.clock.now());
        let id = AgentId::parse(&format!("{org}::carol")).unwrap();
        let spiffe = SpiffeId::parse(&format!("spiffe://cullis.local/{org}/carol")).unwrap();
        let key = KeyPair::generate_p256().unwrap();
        let lifetime = Duration::from_secs(86_400);
        let leaf = profile::agent(&root, &id, &spiffe, key.spki_der(), lifetime, now, &SystemRng).unwrap();
        let carol = Holder { id: id.to_string(), chain: vec![leaf], key };
        authority.enroll_byoca(&candidate("carol"), &carol.brought(), &operator()).await.unwrap();
        authority.apply_update(PATH_LEN, Some(strategy), &operator()).await.unwrap();
        mint_mtls(&authority, &carol.peer()).await.unwrap();
        let row = row(&authority, &carol).await;
        assert_eq!((leaf_of(&row), row.held), (carol.chain[0].clone(), None), "it is not ours to make again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_update_shows_how_far_it_is() {
    let world = legacy();
    let (authority, holders) = halted(&world, &[], &["alice"]).await;
    world.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) INSERT INTO internal_agents \
         (agent_id, display_name, cert_pem, created_at) SELECT printf('acme::bulk-%06d', i), '', cert_pem, created_at \
         FROM n, internal_agents; \
         INSERT OR IGNORE INTO agent_certs SELECT a.agent_id, thumbprint, spki_sha256, not_after \
         FROM internal_agents a, agent_certs",
    );
    let applying = Arc::clone(&authority);
    let applying = tokio::spawn(async move { applying.apply_update(PATH_LEN, None, &operator()).await });
    let mut seen = Vec::new();
    while !applying.is_finished() {
        seen.extend(authority.updates().unwrap()[0].progress);
        authority.certificate(&holders[0].peer()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(applying.await.unwrap().unwrap().reissued_leaves, 1201);
    assert!(seen.iter().any(|(done, total)| (1..1201).contains(done) && *total == 1201), "{seen:?}");
    assert_eq!(authority.updates().unwrap()[0].progress, None);
}

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
    let snapshot = world.count("SELECT length(snapshot_json) FROM migration_state_backups");
    assert!(snapshot > 100);

    world.clock.advance(Duration::from_secs(60));
    let taken = "SELECT count(DISTINCT created_at) + 100 * count(*) FROM \
        (SELECT created_at FROM migration_state_backups UNION ALL SELECT created_at FROM first)";
    world.sql("CREATE TABLE first AS SELECT created_at FROM migration_state_backups");
    world.sql("DROP TRIGGER broken");
    authority.apply_update(PATH_LEN, None, &operator()).await.unwrap();
    assert_eq!(world.count(taken), 201, "the retry keeps the snapshot of the first time");
    assert_eq!(reason(authority.apply_update(PATH_LEN, None, &operator()).await), (409, "already_applied"));
    assert_eq!(world.count(taken), 201, "nor does a refusal touch it");
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

#[tokio::test]
async fn an_expired_root_is_not_extended() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &[]).await;
    let left = authority.trust().root.not_after().unix() - world.clock.now().unix();
    world.clock.advance(Duration::from_secs(left.unsigned_abs() + 1));
    for strategy in [None, Some("reissue")] {
        let refused = authority.apply_update(PATH_LEN, strategy, &operator()).await;
        assert_eq!(reason(refused), (409, "org_ca_expired"));
    }
    assert_eq!(authority.updates().unwrap()[0].row.as_ref().unwrap().status, Status::Pending);
}

#[tokio::test]
async fn what_is_not_needed_any_more_is_settled_unchanged() {
    let world = World::new();
    fixture(&world, "adopted-plain.db");
    world.clock.advance(Duration::from_secs(10_000_000));
    assert_eq!(world.count("SELECT count(*) FROM pending_updates WHERE status = 'pending'"), 1);
    let authority = world.boot(&[]).await.unwrap();
    assert_eq!((halt(&authority), authority.trust().updates.pending()), (None, 0));
    let listed = authority.updates().unwrap();
    assert_eq!(listed[0].row.as_ref().unwrap().status, Status::Applied);
    assert_eq!(world.events("admin.update_not_needed"), 1);
    // The snapshot that the existing system left is no way back of ours.
    let refused = authority.roll_back_update(PATH_LEN, &operator()).await;
    assert_eq!(reason(refused), (409, "snapshot_unusable"));
}

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
    assert_eq!(authority.trust().updates.pending(), 1);
    assert_eq!(halt(&authority), None, "it is not critical");
    let parked =
        "SELECT count(*) FROM legacy_pki_archive WHERE legacy_pem = 'the key' AND archived_at = 'then'";
    authority.apply_update(PARKED, None, &operator()).await.unwrap();
    assert_eq!(world.count(parked), 0);
    assert_eq!(
        world.count("SELECT count(*) FROM migration_state_backups WHERE snapshot_json LIKE '%the key%'"),
        0
    );
    authority.roll_back_update(PARKED, &operator()).await.unwrap();
    assert_eq!(world.count(parked), 1);
}
