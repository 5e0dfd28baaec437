//! Deleting an agent for good: what ends, what the receipt says, and who gets its id.

use mastio_authority::{
    Authority,
    decommission::{Decommissioned, RECEIPT_TYPE},
    enroll::Candidate,
    lifecycle::Rotation,
    proofs::RequestLine,
    rotation::Source,
};
use mastio_core::AgentId;
use mastio_jose::{Algorithm, Compact, Jwk};
use mastio_pki::Certificate;
use mastio_store::{agents, audit, rotations::Phase};
use serde_json::{Value, json};

use crate::{
    device::{Device, named},
    overlap::{LOOK, Scene},
    renewal::brought,
    rotation::{COMPROMISE, cut},
    world::*,
};

fn id(authority: &Authority, name: &str) -> AgentId {
    AgentId::new(&authority.trust().org, &candidate(name).name)
}

fn insisting(name: &str) -> Candidate {
    Candidate { reuse: true, ..candidate(name) }
}

/// The claims of a receipt whose signature holds under the certificate that comes with it.
fn claims(receipt: &str, certificate: &str) -> Value {
    let jws = Compact::split(receipt).unwrap();
    assert_eq!(jws.header().unwrap().typ(), Some(RECEIPT_TYPE));
    let leaf = Certificate::from_pem(certificate).unwrap();
    let key = Jwk::from_spki_der(leaf.spki_der()).unwrap().verifying_key();
    jws.verify(&key, Algorithm::Es256).unwrap();
    jws.claims().unwrap()
}

#[tokio::test]
async fn a_deleted_agent_is_gone_and_its_receipt_says_what_ended() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    let id = id(&authority, "alice");
    let token = mint_mtls(&authority, &alice.peer()).await.unwrap();
    let done = authority.decommission(&id, Some("host retired"), &operator()).await.unwrap();

    assert!(agents::find(authority.store(), &id).await.unwrap().is_none());
    assert_eq!(reason(authority.certificate(&alice.peer()).await), (401, "certificate_revoked"));
    let line = RequestLine { method: "GET", path: CALL, proof: None };
    assert!(authority.caller_by_token(&alice.peer(), &token, &line).await.is_err(), "its tokens end");
    assert_eq!(world.count("SELECT count(*) FROM proxy_config WHERE \"key\" LIKE 'agent_key:%'"), 0);

    let claims = claims(&done.receipt.jws, done.signing_certificate.as_deref().unwrap());
    assert_eq!(
        (&claims["sub"], &claims["iss"]),
        (&id.as_str().into(), &authority.trust().org.as_str().into())
    );
    assert_eq!(claims["reason"], "host retired");
    assert_eq!(claims["ended"]["certificates"][0], alice.chain[0].thumbprint().to_string());
    assert_eq!(
        (&claims["ended"]["certificates_in_all"], &claims["ended"]["token_epoch"]),
        (&1.into(), &1.into())
    );
    let [revoked, deleted] = &done.entries[..] else { panic!("two entries: {:?}", done.entries) };
    assert_eq!((revoked.event_type.as_str(), deleted.event_type.as_str()), ("agent.revoked", "agent.delete"));
    for (place, entry) in [revoked, deleted].into_iter().enumerate() {
        assert_eq!(claims["audit"]["entries"][place]["hash"], json!(entry.entry_hash));
        assert_eq!(claims["audit"]["entries"][place]["seq"], json!(entry.chain_seq));
    }

    // Twice is as good as once, and the receipt stays to be had.
    let again = authority.decommission(&id, None, &operator()).await.unwrap();
    assert_eq!(again.receipt, done.receipt);
    assert_eq!(authority.receipt(&id).await.unwrap().receipt, done.receipt);
    assert_eq!(world.events("agent.delete"), 1);
    let nobody = AgentId::parse("acme::nobody").unwrap();
    assert_eq!(reason(authority.decommission(&nobody, None, &operator()).await), (404, "not_found"));
    assert_eq!(reason(authority.receipt(&nobody).await), (404, "not_found"));
}

#[tokio::test]
async fn an_agent_that_was_revoked_before_is_deleted_with_both_entries() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    Holder::created(&authority, "alice").await;
    let id = id(&authority, "alice");
    authority.revoke(&id, Some("stolen"), &operator()).await.unwrap();
    Holder::created(&authority, "bob").await;
    let done = authority.decommission(&id, None, &operator()).await.unwrap();
    let told: Vec<_> = done.entries.iter().map(|entry| entry.event_type.as_str()).collect();
    assert_eq!(told, ["agent.revoked", "agent.delete"]);
    assert!(done.receipt.first_seq + 1 < done.receipt.last_seq);
    assert_eq!(done.tombstone.reason, "decommissioned");
}

/// A crash between the deletion and its receipt leaves a tombstone that has none.
#[tokio::test]
async fn a_receipt_that_a_crash_prevented_is_made_when_it_is_asked_for() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    Holder::created(&authority, "alice").await;
    let id = id(&authority, "alice");
    let first = authority.decommission(&id, None, &operator()).await.unwrap();
    world.sql("UPDATE agent_tombstones SET receipt = '', first_seq = 0, last_seq = 0");
    let made = authority.receipt(&id).await.unwrap();
    assert_eq!(
        (made.receipt.first_seq, made.receipt.last_seq),
        (first.receipt.first_seq, first.receipt.last_seq)
    );
    assert_eq!(authority.receipt(&id).await.unwrap().receipt, made.receipt);
}

