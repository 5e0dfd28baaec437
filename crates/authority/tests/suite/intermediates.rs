//! Rotating the intermediate: what it certified goes on until it ends, and then it is retired.

use std::{sync::Arc, time::Duration};

use crate::{
    authentication::{bound, call},
    world::*,
};
use mastio_authority::{
    Authority, Refusal,
    intermediate::{Question, RotatedIntermediate},
    lifecycle::Rotation,
    signing_key::GraceDays,
};
use mastio_core::{AgentId, Clock, Thumbprint};
use mastio_jose::VerifyingKey;
use mastio_pki::{Certificate, pem};
use mastio_store::{
    Unit,
    rotations::{self, Mode, Phase, Transition},
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const PASSPHRASE: (&str, &str) = ("MCP_PROXY_DB_ENCRYPTION_KEY", "correct horse battery staple 0123");
pub(crate) const QUESTION: Question =
    Question { dry_run: false, grace: GraceDays::FORTNIGHT, instead_of: None };

pub(crate) async fn rotate(authority: &Arc<Authority>) -> RotatedIntermediate {
    authority.rotate_intermediate(QUESTION, &operator()).await.unwrap()
}

fn issuer(authority: &Authority) -> Certificate {
    authority.trust().issuer.as_ref().unwrap().certificate().clone()
}

/// The intermediates that `/pki/ca.crt` shows.
fn shown(authority: &Authority) -> Vec<Thumbprint> {
    let all = pem::certificates(&authority.trust().trust_file).unwrap();
    all.iter().skip(1).map(Certificate::thumbprint).collect()
}

fn state(world: &World, ca: &Certificate) -> i64 {
    let print = ca.thumbprint();
    let sql = "SELECT CASE state WHEN 'active' THEN 1 WHEN 'superseded' THEN 2 WHEN 'retired' THEN 3 END FROM pki_cas";
    world.count(&format!("{sql} WHERE thumbprint = '{print}'"))
}

const ACTIVE: i64 = 1;
const SUPERSEDED: i64 = 2;
const RETIRED: i64 = 3;

#[tokio::test]
async fn below_an_intermediate_that_has_ended_nothing_is_certified_and_the_caller_reads_why() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    world.clock.advance(mastio_pki::profile::INTERMEDIATE_LIFETIME);
    let refused = authority.create_agent(&candidate("late"), false, &operator()).await;
    assert_eq!(reason(refused), (409, "issuer_ended"));
}

#[tokio::test]
async fn agents_go_on_under_the_intermediate_of_before() {
    for more in [&[][..], &[PASSPHRASE]] {
        let world = World::new();
        let authority = world.boot(more).await.unwrap();
        let alice = Holder::created(&authority, "alice").await;
        let (token, key) = bound(&authority, &world, &alice).await;
        authority.keep_files().await.unwrap();
        authority.keep_crl().await;
        let (old, kid) = (issuer(&authority), authority.trust().signer.as_ref().unwrap().kid.clone());
        let rotated = rotate(&authority).await;
        let new = issuer(&authority);
        assert_eq!(rotated.fingerprint, new.thumbprint());
        assert_eq!((rotated.old_cn.as_str(), rotated.new_cn.as_str()), (cn(&old), cn(&new)));
        assert_ne!(cn(&old), cn(&new), "two of one name would depend on their order");
        let old_key = VerifyingKey::from_spki_der(old.spki_der()).unwrap();
        old_key.verify_detached(new.der(), &rotated.continuity_proof).unwrap();

        let trust = authority.trust();
        assert_eq!(shown(&authority), [new.thumbprint(), old.thumbprint()]);
        assert_eq!(rotated.new_kid.as_ref(), trust.signer.as_ref().map(|signer| &signer.kid));
        assert!(trust.signing_leaf.as_ref().unwrap().is_signed_by(&new));
        assert!(trust.verifiers.contains_key(kid.as_str()), "the signing key of before verifies");
        call(&authority, &world, &token, &key).await.unwrap();
        mint_mtls(&authority, &alice.peer()).await.unwrap();
        let bob = Holder::created(&authority, "bob").await;
        assert!(bob.chain[0].is_signed_by(&new) && bob.chain[1] == new);
        mint_mtls(&authority, &bob.peer()).await.unwrap();
        authority.keep_files().await.unwrap();
        let served = authority.tls_files().serving().unwrap();
        assert!(served.chain[0].is_signed_by(&new));

        let alice_id = AgentId::parse(&alice.id).unwrap();
        authority.revoke(&alice_id, None, &operator()).await.unwrap();
        authority.keep_crl().await;
        let lists = authority.crl().lists().unwrap();
        let revoked: Vec<_> = lists.lists.iter().map(|list| (list.issuer.as_str(), list.revoked)).collect();
        assert_eq!(revoked, [(new.subject(), 0), (old.subject(), 1)], "each signs its own list");

        leave(authority);
        let authority = world.boot(more).await.unwrap();
        assert_eq!((issuer(&authority), shown(&authority).len()), (new, 2), "a restart changes nothing");
        mint_mtls(&authority, &bob.peer()).await.unwrap();
        assert_eq!(world.events("pki.intermediate_rotated"), 1);
    }
}

