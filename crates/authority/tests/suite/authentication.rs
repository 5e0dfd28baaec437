//! Who gets a token, who gets in, and what ends both.

use std::{sync::Arc, time::Duration};

use crate::{forge::Ca, world::*};
use mastio_authority::{Authority, Refusal, authenticate::AuthError, mint::MintError};
use mastio_core::{Clock, SystemRng};
use mastio_jose::{SigningKey, ath};
use mastio_pki::{Issuer, profile};
use serde_json::json;

pub(crate) async fn mint(
    authority: &Authority,
    peer: &mastio_authority::peer::Peer,
    assertion: Option<&str>,
    proof: Option<&str>,
) -> Result<String, MintError> {
    let by_tls = match &peer.certificate {
        mastio_authority::peer::PeerCertificate::None => None,
        _ => Some(authority.certificate(peer).await?),
    };
    authority
        .mint(by_tls, assertion, &line("POST", TOKEN, proof), "r")
        .await
        .map(|minted| minted.access_token)
}

/// A token bound to a fresh key, minted with an assertion.
pub(crate) async fn bound(authority: &Authority, world: &World, agent: &Holder) -> (String, SigningKey) {
    let key = SigningKey::generate().unwrap();
    let now = world.clock.now();
    let minted = mint(
        authority,
        &nobody(),
        Some(&agent.assertion(now)),
        Some(&proof(&key, "POST", TOKEN, &json!({}), now)),
    )
    .await;
    (minted.unwrap(), key)
}

pub(crate) async fn call(
    authority: &Authority,
    world: &World,
    token: &str,
    key: &SigningKey,
) -> Result<(), AuthError> {
    let proof = proof(key, "GET", CALL, &json!({ "ath": ath(token) }), world.clock.now());
    authority.caller_by_token(&nobody(), token, &line("GET", CALL, Some(&proof))).await.map(drop)
}

#[tokio::test]
async fn a_token_is_minted_used_and_ends_with_its_time() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let (token, key) = bound(&authority, &world, &alice).await;
    call(&authority, &world, &token, &key).await.unwrap();
    world.clock.advance(Duration::from_secs(331));
    assert_eq!(reason(call(&authority, &world, &token, &key).await), (401, "token_expired"));
}

#[tokio::test]
async fn deactivation_ends_certificate_token_and_mint_at_once() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let (token, key) = bound(&authority, &world, &alice).await;
    call(&authority, &world, &token, &key).await.unwrap();
    let id = mastio_core::AgentId::parse(&alice.id).unwrap();
    authority.deactivate(&id, &operator()).await.unwrap();
    assert_eq!(reason(call(&authority, &world, &token, &key).await), (401, "token_epoch_ended"));
    assert_eq!(reason(authority.certificate(&alice.peer()).await), (401, "agent_unknown_or_inactive"));
    let now = world.clock.now();
    let proof = proof(&key, "POST", TOKEN, &json!({}), now);
    let again = mint(&authority, &nobody(), Some(&alice.assertion(now)), Some(&proof)).await;
    assert_eq!(reason(again), (401, "agent_unknown_or_inactive"));
    assert_eq!(reason(authority.deactivate(&id, &operator()).await), (404, "not_found"));
}

#[tokio::test]
async fn no_agent_becomes_another_by_signing_a_child() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let victim = Holder::created(&authority, "victim").await;
    // Alice's own leaf plays the CA of a certificate that names the victim.
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, victim.id.clone());
    let uri = victim.chain[0].uri_sans()[0].clone();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
    let forged_key = mastio_pki::KeyPair::generate_p256().unwrap();
    let mut issuer = rcgen::CertificateParams::default();
    issuer.distinguished_name.push(rcgen::DnType::CommonName, alice.id.clone());
    let issuer = rcgen::Issuer::new(issuer, &alice.key);
    let child = params.signed_by(&forged_key, &issuer).unwrap();
    let child = mastio_pki::Certificate::from_der(child.der().to_vec()).unwrap();
    let chain = vec![child, alice.chain[0].clone(), alice.chain[1].clone()];
    let forger = Holder { id: victim.id.clone(), chain, key: forged_key };
    let now = world.clock.now();
    let key = SigningKey::generate().unwrap();
    let dpop = proof(&key, "POST", TOKEN, &json!({}), now);
    let minted = mint(&authority, &nobody(), Some(&forger.assertion(now)), Some(&dpop)).await;
    assert_eq!(reason(minted), (401, "assertion_chain"));
    assert_eq!(reason(authority.certificate(&forger.peer()).await), (401, "client_cert_not_verified"));
}

