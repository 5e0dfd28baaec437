//! Revoking, rotating and switching on again: what ends, what comes back, who wins.

use std::{collections::HashMap, time::Duration};

use crate::{
    authentication::{bound, call, mint},
    renewal::{csr, id},
    world::*,
};
use mastio_authority::{
    Authority,
    lifecycle::{LifecycleError, Rotation},
    login::LoginError,
};
use mastio_core::Clock;
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, pem};
use secrecy::ExposeSecret;
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);
const REVOKED: &str = "Certificate has been revoked";

fn connection(world: &World) -> rusqlite::Connection {
    let mastio_config::Database::Sqlite(path) = world.settings(&[]).database;
    rusqlite::Connection::open(path).unwrap()
}

fn count(connection: &rusqlite::Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

async fn rotated(authority: &Authority, holder: &Holder, rotation: &Rotation) -> Holder {
    let rotated = authority.rotate_certificate(&id(holder), rotation, &operator()).await.unwrap();
    let key = KeyPair::from_pem(rotated.key.as_ref().unwrap().expose_secret()).unwrap();
    Holder { id: holder.id.clone(), chain: pem::certificates(&rotated.certificates).unwrap(), key }
}

/// Every way in with the certificate and key of `holder` says that the certificate was revoked.
async fn assert_shut_out(authority: &Authority, world: &World, holder: &Holder) {
    let text = |error: &dyn std::error::Error| assert_eq!(error.to_string(), REVOKED);
    text(&authority.certificate(&holder.peer()).await.unwrap_err());
    text(&mint(authority, &holder.peer(), None, None).await.unwrap_err());
    let now = world.clock.now();
    let dpop = proof(&SigningKey::generate().unwrap(), "POST", TOKEN, &json!({}), now);
    let minted = mint(authority, &nobody(), Some(&holder.assertion(now)), Some(&dpop)).await;
    text(&minted.unwrap_err());
}

#[tokio::test]
async fn a_revocation_ends_certificate_token_and_challenge_and_tells_of_the_first_time() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let (token, key) = bound(&authority, &world, &alice).await;
    let pinned = authority.certificate(&alice.peer()).await.unwrap();
    let nonce = authority.challenge(pinned.agent.id());
    let first = authority.revoke(&id(&alice), Some("key found in a log"), &operator()).await.unwrap();
    assert!(!first.already && first.ended.certificates == 1);
    assert_eq!(first.thumbprint, Some(alice.chain[0].thumbprint()));

    assert_shut_out(&authority, &world, &alice).await;
    assert_eq!(reason(call(&authority, &world, &token, &key).await), (401, "token_epoch_ended"));
    let answered = alice.assertion_with(&alice.chain, &json!({ "nonce": nonce }), world.clock.now());
    let refused = authority.countersign(&pinned, &answered, &nonce).await.unwrap_err();
    assert!(matches!(refused, LoginError::Unknown), "{refused}");

    world.clock.advance(HOUR);
    let again = authority.revoke(&id(&alice), Some("another reason"), &operator()).await.unwrap();
    assert!(again.already);
    assert_eq!((again.at, again.reason, again.ended), (first.at, first.reason, first.ended));
    let missing = mastio_core::AgentId::parse("acme::nobody").unwrap();
    assert_eq!(reason(authority.revoke(&missing, None, &operator()).await), (404, "not_found"));
}

