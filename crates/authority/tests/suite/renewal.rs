//! An agent that replaces its own certificate.

use std::time::Duration;

use crate::{
    authentication::{bound, call, mint},
    forge::Ca,
    world::*,
};
use mastio_authority::{
    Authority, Refusal,
    enroll::{Brought, Candidate, EnrollError, Possession},
    lifecycle::{LifecycleError, Rotated, Rotation},
    lifetime::Lifetime,
    renew::Renewal,
};
use mastio_core::{AgentId, Clock, SpiffeId, SystemRng};
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, pem, profile};
use mastio_store::agents::{self, AgentRow};
use secrecy::ExposeSecret;
use serde_json::json;

pub(crate) const RENEW: &str = "/v1/agents/self/renew";
const HOUR: Duration = Duration::from_secs(3600);

/// A certificate request of `key`; what it asks for beside is ignored.
pub(crate) fn csr(key: &KeyPair) -> String {
    rcgen::CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

pub(crate) fn id(holder: &Holder) -> AgentId {
    AgentId::parse(&holder.id).unwrap()
}

/// What became of a request to renew: the new certificate, or status and reason.
pub(crate) type Renewed = Result<Rotated, (u16, &'static str)>;

/// `holder` asks for a certificate of `next`, proving itself by `dpop`.
pub(crate) async fn renew(
    authority: &Authority,
    world: &World,
    holder: &Holder,
    dpop: &SigningKey,
    next: &KeyPair,
    lifetime: Option<u64>,
) -> Renewed {
    let said = |error: &dyn Refusal| (error.status(), error.reason());
    let more = json!({ "nonce": authority.proofs().nonce() });
    let proof = proof(dpop, "POST", RENEW, &more, world.clock.now());
    let proven = authority.key_holder(&holder.peer(), &line("POST", RENEW, Some(&proof))).await;
    let proven = proven.map_err(|error| said(&error))?;
    let lifetime = lifetime.map(|seconds| Lifetime::try_from(seconds).unwrap());
    let renewal = Renewal { csr_pem: csr(next), lifetime };
    authority.renew(&proven, &renewal).await.map_err(|error| said(&error))
}

pub(crate) fn with(holder: &Holder, rotated: &Rotated, key: KeyPair) -> Holder {
    Holder { id: holder.id.clone(), chain: pem::certificates(&rotated.certificates).unwrap(), key }
}

async fn row(authority: &Authority, holder: &Holder) -> AgentRow {
    agents::find(authority.store(), &id(holder)).await.unwrap().unwrap()
}

async fn alice(authority: &Authority) -> (Holder, SigningKey) {
    let (alice, dpop) = (Holder::created(authority, "alice").await, SigningKey::generate().unwrap());
    let jwk = dpop.public_jwk().to_value();
    authority.set_dpop_key(&id(&alice), &jwk, &operator()).await.unwrap();
    (alice, dpop)
}

#[tokio::test]
async fn who_was_let_in_before_a_cut_gets_no_certificate_after_it() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (old, dpop) = alice(&authority).await;
    let more = json!({ "nonce": authority.proofs().nonce() });
    let proof = proof(&dpop, "POST", RENEW, &more, world.clock.now());
    let proven = authority.key_holder(&old.peer(), &line("POST", RENEW, Some(&proof))).await.unwrap();
    let pinned = row(&authority, &old).await.certificates;
    crate::rotation::cut(&authority).await.unwrap();
    let renewal = Renewal { csr_pem: csr(&KeyPair::generate_p256().unwrap()), lifetime: None };
    let refused = authority.renew(&proven, &renewal).await.unwrap_err();
    assert_eq!(refused.status(), 409, "{refused}");
    assert_eq!(row(&authority, &old).await.certificates, pinned);
}

#[tokio::test]
async fn renewal_overlaps_and_ends_no_token() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (old, dpop) = alice(&authority).await;
    let (token, key) = bound(&authority, &world, &old).await;
    let next = KeyPair::generate_p256().unwrap();
    let renewed = renew(&authority, &world, &old, &dpop, &next, None).await.unwrap();
    assert!(renewed.key.is_none() && renewed.previous == Some(old.chain[0].thumbprint()));
    assert!(renewed.dpop_jwk.is_some() && renewed.dpop_jkt == Some(dpop.public_jwk().thumbprint()));
    let new = with(&old, &renewed, next);
    assert_eq!(new.chain.len(), 2, "the intermediate comes along");
    call(&authority, &world, &token, &key).await.unwrap();
    for holder in [&old, &new] {
        authority.certificate(&holder.peer()).await.unwrap();
    }
    // The one of before works for the overlap and not after it, and never renews.
    let another = KeyPair::generate_p256().unwrap();
    let refused = renew(&authority, &world, &old, &dpop, &another, None).await;
    assert_eq!(refused.unwrap_err(), (403, "certificate_replaced"));
    world.clock.advance(48 * HOUR);
    assert_eq!(reason(authority.certificate(&old.peer()).await), (401, "client_cert_pin_mismatch"));
    authority.certificate(&new.peer()).await.unwrap();
    assert_eq!(
        reason(authority.sign_for(&authority.certificate(&new.peer()).await.unwrap(), "r").await),
        (404, "agent_key_not_kept"),
        "the key that the Mastio kept is not the agent's any more"
    );
}