#[tokio::test]
async fn another_certificate_of_the_same_agent_is_not_the_pinned_one() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let trust = authority.trust();
    let issuer: &Issuer<_> = trust.issuer.as_ref().unwrap();
    let key = mastio_pki::KeyPair::generate_p256().unwrap();
    let id = mastio_core::AgentId::parse(&alice.id).unwrap();
    let spiffe = alice.chain[0].spiffe_id().unwrap();
    let day = Duration::from_secs(86_400);
    let leaf =
        profile::agent(issuer, &id, spiffe, key.spki_der(), day, world.clock.now(), &SystemRng).unwrap();
    let twin = Holder { id: alice.id.clone(), chain: vec![leaf, issuer.certificate().clone()], key };
    assert_eq!(reason(authority.certificate(&twin.peer()).await), (401, "client_cert_pin_mismatch"));
    let now = world.clock.now();
    let dpop = proof(&SigningKey::generate().unwrap(), "POST", TOKEN, &json!({}), now);
    let minted = mint(&authority, &nobody(), Some(&twin.assertion(now)), Some(&dpop)).await;
    assert_eq!(reason(minted), (401, "client_cert_pin_mismatch"));
}

#[tokio::test]
async fn assertions_count_once_and_live_briefly() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let now = world.clock.now();
    let dpop = || proof(&SigningKey::generate().unwrap(), "POST", TOKEN, &json!({}), now);
    let assertion = alice.assertion(now);
    assert!(mint(&authority, &nobody(), Some(&assertion), Some(&dpop())).await.is_ok());
    let again = mint(&authority, &nobody(), Some(&assertion), Some(&dpop())).await;
    assert_eq!(reason(again), (401, "assertion_replayed"));
    let ten_years = alice.assertion_with(&alice.chain, &json!({ "exp": now.unix() + 315_360_000 }), now);
    let long = mint(&authority, &nobody(), Some(&ten_years), Some(&dpop())).await;
    assert_eq!(reason(long), (401, "assertion_lifetime_too_long"));
    let leaf_only = alice.assertion_with(&alice.chain[..1], &json!({}), now);
    assert!(
        mint(&authority, &nobody(), Some(&leaf_only), Some(&dpop())).await.is_ok(),
        "our intermediate is an anchor"
    );
}

#[tokio::test]
async fn tokens_are_always_bound_and_a_bad_proof_is_no_downgrade() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let now = world.clock.now();
    assert_eq!(
        reason(mint(&authority, &nobody(), Some(&alice.assertion(now)), None).await),
        (401, "dpop_missing")
    );
    let key = SigningKey::generate().unwrap();
    let elsewhere = proof(&key, "POST", "/v1/auth/other", &json!({}), now);
    let with_bad_proof = mint(&authority, &alice.peer(), Some(&alice.assertion(now)), Some(&elsewhere)).await;
    assert_eq!(reason(with_bad_proof), (401, "dpop_htu_mismatch"));
    // Minted over mTLS alone: bound to the certificate, and useless without it.
    let token = mint(&authority, &alice.peer(), None, None).await.unwrap();
    assert!(authority.caller_by_token(&alice.peer(), &token, &line("GET", CALL, None)).await.is_ok());
    let stolen = authority.caller_by_token(&nobody(), &token, &line("GET", CALL, None)).await;
    assert_eq!(reason(stolen), (401, "client_cert_not_verified"));
    let bob = Holder::created(&authority, "bob").await;
    let by_bob = authority.caller_by_token(&bob.peer(), &token, &line("GET", CALL, None)).await;
    assert_eq!(reason(by_bob), (401, "client_cert_not_verified"));
}

#[tokio::test]
async fn assertion_and_certificate_of_different_agents_are_refused() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (alice, bob) = (Holder::created(&authority, "alice").await, Holder::created(&authority, "bob").await);
    let minted = mint(&authority, &bob.peer(), Some(&alice.assertion(world.clock.now())), None).await;
    assert_eq!(reason(minted), (401, "assertion_peer_mismatch"));
}