#[tokio::test]
async fn what_hangs_on_an_agent_ends_with_it_and_its_bindings_come_back_with_a_new_certificate() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let sql = connection(&world);
    let (thumbprint, spki) = (alice.chain[0].thumbprint(), hex::encode(alice.chain[0].spki_sha256()));
    sql.execute_batch(&format!(
        "INSERT INTO user_sessions (session_id, principal_id, agent_cert_thumbprint, sso_subject, idp_issuer, \
         created_at, expires_at) VALUES ('s', 'u', '{thumbprint}', 'x', 'y', '2026', '2099'); \
         INSERT INTO pending_enrollments (session_id, pubkey_pem, pubkey_fingerprint, requester_name, \
         requester_email, created_at, expires_at) VALUES ('p', '', '{spki}', 'n', 'e', '2026', '2099'); \
         INSERT INTO local_agent_resource_bindings (binding_id, agent_id, resource_id, granted_by, granted_at) \
         VALUES ('b', '{0}', 'r', 'op', '2026'), ('other', 'acme::bob', 'r', 'op', '2026'); \
         INSERT INTO local_agent_resource_bindings (binding_id, agent_id, resource_id, granted_by, granted_at, \
         revoked_at) VALUES ('long-gone', '{0}', 'q', 'op', '2026', '2026-01-01T00:00:00+00:00');",
        alice.id
    ))
    .unwrap();
    let live = "SELECT count(*) FROM local_agent_resource_bindings WHERE revoked_at IS NULL";
    let escrow = "SELECT count(*) FROM proxy_config WHERE \"key\" LIKE 'agent_key:%'";
    assert_eq!(count(&sql, escrow), 1);
    let ended = authority.revoke(&id(&alice), None, &operator()).await.unwrap().ended;
    assert_eq!((ended.sessions, ended.bindings, ended.pending_enrollments, ended.certificates), (1, 1, 1, 1));
    assert_eq!((count(&sql, live), count(&sql, escrow)), (1, 0));
    assert_eq!(count(&sql, "SELECT count(*) FROM user_sessions WHERE revoked_at IS NULL"), 0);
    assert_eq!(count(&sql, "SELECT count(*) FROM pending_enrollments WHERE status = 'pending'"), 0);

    let new = rotated(&authority, &alice, &Rotation::default()).await;
    authority.certificate(&new.peer()).await.unwrap();
    assert_eq!(count(&sql, live), 2, "only what the revocation had ended came back");
    assert_shut_out(&authority, &world, &alice).await;
}

#[tokio::test]
async fn rotation_switches_on_keeps_the_dpop_key_and_bars_the_old_key() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let dpop = SigningKey::generate().unwrap();
    authority.set_dpop_key(&id(&alice), &dpop.public_jwk().to_value(), &operator()).await.unwrap();
    authority.revoke(&id(&alice), None, &operator()).await.unwrap();
    let kept = authority.rotate_certificate(&id(&alice), &Rotation::default(), &operator()).await.unwrap();
    assert_eq!(kept.dpop_jkt, Some(dpop.public_jwk().thumbprint()));
    assert!(!kept.dpop_jwk.unwrap().expose_secret().contains("\"d\""), "the public key only");
    let replaced = Rotation { dpop: true, ..Rotation::default() };
    let made = authority.rotate_certificate(&id(&alice), &replaced, &operator()).await.unwrap();
    assert!(made.dpop_jwk.unwrap().expose_secret().contains("\"d\""));
    assert_ne!(made.dpop_jkt, kept.dpop_jkt);

    let with_old_key = Rotation { csr_pem: Some(csr(&alice.key)), ..Rotation::default() };
    let refused = authority.rotate_certificate(&id(&alice), &with_old_key, &operator()).await;
    assert_eq!(reason(refused), (409, "key_revoked"));
    let own = KeyPair::generate_p256().unwrap();
    let with_own_key = Rotation { csr_pem: Some(csr(&own)), ..Rotation::default() };
    let signed = authority.rotate_certificate(&id(&alice), &with_own_key, &operator()).await.unwrap();
    assert!(signed.key.is_none());
    let leaf = &pem::certificates(&signed.certificates).unwrap()[0];
    assert_eq!(leaf.spki_der(), own.spki_der());
    world.clock.advance(HOUR);
    let again = authority.revoke(&id(&alice), None, &operator()).await.unwrap();
    assert!(!again.already && again.at == world.clock.now(), "another life, another revocation");
}

#[tokio::test]
async fn of_rotations_at_once_one_wins() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let (alice_id, rotation, by) = (id(&alice), Rotation::default(), operator());
    let rotate = || authority.rotate_certificate(&alice_id, &rotation, &by);
    let (a, b, c) = tokio::join!(rotate(), rotate(), rotate());
    let (won, lost): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(Result::is_ok);
    for refused in lost {
        assert_eq!(reason(refused), (409, "contended"));
    }
    // Each replaced another certificate: of those that met the same one, one won. They follow each other to the pin.
    let mut replaced: HashMap<_, _> =
        won.into_iter().map(Result::unwrap).map(|won| (won.previous.unwrap(), won.thumbprint)).collect();
    let mut pin = alice.chain[0].thumbprint();
    assert!(!replaced.is_empty());
    while let Some(next) = replaced.remove(&pin) {
        pin = next;
    }
    assert!(replaced.is_empty(), "two took the place of one certificate");
    assert_eq!(authority.registry().find(&alice_id).await.unwrap().unwrap().pin, Some(pin));
}