fn cn(certificate: &Certificate) -> &str {
    certificate.common_name().unwrap()
}

#[tokio::test]
async fn a_dry_run_keeps_nothing() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let counts = || {
        let count = |table| world.count(&format!("SELECT count(*) FROM {table}"));
        ["pki_cas", "mastio_keys", "local_audit"].map(count)
    };
    let (before, old) = (counts(), issuer(&authority));
    let question = Question { dry_run: true, ..QUESTION };
    let told = authority.rotate_intermediate(question, &operator()).await.unwrap();
    assert_eq!((told.old_cn.as_str(), told.new_kid), (cn(&old), None));
    assert_eq!((counts(), issuer(&authority)), (before, old));
}

#[tokio::test]
async fn of_two_rotations_at_once_one_wins() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let operator = operator();
    let (one, two, key) = tokio::join!(
        authority.rotate_intermediate(QUESTION, &operator),
        authority.rotate_intermediate(QUESTION, &operator),
        authority.rotate_signing_key(&operator),
    );
    // Each takes the place of the same signing key.
    let won = [one.is_ok(), two.is_ok(), key.is_ok()];
    assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    for loser in [one.err(), two.err()].into_iter().flatten() {
        assert_eq!((loser.status(), loser.reason()), (409, "rotation_raced"));
    }
    assert_eq!(world.events("mastio_key.rotated"), 1);
    assert_eq!(world.count("SELECT count(*) FROM pki_cas WHERE state = 'active'"), 2);
    assert_eq!(world.count("SELECT count(*) FROM mastio_keys WHERE deprecated_at IS NULL"), 1);
}

/// A rotation of the Org CA that is under way, without the CAs that it brings.
fn open_rotation(authority: &Authority) -> Unit {
    let (trust, now) = (authority.trust(), authority.clock().now());
    let root = trust.root.thumbprint();
    let rotation = rotations::Rotation {
        id: uuid(),
        mode: Mode::Mint,
        transition: Transition::Overlap,
        phase: Phase::Staged,
        paused: false,
        compromise: false,
        old_root: root,
        new_root: root,
        started_by: "test".into(),
        started_at: now,
        changed_at: now,
        ended_at: None,
        error: None,
    };
    Unit::default().write(rotation.begin())
}

#[tokio::test]
async fn what_the_root_cannot_do_is_refused_and_said() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let ask = async || authority.rotate_intermediate(QUESTION, &operator()).await;
    authority.store().submit(open_rotation(&authority)).await.unwrap();
    assert_eq!(reason(ask().await), (409, "rotation_raced"), "the unit itself looks");
    authority.reload().unwrap();
    assert_eq!(reason(ask().await), (409, "rotation_open"));
    world.sql("UPDATE pki_rotations SET phase = 'aborted', ended_at = changed_at");
    authority.reload().unwrap();
    world.clock.advance(16 * 365 * DAY);
    let ended = ask().await.unwrap_err();
    assert_eq!((ended.status(), ended.reason()), (409, "root_ended"));
    assert!(ended.to_string().contains("rotate the Org CA"), "{ended}");
    let active = "SELECT count(*) FROM pki_cas WHERE kind = 'intermediate_ca'";
    assert_eq!(world.count(active), 1);
}