#[tokio::test]
async fn proofs_count_once_and_only_for_their_key() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let (token, key) = bound(&authority, &world, &alice).await;
    let good = proof(&key, "GET", CALL, &json!({ "ath": ath(&token) }), world.clock.now());
    let request = line("GET", CALL, Some(&good));
    assert!(authority.caller_by_token(&nobody(), &token, &request).await.is_ok());
    assert_eq!(reason(authority.caller_by_token(&nobody(), &token, &request).await), (401, "dpop_replay"));
    let thief = SigningKey::generate().unwrap();
    assert_eq!(reason(call(&authority, &world, &token, &thief).await), (401, "dpop_key_mismatch"));
    // A refused proof is not used up: consuming comes after every other check.
    let stolen = proof(&thief, "GET", CALL, &json!({ "ath": ath(&token) }), world.clock.now());
    for _ in 0..2 {
        let refused = authority.caller_by_token(&nobody(), &token, &line("GET", CALL, Some(&stolen))).await;
        assert_eq!(reason(refused), (401, "dpop_key_mismatch"));
    }
}

#[tokio::test]
async fn the_certificate_path_wants_a_nonce_and_the_registered_key() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let key = SigningKey::generate().unwrap();
    let id = mastio_core::AgentId::parse(&alice.id).unwrap();
    authority.set_dpop_key(&id, &key.public_jwk().to_value(), &operator()).await.unwrap();
    let by = async |key: &SigningKey, nonce: Option<String>| {
        let more = nonce.map_or(json!({}), |nonce| json!({ "nonce": nonce }));
        let text = proof(key, "GET", "/v1/egress/peers", &more, world.clock.now());
        authority
            .caller_by_certificate(&alice.peer(), &line("GET", "/v1/egress/peers", Some(&text)))
            .await
            .map(drop)
    };
    assert_eq!(reason(by(&key, None).await), (401, "dpop_nonce_required"));
    assert_eq!(reason(by(&key, Some("nonsense".into())).await), (401, "dpop_nonce_required"));
    by(&key, Some(authority.proofs().nonce())).await.unwrap();
    let other = SigningKey::generate().unwrap();
    assert_eq!(reason(by(&other, Some(authority.proofs().nonce())).await), (401, "dpop_key_not_registered"));
    // Replaced, the old key works for the grace period and not after it.
    authority.set_dpop_key(&id, &other.public_jwk().to_value(), &operator()).await.unwrap();
    by(&key, Some(authority.proofs().nonce())).await.unwrap();
    world.clock.advance(Duration::from_secs(49 * 3600));
    assert_eq!(reason(by(&key, Some(authority.proofs().nonce())).await), (401, "dpop_key_not_registered"));
    by(&other, Some(authority.proofs().nonce())).await.unwrap();
}

#[tokio::test]
async fn a_challenge_is_answered_once_by_the_agent_that_got_it() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (alice, bob) = (Holder::created(&authority, "alice").await, Holder::created(&authority, "bob").await);
    let pinned = authority.certificate(&alice.peer()).await.unwrap();
    let now = world.clock.now();
    let nonce = authority.challenge(pinned.agent.id());
    let good = alice.assertion_with(&alice.chain, &json!({ "nonce": nonce }), now);
    let of_bob = authority.certificate(&bob.peer()).await.unwrap();
    assert_eq!(reason(authority.countersign(&of_bob, &good, &nonce).await), (401, "challenge_nonce"));
    let signed = authority.countersign(&pinned, &good, &nonce).await.unwrap();
    assert!(signed.mastio_signature.is_some());
    assert_eq!(reason(authority.countersign(&pinned, &good, &nonce).await), (401, "challenge_nonce"));
    let nonce = authority.challenge(pinned.agent.id());
    let long = alice.assertion_with(&alice.chain, &json!({ "nonce": nonce, "exp": now.unix() + 900 }), now);
    assert_eq!(reason(authority.countersign(&pinned, &long, &nonce).await), (400, "assertion_lifetime"));
}

#[tokio::test]
async fn an_escrowed_key_signs_for_its_agent_and_nobody_else_has_one() {
    let world = World::new();
    let authority =
        world.boot(&[("MCP_PROXY_DB_ENCRYPTION_KEY", "a passphrase of enough length 0123")]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let pinned = authority.certificate(&alice.peer()).await.unwrap();
    let signed = authority.sign_for(&pinned, "r").await.unwrap();
    let dpop = proof(&SigningKey::generate().unwrap(), "POST", TOKEN, &json!({}), world.clock.now());
    mint(&authority, &nobody(), Some(&signed.client_assertion), Some(&dpop)).await.unwrap();
    let bob = Holder::of(&authority.create_agent(&candidate("bob"), false, &operator()).await.unwrap());
    let pinned = authority.certificate(&bob.peer()).await.unwrap();
    assert_eq!(reason(authority.sign_for(&pinned, "r").await), (404, "agent_key_not_kept"));
}

#[tokio::test]
async fn concurrent_deactivation_and_creation_have_one_winner() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let authority = Arc::clone(&authority);
        tasks.spawn(
            async move { authority.create_agent(&candidate("alice"), true, &operator()).await.is_ok() },
        );
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|won| *won).count(), 1);
    let id = fleet(&authority).await[0].id.clone();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (authority, id) = (Arc::clone(&authority), id.clone());
        tasks.spawn(async move { authority.deactivate(&id, &operator()).await.is_ok() });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|won| *won).count(), 1);
}