/// Whoever knows the root of today alone can check it, whatever became of the key that signed it first.
#[tokio::test]
async fn a_receipt_leads_to_the_root_of_the_day_on_which_it_is_handed_out() {
    let (scene, authority) = Scene::new().await;
    let id = id(&authority, "alice");
    let first = authority.decommission(&id, None, &operator()).await.unwrap();
    let said = |done: &Decommissioned| {
        let mut claims = claims(&done.receipt.jws, done.signing_certificate.as_deref().unwrap());
        claims["iat"].take();
        claims
    };
    let of_today = async || {
        scene.world.clock.advance(LOOK);
        let done = authority.receipt(&id).await.unwrap();
        let (trust, leaf) = (authority.trust(), done.signing_certificate.as_deref().unwrap());
        let issuer = trust.server_issuer.as_ref().unwrap().certificate();
        assert!(Certificate::from_pem(leaf).unwrap().is_signed_by(issuer));
        assert!(issuer.is_signed_by(&trust.root));
        assert_eq!(said(&done), said(&first));
        assert_eq!(authority.receipt(&id).await.unwrap().receipt, done.receipt, "once is enough");
    };
    of_today().await;
    authority.rotate_root(Source::Mint, COMPROMISE, &operator()).await.unwrap();
    of_today().await;
    let rotation = scene.begin(&authority).await.unwrap();
    for from in [Phase::Distribute, Phase::Reissue] {
        authority.advance_rotation(&rotation.id, Some(from), true, &operator()).await.unwrap();
    }
    of_today().await;
    authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
    of_today().await;

    // What somebody wrote into the database is not signed.
    scene
        .world
        .sql("UPDATE agent_tombstones SET receipt = substr(receipt, 1, length(receipt) - 4) || 'AAAA'");
    let forged = authority.receipt(&id).await.unwrap();
    cut(&authority).await.unwrap();
    assert_eq!(authority.receipt(&id).await.unwrap().receipt, forged.receipt);
}

#[tokio::test]
async fn the_id_of_a_deleted_agent_is_given_away_only_when_an_operator_insists() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let id = id(&authority, "alice");
    let taken = (409, "agent_decommissioned");
    let device = Device::new();
    let bury = async || authority.decommission(&id, None, &operator()).await.map(drop).unwrap();

    let old = Holder::created(&authority, "alice").await;
    let token = mint_mtls(&authority, &old.peer()).await.unwrap();
    bury().await;
    assert_eq!(reason(authority.create_agent(&candidate("alice"), true, &operator()).await), taken);
    assert_eq!(reason(brought(&authority, &world, &candidate("alice")).await.map(drop)), taken);
    let asked = authority.start_enrollment(&device.start()).await.unwrap().id;
    assert_eq!(reason(authority.approve_enrollment(&asked, &named("alice"), &operator()).await), taken);
    let rotation = Rotation::default();
    assert_eq!(reason(authority.rotate_certificate(&id, &rotation, &operator()).await), (404, "not_found"));

    let new = Holder::of(&authority.create_agent(&insisting("alice"), true, &operator()).await.unwrap());
    authority.certificate(&new.peer()).await.unwrap();
    assert!(authority.certificate(&old.peer()).await.is_err(), "the old one's credentials stay dead");
    let line = RequestLine { method: "GET", path: CALL, proof: None };
    assert!(authority.caller_by_token(&old.peer(), &token, &line).await.is_err());
    assert_eq!(reason(authority.receipt(&id).await), (404, "not_found"), "its receipt was handed out");

    bury().await;
    brought(&authority, &world, &insisting("alice")).await.unwrap();
    bury().await;
    let insist = mastio_authority::device::Approval { reuse: true, ..named("alice") };
    authority.approve_enrollment(&asked, &insist, &operator()).await.unwrap();
    assert_eq!(world.events("agent.id_reused"), 3);
    // Nobody had this one: there is nothing to tell.
    authority.create_agent(&insisting("bob"), true, &operator()).await.unwrap();
    assert_eq!(world.events("agent.id_reused"), 3);
    assert_eq!(world.count("SELECT count(*) FROM agent_tombstones"), 0);
    let file = world.dir.path().join("data/mcp_proxy.db");
    assert!(audit::verify_file(&file, &mut |_| ()).unwrap().iter().all(|finding| finding.result.is_ok()));
}

#[tokio::test]
async fn of_a_deletion_and_a_new_agent_at_once_none_slips_through() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    for round in 0..8 {
        let name = format!("agent-{round}");
        Holder::created(&authority, &name).await;
        let id = id(&authority, &name);
        let (operator, candidate) = (operator(), candidate(&name));
        let (gone, created, other) = tokio::join!(
            authority.decommission(&id, None, &operator),
            authority.create_agent(&candidate, true, &operator),
            authority.decommission(&id, None, &operator),
        );
        assert!(created.is_err(), "it was taken, then deleted");
        assert_eq!(gone.unwrap().receipt, other.unwrap().receipt);
        assert!(agents::find(authority.store(), &id).await.unwrap().is_none());
    }
    assert_eq!(world.events("agent.delete"), 8);
}

#[tokio::test]
async fn the_id_of_a_deleted_agent_is_not_free_in_other_letters() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    Holder::created(&authority, "b2").await;
    authority.decommission(&id(&authority, "b2"), None, &operator()).await.unwrap();
    let buried = reason(authority.create_agent(&candidate("b2"), true, &operator()).await);
    assert_eq!(reason(authority.create_agent(&candidate("B2"), true, &operator()).await), buried);
    assert_eq!(reason(brought(&authority, &world, &candidate("B2")).await.map(drop)), buried);
    authority.create_agent(&insisting("B2"), true, &operator()).await.unwrap();
    assert_eq!(world.events("agent.id_reused"), 1);
    assert_eq!(world.count("SELECT count(*) FROM agent_tombstones"), 0);
}
