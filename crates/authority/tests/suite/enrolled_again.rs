//! Agents that enrol again, and what becomes of what they had.

use std::time::Duration;

use mastio_authority::{
    Refusal,
    device::Start,
    lifecycle::{ProvenKey, Rotation},
};
use mastio_core::{AgentId, Clock};
use mastio_pki::{KeyPair, pem};

use crate::{
    device::{Device, named, refused, row},
    world::*,
};

#[tokio::test]
async fn an_active_agent_that_comes_again_keeps_what_it_had_for_a_while() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let old = Device::new().enrolled(&authority, "alice").await;
    let before = row(&authority, &old.id).await;
    let new = Device::new().enrolled(&authority, "alice").await;
    let sessions = "SELECT count(*) FROM local_audit WHERE event_type = 'agent.cert_rotated' AND session_id = \
        (SELECT session_id FROM pending_enrollments WHERE status = 'approved' AND dpop_jkt = \
            (SELECT dpop_jkt FROM internal_agents))";
    assert_eq!(world.count(sessions), 1, "the log tells which enrolment it was");
    let after = row(&authority, &old.id).await;
    assert_eq!(after.epoch, before.epoch, "its tokens go on");
    assert_eq!(after.federation_revision, 2);
    assert_eq!((&after.display_name, &after.capabilities), (&before.display_name, &before.capabilities));
    let grace = after.grace.unwrap();
    assert_eq!((grace.certificates, grace.dpop_jkt), (before.certificates, before.dpop_jkt));
    assert_eq!(grace.until, world.clock.now().plus(Duration::from_secs(48 * 3600)));
    authority.certificate(&old.peer()).await.unwrap();
    authority.certificate(&new.peer()).await.unwrap();

    authority.sweep_grace().await.unwrap();
    assert!(row(&authority, &old.id).await.grace.is_some(), "its time is not over");
    world.clock.advance(Duration::from_secs(48 * 3600));
    assert_eq!(authority.certificate(&old.peer()).await.unwrap_err().reason(), "client_cert_pin_mismatch");
    authority.sweep_grace().await.unwrap();
    assert_eq!(row(&authority, &old.id).await.grace, None);
    assert_eq!(world.events("agent.cert_grace_period_expired"), 1);
    authority.sweep_grace().await.unwrap();
    assert_eq!(world.events("agent.cert_grace_period_expired"), 1, "once is enough");
    authority.certificate(&new.peer()).await.unwrap();
}

#[tokio::test]
async fn a_revoked_agent_comes_back_with_another_key_only_and_can_be_revoked_again() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let stolen = Device::new().enrolled(&authority, "alice").await;
    let id = AgentId::parse(&stolen.id).unwrap();
    // This one waits while its key is revoked.
    let thief = Device { key: KeyPair::from_pkcs8_der(&stolen.key.to_pkcs8_der()).unwrap(), ..Device::new() };
    let session = thief.started(&authority).await;
    authority.revoke(&id, None, &operator()).await.unwrap();
    let late = authority.approve_enrollment(&session, &named("alice"), &operator()).await;
    assert_eq!(refused(late).2, "Cannot approve an enrollment in status 'rejected'");
    let (status, reason, _) = refused(authority.start_enrollment(&thief.start()).await);
    assert_eq!((status, reason), (409, "key_revoked"));

    let fresh = Device::new().enrolled(&authority, "alice").await;
    let back = row(&authority, &stolen.id).await;
    assert!(back.is_active() && back.grace.is_none());
    authority.certificate(&fresh.peer()).await.unwrap();
    assert_eq!(
        authority.certificate(&stolen.peer()).await.unwrap_err().to_string(),
        "Certificate has been revoked"
    );
    let again = authority.revoke(&id, None, &operator()).await.unwrap();
    assert!(!again.already);
    assert!(authority.certificate(&fresh.peer()).await.is_err());
}

#[tokio::test]
async fn an_agent_that_was_switched_off_comes_back_without_grace() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let old = Device::new().enrolled(&authority, "alice").await;
    let id = AgentId::parse(&old.id).unwrap();
    authority.deactivate(&id, &operator()).await.unwrap();
    let epoch = row(&authority, &old.id).await.epoch;
    let new = Device::new().enrolled(&authority, "alice").await;
    let back = row(&authority, &old.id).await;
    assert!(back.is_active() && back.grace.is_none() && back.epoch > epoch);
    authority.certificate(&new.peer()).await.unwrap();
    assert!(authority.certificate(&old.peer()).await.is_err());
}

#[tokio::test]
async fn a_certificate_is_rotated_to_a_key_whose_possession_is_proved() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let old = Device::new().enrolled(&authority, "alice").await;
    let id = AgentId::parse(&old.id).unwrap();
    let next = Device::new();
    let Start { public_key_pem, pop_signature, .. } = next.start();
    let proven = ProvenKey { public_key_pem, pop_signature: pop_signature.unwrap() };
    let rotate = async |rotation| authority.rotate_certificate(&id, &rotation, &operator()).await;
    let foreign = ProvenKey { pop_signature: next.sign("something else"), ..proven.clone() };
    let refused = rotate(Rotation { proven_key: Some(foreign), ..Rotation::default() }).await.unwrap_err();
    assert_eq!((refused.status(), refused.reason()), (400, "possession_not_proved"));
    let both =
        Rotation { csr_pem: Some("x".into()), proven_key: Some(proven.clone()), ..Rotation::default() };
    assert_eq!(rotate(both).await.unwrap_err().reason(), "two_keys");

    let rotated = rotate(Rotation { proven_key: Some(proven), ..Rotation::default() }).await.unwrap();
    assert!(rotated.key.is_none(), "it stays with its owner");
    let chain = pem::certificates(&rotated.certificates).unwrap();
    let holder = Holder { id: old.id.clone(), chain, key: next.key };
    authority.certificate(&holder.peer()).await.unwrap();
    assert!(authority.certificate(&old.peer()).await.is_err());
}

#[tokio::test]
async fn an_agent_of_spire_is_not_enrolled_again() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Device::new().enrolled(&authority, "alice").await;
    world.sql("UPDATE internal_agents SET enrollment_method = 'spiffe'");
    let id = Device::new().started(&authority).await;
    let (status, reason, _) = refused(authority.approve_enrollment(&id, &named("alice"), &operator()).await);
    assert_eq!((status, reason), (409, "owned_by_spire"));
    assert_eq!(authority.waiting_enrollments().await.unwrap().len(), 1, "it can still be decided otherwise");
    assert!(row(&authority, &alice.id).await.is_active());
}

#[tokio::test]
async fn without_a_grace_period_what_an_agent_had_ends_when_it_comes_again() {
    let world = World::new();
    let authority = world.boot(&[("MCP_PROXY_AGENT_CERT_GRACE_PERIOD_HOURS", "0")]).await.unwrap();
    let old = Device::new().enrolled(&authority, "alice").await;
    let epoch = row(&authority, &old.id).await.epoch;
    let new = Device::new().enrolled(&authority, "alice").await;
    authority.certificate(&new.peer()).await.unwrap();
    let ended = authority.certificate(&old.peer()).await.unwrap_err();
    assert_eq!(ended.to_string(), "Certificate has been revoked");
    assert!(row(&authority, &old.id).await.epoch > epoch, "its tokens end too");
}