#[tokio::test]
async fn an_agent_below_its_own_ca_may_present_the_leaf_alone() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let own_ca = Ca::below_root(&world, &authority).await;
    let id = format!("{}::walker", authority.trust().org);
    let (_, mut walker) = own_ca.agent(&id, &[], world.clock.now());
    authority.enroll_byoca(&candidate("walker"), &walker.brought(), &operator()).await.unwrap();
    walker.chain.truncate(1);
    authority.certificate(&walker.peer()).await.unwrap();
}

#[tokio::test]
async fn a_new_dpop_key_does_not_bring_an_old_certificate_back() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (alice, old) = (Holder::created(&authority, "alice").await, Holder::created(&authority, "old").await);
    let id = mastio_core::AgentId::parse(&alice.id).unwrap();
    let key = || SigningKey::generate().unwrap().public_jwk().to_value();
    authority.set_dpop_key(&id, &key(), &operator()).await.unwrap();
    // As an older system left it: a certificate in the grace slot, its time over.
    let mastio_config::Database::Sqlite(path) = world.settings(&[]).database;
    let connection = rusqlite::Connection::open(path).unwrap();
    let slot = "UPDATE internal_agents SET previous_cert_pem = ?1, previous_grace_period_expires_at = '2020-01-01T00:00:00+00:00' WHERE agent_id = ?2";
    connection.execute(slot, [old.chain[0].pem(), alice.id.clone()]).unwrap();
    authority.reload().unwrap();
    authority.set_dpop_key(&id, &key(), &operator()).await.unwrap();
    let kept: Option<String> = connection
        .query_row("SELECT previous_cert_pem FROM internal_agents WHERE agent_id = ?1", [&alice.id], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(kept, None);
}

#[tokio::test]
async fn a_halt_stops_minting_and_nothing_else() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let (token, key) = bound(&authority, &world, &alice).await;
    let mastio_config::Database::Sqlite(path) = world.settings(&[]).database;
    let connection = rusqlite::Connection::open(path).unwrap();
    let staged = "INSERT INTO mastio_keys (kid, pubkey_pem, privkey_pem, created_at) SELECT 'mastio-staged', pubkey_pem, privkey_pem, created_at FROM mastio_keys";
    connection.execute(staged, []).unwrap();
    authority.reload().unwrap();
    call(&authority, &world, &token, &key).await.unwrap();
    let now = world.clock.now();
    let dpop = proof(&key, "POST", TOKEN, &json!({}), now);
    let minted = mint(&authority, &nobody(), Some(&alice.assertion(now)), Some(&dpop)).await.unwrap_err();
    assert_eq!((minted.status(), minted.reason()), (503, "signing_halted"));
    assert!(minted.to_string().contains("mastio-staged"), "{minted}");
    assert_eq!(
        reason(authority.create_agent(&candidate("bob"), true, &operator()).await),
        (503, "signing_halted")
    );
    connection.execute("DELETE FROM mastio_keys WHERE kid = 'mastio-staged'", []).unwrap();
    authority.reload().unwrap();
    bound(&authority, &world, &alice).await;
}

#[tokio::test]
async fn every_class_of_routes_has_its_own_limit() {
    use mastio_authority::limits::Class;
    let world = World::new();
    let authority = world.boot(&[("MCP_PROXY_RATE_LIMIT_PER_MINUTE", "3")]).await.unwrap();
    let alice = mastio_core::AgentId::parse("acme::alice").unwrap();
    let allowed = |count: usize, one: &dyn Fn() -> bool| (0..count).filter(|_| one()).count();
    assert_eq!(allowed(9, &|| authority.limits.by_agent(&alice).is_ok()), 3);
    for (class, limit) in [(Class::Public, 30), (Class::Mint, 3), (Class::Admin, 3)] {
        assert_eq!(
            allowed(99, &|| authority.limits.by_address(class, address()).is_ok()),
            limit,
            "{class:?}"
        );
    }
    let over = authority.limits.by_agent(&alice).unwrap_err();
    assert!(over.retry_after <= Duration::from_secs(20), "{over:?}");
    world.clock.advance(Duration::from_secs(60));
    assert!(authority.limits.by_agent(&alice).is_ok());
}