#[tokio::test]
async fn a_lost_answer_is_given_again_for_the_same_key_only() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (old, dpop) = alice(&authority).await;
    let next = KeyPair::generate_p256().unwrap();
    let first = renew(&authority, &world, &old, &dpop, &next, None).await.unwrap();
    let before = row(&authority, &old).await;
    let again = renew(&authority, &world, &old, &dpop, &next, Some(3600)).await.unwrap();
    assert_eq!(again.certificates, first.certificates);
    assert_eq!(row(&authority, &old).await, before, "nothing was changed");
}

#[tokio::test]
async fn renewals_have_a_pace_and_repeated_answers_count() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (old, dpop) = alice(&authority).await;
    let next = KeyPair::generate_p256().unwrap();
    let ask = async || renew(&authority, &world, &old, &dpop, &next, None).await.map(drop);
    for _ in 0..10 {
        ask().await.unwrap();
    }
    assert_eq!(ask().await, Err((429, "rate_limited")));
    let (bob, other) = (Holder::created(&authority, "bob").await, SigningKey::generate().unwrap());
    renew(&authority, &world, &bob, &other, &KeyPair::generate_p256().unwrap(), None).await.unwrap();
    for _ in 0..6 {
        world.clock.advance(HOUR / 6);
        ask().await.unwrap();
        assert_eq!(ask().await, Err((429, "rate_limited")));
    }
}

#[tokio::test]
async fn both_keys_are_needed_and_the_registered_one_counts() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (alice, dpop) = alice(&authority).await;
    let without = authority.key_holder(&alice.peer(), &line("POST", RENEW, None)).await;
    assert_eq!(reason(without), (401, "dpop_missing"));
    let no_nonce = proof(&dpop, "POST", RENEW, &json!({}), world.clock.now());
    let refused = authority.key_holder(&alice.peer(), &line("POST", RENEW, Some(&no_nonce))).await;
    assert_eq!(reason(refused), (401, "dpop_nonce_required"));
    let tls_less = authority.key_holder(&nobody(), &line("POST", RENEW, Some(&no_nonce))).await;
    assert_eq!(reason(tls_less), (401, "client_cert_not_verified"));
    // Replaced a moment ago, the old DPoP key still calls, but it does not renew.
    let successor = SigningKey::generate().unwrap();
    let jwk = successor.public_jwk().to_value();
    authority.set_dpop_key(&id(&alice), &jwk, &operator()).await.unwrap();
    let next = KeyPair::generate_p256().unwrap();
    let graced = renew(&authority, &world, &alice, &dpop, &next, None).await;
    assert_eq!(graced.unwrap_err(), (401, "dpop_key_not_registered"));
    renew(&authority, &world, &alice, &successor, &next, None).await.unwrap();
}