#[tokio::test]
async fn grace_is_given_only_when_asked_for_within_the_setting_and_to_the_active() {
    let world = World::new();
    let authority = world.boot(&[("MCP_PROXY_AGENT_CERT_GRACE_PERIOD_HOURS", "2")]).await.unwrap();
    let old = Holder::created(&authority, "alice").await;
    let asked = |hours| Rotation { grace: Some(hours * HOUR), ..Rotation::default() };
    let too_long = authority.rotate_certificate(&id(&old), &asked(3), &operator()).await;
    assert_eq!(reason(too_long), (400, "grace_too_long"));
    let (token, key) = bound(&authority, &world, &old).await;
    let new = rotated(&authority, &old, &asked(1)).await;
    for holder in [&old, &new] {
        authority.certificate(&holder.peer()).await.unwrap();
    }
    call(&authority, &world, &token, &key).await.unwrap();
    world.clock.advance(HOUR);
    assert_eq!(reason(authority.certificate(&old.peer()).await), (401, "client_cert_pin_mismatch"));

    let next = rotated(&authority, &new, &asked(1)).await;
    let last = rotated(&authority, &next, &Rotation::default()).await;
    for gone in [&new, &next] {
        assert_shut_out(&authority, &world, gone).await;
    }
    authority.revoke(&id(&last), None, &operator()).await.unwrap();
    let back = rotated(&authority, &last, &asked(1)).await;
    assert_shut_out(&authority, &world, &last).await;
    authority.certificate(&back.peer()).await.unwrap();
}

#[tokio::test]
async fn only_what_was_merely_switched_off_is_switched_on() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let (token, key) = bound(&authority, &world, &alice).await;
    let on = async || authority.reactivate(&id(&alice), &operator()).await;
    assert_eq!(reason(on().await), (404, "not_found"));
    authority.deactivate(&id(&alice), &operator()).await.unwrap();
    on().await.unwrap();
    authority.certificate(&alice.peer()).await.unwrap();
    assert_eq!(reason(call(&authority, &world, &token, &key).await), (401, "token_epoch_ended"));
    authority.revoke(&id(&alice), None, &operator()).await.unwrap();
    let refused = on().await.unwrap_err();
    assert!(matches!(refused, LifecycleError::Revoked(_)) && refused.to_string().contains("rotate-cert"));
    assert_shut_out(&authority, &world, &alice).await;
}

#[tokio::test]
async fn a_key_is_one_agents_only_and_no_key_of_a_revoked_agent_comes_back() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let bob = Holder::created(&authority, "bob").await;
    let rotate = async |holder: &Holder, key: &KeyPair| {
        let rotation = Rotation { csr_pem: Some(csr(key)), grace: Some(HOUR), ..Rotation::default() };
        authority.rotate_certificate(&id(holder), &rotation, &operator()).await
    };
    assert_eq!(reason(rotate(&bob, &alice.key).await), (409, "key_in_use"));
    // Alice goes through three keys, each with a grace period: the first one left the slot long ago.
    let (second, third) = (KeyPair::generate_p256().unwrap(), KeyPair::generate_p256().unwrap());
    for key in [&second, &third] {
        rotate(&alice, key).await.unwrap();
    }
    authority.revoke(&id(&alice), None, &operator()).await.unwrap();
    for key in [&alice.key, &second, &third] {
        for holder in [&alice, &bob] {
            assert_eq!(reason(rotate(holder, key).await), (409, "key_revoked"));
        }
    }
    // Switched off, an agent lends its key to nobody for long: it cannot come back beside the new holder.
    let key = KeyPair::generate_p256().unwrap();
    rotate(&bob, &key).await.unwrap();
    authority.deactivate(&id(&bob), &operator()).await.unwrap();
    rotate(&alice, &key).await.unwrap();
    assert_eq!(reason(authority.reactivate(&id(&bob), &operator()).await), (409, "key_in_use"));
}
