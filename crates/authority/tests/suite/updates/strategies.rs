//! Halt, and apply and rollback by either strategy.

use std::{sync::Arc, time::Duration};

use mastio_authority::{Authority, trust::Halt};
use mastio_core::{AgentId, Clock, SpiffeId, SystemRng};
use mastio_jose::SigningKey;
use mastio_pki::{Certificate, Issuer, KeyKind, KeyPair, lineage, profile};
use mastio_store::{cas, updates::Status};

use super::*;
use crate::renewal::{renew, with};

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
    assert_eq!(authority.trust().updates.waiting(), 1);
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

#[tokio::test]
async fn where_agents_bring_their_certificates_none_is_made_until_the_update_is_applied() {
    let world = legacy();
    let (authority, holders) = halted(&world, &[], &["alice", "bob"]).await;
    world.sql("UPDATE internal_agents SET enrollment_method = 'byoca'");
    authority.reload().unwrap();
    let refused = authority.create_agent(&candidate("carol"), true, &operator()).await;
    assert_eq!(reason(refused), (503, "signing_halted"));
    mint_mtls(&authority, &holders[0].peer()).await.unwrap();

    // An agent that is certified here comes in by another way: all is halted when that is seen.
    world
        .sql("UPDATE internal_agents SET is_active = 0, enrollment_method = NULL WHERE agent_id LIKE '%bob'");
    authority.reload().unwrap();
    assert_eq!(halt(&authority), None);
    authority.reactivate(&id(&holders[1]), &operator()).await.unwrap();
    authority.tidy_updates().await.unwrap();
    assert_eq!(halt(&authority), Some(Halt::PendingUpdate(PATH_LEN)));
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

/// An agent whose certificate the active root signed, whose key is this.
fn below(world: &World, authority: &Authority, key: KeyPair, name: &str) -> Holder {
    let root = Issuer::new(authority.trust().root.clone(), key).unwrap();
    let (org, now) = (authority.trust().org.clone(), world.clock.now());
    let id = AgentId::parse(&format!("{org}::{name}")).unwrap();
    let spiffe = SpiffeId::parse(&format!("spiffe://cullis.local/{org}/{name}")).unwrap();
    let key = KeyPair::generate_p256().unwrap();
    let lifetime = Duration::from_secs(86_400);
    let leaf = profile::agent(&root, &id, &spiffe, key.spki_der(), lifetime, now, &SystemRng).unwrap();
    Holder { id: id.to_string(), chain: vec![leaf], key }
}

#[tokio::test]
async fn agents_enrolled_below_the_new_root_go_on_when_it_is_taken_back() {
    let world = legacy();
    let (authority, holders) = halted(&world, &[], &["alice"]).await;
    authority.apply_update(PATH_LEN, Some("rekey"), &operator()).await.unwrap();
    let key = KeyPair::from_pem(&world.text("SELECT value FROM proxy_config WHERE key = 'org_ca_key'"));
    let carol = below(&world, &authority, key.unwrap(), "carol");
    authority.enroll_byoca(&candidate("carol"), &carol.brought(), &operator()).await.unwrap();
    let plan = authority.plan_roll_back(PATH_LEN).unwrap();
    assert!(plan.iter().any(|step| step.contains("their organisation go on")), "{plan:?}");
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!(authority.trust().root.path_len(), Some(0));
    for holder in [&holders[0], &carol] {
        mint_mtls(&authority, &holder.peer()).await.unwrap();
    }
    leave(authority);
    let authority = world.boot(&[]).await.unwrap();
    mint_mtls(&authority, &carol.peer()).await.unwrap();
}

/// What is pinned counts, and not how the agent came in.
#[tokio::test]
async fn an_agent_that_came_in_otherwise_goes_on_below_the_new_root_that_is_taken_back() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &["alice", "bob"]).await;
    authority.apply_update(PATH_LEN, Some("rekey"), &operator()).await.unwrap();
    let key = KeyPair::from_pem(&world.text("SELECT value FROM proxy_config WHERE key = 'org_ca_key'"));
    let alice = below(&world, &authority, key.unwrap(), "alice");
    authority.enroll_byoca(&candidate("alice"), &alice.update(), &operator()).await.unwrap();
    let ours = "SELECT count(*) FROM internal_agents WHERE enrollment_method = 'byoca'";
    assert_eq!(world.count(ours), 0, "it came in by an operator and stays so");
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    mint_mtls(&authority, &alice.peer()).await.unwrap();

    // The plan of another attempt counts in the same way.
    world.sql(WANTED);
    let plan = authority.plan_update(PATH_LEN, Some("rekey")).unwrap();
    for told in ["the leaves of 1 agent are", "1 agent with certificates of their organisation"] {
        assert!(plan.steps.iter().any(|step| step.contains(told)), "{told}: {plan:?}");
    }
}

#[tokio::test]
async fn agents_certified_by_the_old_root_itself_go_on_under_either_strategy() {
    for strategy in ["rekey", "reissue"] {
        let world = legacy();
        let (authority, _) = halted(&world, &[], &["alice"]).await;
        let carol = below(&world, &authority, KeyPair::from_pem(&vector("root_key")).unwrap(), "carol");
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
         INSERT OR IGNORE INTO agent_certs (agent_id, thumbprint, spki_sha256, not_after, issuer) \
         SELECT a.agent_id, thumbprint, spki_sha256, not_after, issuer \
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
    assert_eq!((halt(&authority), authority.trust().updates.waiting()), (None, 0));
    let listed = authority.updates().unwrap();
    assert_eq!(listed[0].row.as_ref().unwrap().status, Status::Applied);
    assert_eq!(world.events("admin.update_not_needed"), 1);
    // The snapshot that the existing system left is no way back of ours.
    let refused = authority.roll_back_update(PATH_LEN, &operator()).await;
    assert_eq!(reason(refused), (409, "snapshot_unusable"));
}

#[tokio::test]
async fn what_is_needed_and_has_no_row_is_not_called_needless() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &[]).await;
    let proposed = || -> Vec<_> {
        authority
            .updates()
            .unwrap()
            .iter()
            .map(|update| (update.row.is_some(), update.proposed_next))
            .collect()
    };
    assert_eq!(proposed(), [(true, false), (false, false)]);
    world.sql("DELETE FROM pending_updates");
    assert_eq!(proposed(), [(false, true), (false, false)]);
}

#[tokio::test]
async fn strict_pki_refuses_the_way_back_to_a_root_that_it_would_not_start_with() {
    let strict = [("MCP_PROXY_STRICT_PKI", "1")];
    for strategy in ["rekey", "reissue"] {
        let world = legacy();
        let (authority, _) = halted(&world, &[], &[]).await;
        authority.apply_update(PATH_LEN, Some(strategy), &operator()).await.unwrap();
        leave(authority);
        let authority = world.boot(&strict).await.unwrap();
        assert_eq!(reason(authority.plan_roll_back(PATH_LEN)), (409, "strict_pki"));
        assert_eq!(reason(authority.roll_back_update(PATH_LEN, &operator()).await), (409, "strict_pki"));
        leave(authority);
        let authority = world.boot(&strict).await.unwrap();
        assert_eq!(authority.trust().root.path_len(), Some(1));
    }
}