#[tokio::test]
async fn the_first_key_shown_is_registered_unless_keys_are_required() {
    for (mode, expected) in
        [("optional", None), ("off", None), ("required", Some((401, "dpop_no_key_registered")))]
    {
        let world = World::new();
        let authority = world.boot(&[("MCP_PROXY_EGRESS_DPOP_MODE", mode)]).await.unwrap();
        let alice = Holder::created(&authority, "alice").await;
        let (dpop, next) = (SigningKey::generate().unwrap(), KeyPair::generate_p256().unwrap());
        let renewed = renew(&authority, &world, &alice, &dpop, &next, None).await;
        assert_eq!(renewed.as_ref().err().copied(), expected, "{mode}");
        let registered = row(&authority, &alice).await.dpop_jkt;
        assert_eq!(registered, expected.is_none().then(|| dpop.public_jwk().thumbprint()), "{mode}");
        if let Ok(renewed) = renewed {
            let new = with(&alice, &renewed, next);
            let (stranger, next) = (SigningKey::generate().unwrap(), KeyPair::generate_p256().unwrap());
            let refused = renew(&authority, &world, &new, &stranger, &next, None).await;
            assert_eq!(refused.unwrap_err(), (401, "dpop_key_not_registered"), "{mode}");
        }
    }
}

#[tokio::test]
async fn lifetimes_are_remembered_and_never_exceed_the_issuer() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let candidate = Candidate { lifetime: Some(Lifetime::try_from(7200).unwrap()), ..candidate("alice") };
    let mut alice = Holder::of(&authority.create_agent(&candidate, true, &operator()).await.unwrap());
    let ends_after = |holder: &Holder| holder.chain[0].not_after().since(world.clock.now());
    assert_eq!(ends_after(&alice), 2 * HOUR);
    let dpop = SigningKey::generate().unwrap();
    for (asked, lives) in [(None, 7200), (Some(3600), 3600), (None, 3600)] {
        let next = KeyPair::generate_p256().unwrap();
        let renewed = renew(&authority, &world, &alice, &dpop, &next, asked).await.unwrap();
        alice = with(&alice, &renewed, next);
        assert_eq!(ends_after(&alice).as_secs(), lives);
    }
    let overlap = row(&authority, &alice).await.grace.unwrap().until;
    assert_eq!(overlap, world.clock.now().plus(HOUR), "not beyond the end of the certificate of before");
    let rotated = authority.rotate_certificate(&id(&alice), &Rotation::default(), &operator()).await.unwrap();
    assert_eq!(rotated.not_after, world.clock.now().plus(HOUR));
    let issuer_ends = authority.trust().issuer.as_ref().unwrap().certificate().not_after();
    world.clock.advance(issuer_ends.since(world.clock.now()) - HOUR);
    let year = Candidate {
        lifetime: Some(Lifetime::try_from(31_536_000).unwrap()),
        ..crate::world::candidate("late")
    };
    let late = Holder::of(&authority.create_agent(&year, true, &operator()).await.unwrap());
    assert_eq!(late.chain[0].not_after(), issuer_ends);
}

#[tokio::test]
async fn two_renewals_at_once_have_one_winner() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (alice, dpop) = alice(&authority).await;
    let keys = [(); 2].map(|()| KeyPair::generate_p256().unwrap());
    let [first, second] = &keys;
    let (first, second) = tokio::join!(
        renew(&authority, &world, &alice, &dpop, first, None),
        renew(&authority, &world, &alice, &dpop, second, None)
    );
    let (won, lost): (Vec<_>, Vec<_>) = [first, second].into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 1));
    let lost = lost.into_iter().next().unwrap().unwrap_err();
    // Whoever came later was judged on the old record or on the new one.
    assert!(matches!(lost, (409, "contended") | (403, "certificate_replaced")), "{lost:?}");
    let pinned = authority.registry().find(&id(&alice)).await.unwrap().unwrap().pin;
    assert_eq!(won.into_iter().next().unwrap().unwrap().thumbprint, pinned.unwrap());
}

#[tokio::test]
async fn revoked_keys_and_certificates_of_others_are_not_renewed() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (alice, dpop) = alice(&authority).await;
    let mallory = Holder::created(&authority, "mallory").await;
    authority.revoke(&id(&mallory), None, &operator()).await.unwrap();
    let stolen = renew(&authority, &world, &alice, &dpop, &mallory.key, None).await;
    assert_eq!(stolen.unwrap_err(), (409, "key_revoked"));
    let gone = renew(&authority, &world, &mallory, &dpop, &alice.key, None).await;
    assert_eq!(gone.unwrap_err(), (401, "certificate_revoked"));
}