#[tokio::test]
async fn a_root_with_path_length_zero_certifies_no_other_intermediate() {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pki-vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(vectors).unwrap()).unwrap();
    let world = World::new();
    world.clock.advance(Duration::from_secs(10_000_000));
    let tls = world.dir.path().join("nginx-certs");
    std::fs::create_dir_all(&tls).unwrap();
    for (file, name) in [("org-ca.crt", "root"), ("org-ca.key", "root_key")] {
        std::fs::write(tls.join(file), vectors["legacy_pathlen_zero"][name].as_str().unwrap()).unwrap();
    }
    let authority = world.boot(&[]).await.unwrap();
    let refused = authority.rotate_intermediate(QUESTION, &operator()).await;
    assert_eq!(reason(refused), (409, "root_path_length"));
    assert_eq!(reason(authority.rotate_signing_key(&operator()).await), (503, "signing_halted"));
}

/// Looks after the keys as the server does, an hour after it did so last.
async fn keep(world: &World, authority: &Arc<Authority>) {
    world.clock.advance(Duration::from_secs(3600));
    authority.keep_keys().await;
}

#[tokio::test]
async fn an_intermediate_is_retired_when_its_last_leaf_ended() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let first = issuer(&authority);
    let alice = Holder::created(&authority, "alice").await;
    world.clock.advance(30 * DAY);
    let bob = Holder::created(&authority, "bob").await;
    rotate(&authority).await;
    let second = issuer(&authority);
    world.clock.advance(2 * DAY);
    rotate(&authority).await;
    keep(&world, &authority).await;
    assert_eq!(
        (state(&world, &first), state(&world, &second)),
        (SUPERSEDED, SUPERSEDED),
        "not on its first day"
    );
    world.clock.advance(DAY);
    keep(&world, &authority).await;
    assert_eq!((state(&world, &first), state(&world, &second)), (SUPERSEDED, RETIRED), "it certified nobody");

    // Bob gets another certificate, and the one of before stays in a list. Alice's is in a grace slot.
    let id = |holder: &Holder| AgentId::parse(&holder.id).unwrap();
    authority.rotate_certificate(&id(&bob), &Rotation::default(), &operator()).await.unwrap();
    let grace = Rotation { grace: Some(Duration::from_secs(3600)), ..Rotation::default() };
    authority.rotate_certificate(&id(&alice), &grace, &operator()).await.unwrap();
    world.clock.advance(DAY);
    keep(&world, &authority).await;
    assert_eq!(state(&world, &first), SUPERSEDED);
    authority.keep_crl().await;
    assert_eq!(authority.crl().lists().unwrap().lists.len(), 2);

    let last_hours = bob.chain[0].not_after().minus(Duration::from_secs(3601));
    world.clock.advance(last_hours.since(world.clock.now()));
    keep(&world, &authority).await;
    assert_eq!(state(&world, &first), SUPERSEDED, "bob's is still revoked");
    keep(&world, &authority).await;
    assert_eq!(state(&world, &first), RETIRED);
    assert_eq!(
        world.count("SELECT count(*) FROM pki_cas WHERE private_key IS NOT NULL"),
        0,
        "its key is wiped"
    );
    assert_eq!(world.events("pki.ca_retired"), 2);
    assert!(!shown(&authority).contains(&first.thumbprint()));
    let chain = authority.trust().evidence_chain(&alice.chain[..1]);
    assert!(chain.contains(&first.pem()), "for who looks back");
    authority.keep_crl().await;
    assert_eq!(authority.crl().lists().unwrap().lists.len(), 1);
    leave(authority);
    let authority = world.boot(&[]).await.unwrap();
    assert_eq!(state(&world, &issuer(&authority)), ACTIVE);
}

#[tokio::test]
async fn nothing_is_retired_while_a_rotation_is_under_way() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let first = issuer(&authority);
    rotate(&authority).await;
    authority.store().submit(open_rotation(&authority)).await.unwrap();
    world.clock.advance(2 * DAY);
    keep(&world, &authority).await;
    assert_eq!(state(&world, &first), SUPERSEDED, "the unit itself looks");
    authority.reload().unwrap();
    keep(&world, &authority).await;
    assert_eq!(state(&world, &first), SUPERSEDED);
    world.sql("UPDATE pki_rotations SET phase = 'aborted', ended_at = changed_at");
    authority.reload().unwrap();
    keep(&world, &authority).await;
    assert_eq!(state(&world, &first), RETIRED);
}