#[tokio::test]
async fn who_issued_what_is_pinned_decides_and_not_how_the_agent_came_in() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let ca = Ca::below_root(&world, &authority).await;
    let (alice, dpop) = alice(&authority).await;
    let next = KeyPair::generate_p256().unwrap();
    let due = async |holder: &Holder| {
        authority.renewal_due(&authority.registry().find(&id(holder)).await.unwrap().unwrap())
    };
    // Made here, then given a certificate of the own CA.
    let own = ca.agent(&alice.id, &[], world.clock.now()).1;
    authority.enroll_byoca(&candidate("alice"), &own.update(), &operator()).await.unwrap();
    world.clock.advance(20 * HOUR);
    assert_eq!(due(&own).await, None);
    let foreign = renew(&authority, &world, &own, &dpop, &next, None).await;
    assert_eq!(foreign.unwrap_err(), (409, "owned_by_organisation"));
    assert!(LifecycleError::OwnedByOrganisation(id(&own)).to_string().contains("own CA"));
    // Come with a certificate of the own CA, then given one that is made here.
    let bob = ca.agent(&alice.id.replace("alice", "bob"), &[], world.clock.now()).1;
    authority.enroll_byoca(&candidate("bob"), &bob.brought(), &operator()).await.unwrap();
    let rotated = authority.rotate_certificate(&id(&bob), &Rotation::default(), &operator()).await.unwrap();
    let key = KeyPair::from_pem(rotated.key.as_ref().unwrap().expose_secret()).unwrap();
    let bob = with(&bob, &rotated, key);
    world.clock.advance(300 * 24 * HOUR);
    assert!(due(&bob).await.is_some());
    renew(&authority, &world, &bob, &dpop, &next, None).await.unwrap();
}

/// An agent with a certificate that it brought along, and that was issued here.
pub(crate) async fn brought(
    authority: &Authority,
    world: &World,
    candidate: &Candidate,
) -> Result<Holder, EnrollError> {
    let (trust, key) = (authority.trust(), KeyPair::generate_p256().unwrap());
    let id = AgentId::new(&trust.org, &candidate.name);
    let spiffe = SpiffeId::of_agent(&trust.domain, &trust.org, &candidate.name);
    let issuer = trust.issuer.as_ref().unwrap();
    let leaf =
        profile::agent(issuer, &id, &spiffe, key.spki_der(), 999 * HOUR, world.clock.now(), &SystemRng);
    let chain = vec![leaf.unwrap(), issuer.certificate().clone()];
    let certificates = mastio_pki::issued_chain(&chain[0], &chain[1..]);
    let brought =
        Brought { certificates, possession: Possession::Key(key.to_pkcs8_pem()), update_existing: false };
    authority.enroll_byoca(candidate, &brought, &operator()).await?;
    Ok(Holder { id: id.to_string(), chain, key })
}

#[tokio::test]
async fn without_an_overlap_the_old_certificate_ends_at_once() {
    let world = World::new();
    let none = ("MCP_PROXY_AGENT_CERT_GRACE_PERIOD_HOURS", "0");
    let authority = world.boot(&[none]).await.unwrap();
    let (old, dpop) = alice(&authority).await;
    let (token, key) = bound(&authority, &world, &old).await;
    let next = KeyPair::generate_p256().unwrap();
    let renewed = renew(&authority, &world, &old, &dpop, &next, None).await.unwrap();
    assert_eq!(reason(authority.certificate(&old.peer()).await), (401, "client_cert_pin_mismatch"));
    call(&authority, &world, &token, &key).await.unwrap();
    let new = with(&old, &renewed, next);
    mint(&authority, &new.peer(), None, None).await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_due_when_two_thirds_of_its_life_are_over() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let own = Ca::below_root(&world, &authority)
        .await
        .agent(&alice.id.replace("alice", "own"), &[], alice.chain[0].not_before())
        .1;
    authority.enroll_byoca(&candidate("own"), &own.brought(), &operator()).await.unwrap();
    let due = async |holder: &Holder| {
        let pinned = authority.certificate(&holder.peer()).await.unwrap();
        authority.renewal_due(&pinned.agent)
    };
    let leaf = &alice.chain[0];
    let at = leaf.not_before().plus(leaf.not_after().since(leaf.not_before()) * 2 / 3);
    world.clock.advance(at.since(world.clock.now()) - Duration::from_secs(1));
    assert_eq!(due(&alice).await, None);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(due(&alice).await, Some(at));
    let own = authority.registry().find(&id(&own)).await.unwrap().unwrap();
    assert_eq!(authority.renewal_due(&own), None);
}
