//! Enrolment by device code: who becomes an agent, and when.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use mastio_authority::{
    Authority, Refusal,
    device::{Approval, DeviceError, Outcome, SESSION_LIFETIME, Start, Started},
    possession::{possession_message, session_message},
};
use mastio_core::{AgentId, Clock, EnrollmentId, PrincipalKind, sha256};
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, pem};
use mastio_store::{agents, pending::Requester};
use serde_json::json;

use crate::world::*;

/// A machine that wants to become an agent.
pub(crate) struct Device {
    pub(crate) key: KeyPair,
    pub(crate) dpop: SigningKey,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self { key: KeyPair::generate_p256().unwrap(), dpop: SigningKey::generate().unwrap() }
    }

    pub(crate) fn sign(&self, message: &str) -> String {
        let key = SigningKey::from_pkcs8_der(&self.key.to_pkcs8_der()).unwrap();
        URL_SAFE_NO_PAD.encode(key.sign_der(message.as_bytes()).unwrap())
    }

    pub(crate) fn start(&self) -> Start {
        let fingerprint = hex::encode(sha256(self.key.spki_der()));
        Start {
            public_key_pem: pem::encode("PUBLIC KEY", self.key.spki_der()),
            pop_signature: Some(self.sign(&possession_message(&fingerprint))),
            requester: Requester {
                name: "Mario Rossi".into(),
                email: "mario@example.com".into(),
                reason: None,
                device_info: Some(r#"{"os":"linux"}"#.into()),
            },
            dpop_jwk: Some(self.dpop.public_jwk().to_value()),
            kind: PrincipalKind::Agent,
        }
    }

    pub(crate) async fn started(&self, authority: &Authority) -> EnrollmentId {
        authority.start_enrollment(&self.start()).await.unwrap().id
    }

    pub(crate) async fn status(&self, authority: &Authority, id: &EnrollmentId) -> Outcome {
        let proof = self.sign(&session_message(id));
        authority.enrollment_status(id, Some(&proof), Duration::ZERO).await.unwrap()
    }

    /// Starts, is approved as `name` and collects its certificate.
    pub(crate) async fn enrolled(self, authority: &Authority, name: &str) -> Holder {
        let id = self.started(authority).await;
        authority.approve_enrollment(&id, &named(name), &operator()).await.unwrap();
        let outcome = self.status(authority, &id).await;
        let chain = pem::certificates(&outcome.certificates.unwrap()).unwrap();
        Holder { id: outcome.agent.unwrap().to_string(), chain, key: self.key }
    }
}

pub(crate) fn named(name: &str) -> Approval {
    Approval {
        agent_id: name.into(),
        capabilities: vec!["kyc.read".into()],
        groups: vec!["staff".into()],
        reuse: false,
    }
}

pub(crate) async fn row(authority: &Authority, id: &str) -> agents::AgentRow {
    let id = AgentId::parse(id).unwrap();
    agents::find(authority.store(), &id).await.unwrap().unwrap()
}

pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, DeviceError>) -> (u16, &'static str, String) {
    let error = result.unwrap_err();
    (error.status(), error.reason(), error.to_string())
}

#[tokio::test]
async fn a_device_becomes_an_agent_when_an_operator_says_so() {
    let world = World::new();
    let authority = world.boot(&[("MCP_PROXY_ORG_ID", "acme")]).await.unwrap();
    let device = Device::new();
    let Started { id, expires_at } = authority.start_enrollment(&device.start()).await.unwrap();
    assert_eq!(expires_at, world.clock.now().plus(SESSION_LIFETIME));
    assert_eq!(device.status(&authority, &id).await, Outcome::PENDING);
    let waiting = authority.waiting_enrollments().await.unwrap();
    assert_eq!(waiting.iter().map(|row| &row.id).collect::<Vec<_>>(), [&id]);

    let agent = authority.approve_enrollment(&id, &named("acme::alice"), &operator()).await.unwrap();
    assert_eq!(agent.as_str(), "acme::alice");
    assert!(authority.waiting_enrollments().await.unwrap().is_empty());
    let approved = Outcome { status: "approved", ..Outcome::PENDING };
    for proof in [None, Some("nonsense"), Some(Device::new().sign(&session_message(&id)).as_str())] {
        let told = authority.enrollment_status(&id, proof, Duration::ZERO).await.unwrap();
        assert_eq!(told, approved, "without a proof only the status is told");
    }
    let outcome = device.status(&authority, &id).await;
    assert_eq!(outcome.capabilities, Some(vec!["kyc.read".to_owned()]));
    let chain = pem::certificates(outcome.certificates.as_deref().unwrap()).unwrap();
    assert_eq!(chain.len(), 2, "leaf and intermediate");
    assert_eq!(chain[0].spiffe_id().unwrap().to_string(), "spiffe://cullis.local/acme/alice");

    let alice = row(&authority, "acme::alice").await;
    assert_eq!(alice.method, Some(agents::Method::Connector));
    assert_eq!(alice.dpop_jkt, Some(device.dpop.public_jwk().thumbprint()));
    assert!(alice.federated && alice.federation_revision == 1 && alice.federated_at.is_some());
    assert!(agents::jwk(authority.store(), alice.dpop_jkt.unwrap()).await.unwrap().is_some());
    let holder = Holder { id: agent.to_string(), chain, key: device.key };
    authority.certificate(&holder.peer()).await.unwrap();
}

#[tokio::test]
async fn a_name_is_one_of_ours_or_refused_with_a_hint() {
    let world = World::new();
    let authority = world.boot(&[("MCP_PROXY_ORG_ID", "acme")]).await.unwrap();
    let id = Device::new().started(&authority).await;
    for name in
        ["other::evil", "user::root", "acme::acme::alice", "acme::user::root", "weird name/../x", "", "é"]
    {
        let (status, reason, text) =
            refused(authority.approve_enrollment(&id, &named(name), &operator()).await);
        assert_eq!((status, reason), (422, "agent_id_invalid"), "{name}");
        assert!(text.contains("acme::kyc-screener"), "{text}");
    }
    let agent = authority.approve_enrollment(&id, &named("alice"), &operator()).await.unwrap();
    assert_eq!(agent.as_str(), "acme::alice");

    let id = Device::new().started(&authority).await;
    let (status, reason, text) =
        refused(authority.approve_enrollment(&id, &named("Alice"), &operator()).await);
    assert_eq!((status, reason), (409, "agent_id_lookalike"));
    assert!(text.contains("acme::alice"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_decide_at_once_one_wins() {
    let world = World::new();
    let authority = world.boot(&[("MCP_PROXY_ORG_ID", "acme")]).await.unwrap();
    for round in 0..5 {
        let device = Device::new();
        let id = device.started(&authority).await;
        let mut deciders = tokio::task::JoinSet::new();
        for decider in 0..8 {
            let (authority, id): (Arc<Authority>, _) = (Arc::clone(&authority), id.clone());
            deciders.spawn(async move {
                let approval = named(&format!("agent-{round}-{decider}"));
                match decider % 4 {
                    0 => authority.reject_enrollment(&id, "no", &operator()).await.map(|()| None),
                    _ => authority.approve_enrollment(&id, &approval, &operator()).await.map(Some),
                }
            });
        }
        let mut won = Vec::new();
        for decided in deciders.join_all().await {
            match decided {
                Ok(agent) => won.push(agent),
                Err(DeviceError::Decided { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let [winner] = won.as_slice() else { panic!("{won:?}") };
        let outcome = device.status(&authority, &id).await;
        assert_eq!(outcome.agent, *winner);
        assert_eq!(outcome.status, if winner.is_some() { "approved" } else { "rejected" });
        let made = crate::world::fleet(&authority).await;
        let made = made.iter().filter(|agent| agent.id.name().starts_with(&format!("agent-{round}-")));
        assert_eq!(made.count(), usize::from(winner.is_some()), "nobody else became an agent");
        let again = authority.approve_enrollment(&id, &named("late"), &operator()).await;
        let expected = format!("Cannot approve an enrollment in status '{}'", outcome.status);
        assert_eq!(refused(again), (409, "enrollment_decided", expected));
    }
}

#[tokio::test]
async fn two_sessions_approved_under_one_new_name_are_one_agent() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let (one, two) = (Device::new(), Device::new());
    let (first, second) = (one.started(&authority).await, two.started(&authority).await);
    let (approval, by) = (named("alice"), operator());
    let both = tokio::join!(
        authority.approve_enrollment(&first, &approval, &by),
        authority.approve_enrollment(&second, &approval, &by),
    );
    assert_eq!(both.0.unwrap(), both.1.unwrap());
    assert_eq!(crate::world::fleet(&authority).await.len(), 1);
}

#[tokio::test]
async fn nobody_is_approved_who_has_not_shown_that_it_holds_the_key() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let device = Device::new();
    let web_page = Start { pop_signature: None, dpop_jwk: None, ..device.start() };
    let id = authority.start_enrollment(&web_page).await.unwrap().id;
    let early = authority.approve_enrollment(&id, &named("alice"), &operator()).await;
    assert_eq!(refused(early).1, "possession_not_shown");
    let other = Device::new().sign(&session_message(&id));
    authority.enrollment_status(&id, Some(&other), Duration::ZERO).await.unwrap();
    let early = authority.approve_enrollment(&id, &named("alice"), &operator()).await;
    assert_eq!(refused(early).1, "possession_not_shown");

    device.status(&authority, &id).await;
    authority.enrollment_status(&id, None, Duration::ZERO).await.unwrap();
    let agent = authority.approve_enrollment(&id, &named("alice"), &operator()).await.unwrap();
    assert_eq!(row(&authority, agent.as_str()).await.dpop_jkt, None);
}

#[tokio::test]
async fn another_start_takes_the_place_of_one_with_the_same_key_if_it_proves_it() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let device = Device::new();
    let first = device.started(&authority).await;
    authority.start_enrollment(&Start { pop_signature: None, ..device.start() }).await.unwrap();
    assert_eq!(device.status(&authority, &first).await.status, "pending");
    let last = device.started(&authority).await;
    let outcome = device.status(&authority, &first).await;
    assert_eq!(outcome.status, "rejected");
    assert!(outcome.rejection_reason.unwrap().contains("same key"));
    let waiting = authority.waiting_enrollments().await.unwrap();
    assert_eq!(waiting.iter().map(|row| &row.id).collect::<Vec<_>>(), [&last]);
}

#[tokio::test]
async fn what_is_not_decided_in_time_is_over_and_forgotten_after_a_week() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let device = Device::new();
    let id = device.started(&authority).await;
    world.clock.advance(SESSION_LIFETIME);
    assert_eq!(device.status(&authority, &id).await.status, "expired");
    assert!(authority.waiting_enrollments().await.unwrap().is_empty());
    let late = authority.reject_enrollment(&id, "no", &operator()).await;
    assert_eq!(refused(late).2, "Cannot reject an enrollment in status 'expired'");
    authority.tend().await;
    assert_eq!(world.count("SELECT count(*) FROM pending_enrollments WHERE status = 'expired'"), 1);
    world.clock.advance(Duration::from_secs(7 * 24 * 3600));
    authority.tend().await;
    assert_eq!(world.count("SELECT count(*) FROM pending_enrollments"), 0);
    assert_eq!(world.count("SELECT count(*) FROM enrollment_jwks"), 0);
}

#[tokio::test]
async fn what_proves_nothing_does_not_start() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let device = Device::new();
    let start = async |change: &dyn Fn(&mut Start)| {
        let mut start = device.start();
        change(&mut start);
        refused(authority.start_enrollment(&start).await)
    };
    let foreign = Device::new().start();
    for (reason, refused) in [
        (
            "possession_not_proved",
            start(&|start| start.pop_signature.clone_from(&foreign.pop_signature)).await,
        ),
        ("possession_not_proved", start(&|start| start.pop_signature = Some("no base64!".into())).await),
        (
            "possession_not_proved",
            start(&|start| start.public_key_pem.clone_from(&foreign.public_key_pem)).await,
        ),
        ("pubkey_invalid", start(&|start| start.public_key_pem = "x".repeat(200)).await),
        ("dpop_jwk_invalid", start(&|start| start.dpop_jwk = Some(json!({ "kty": "oct", "k": "AA" }))).await),
        ("dpop_jwk_invalid", start(&|start| start.dpop_jwk.as_mut().unwrap()["d"] = json!("AA")).await),
    ] {
        assert_eq!((refused.0, refused.1), (400, reason), "{}", refused.2);
    }
    assert!(authority.waiting_enrollments().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_waiting_request_is_answered_by_the_decision_and_by_the_end_of_the_server() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let device = Device::new();
    let id = device.started(&authority).await;
    let proof = device.sign(&session_message(&id));
    let long = Duration::from_secs(25);
    let patience = Duration::from_secs(20);
    let (waited, ()) = tokio::time::timeout(patience, async {
        tokio::join!(authority.enrollment_status(&id, Some(&proof), long), async {
            authority.approve_enrollment(&id, &named("alice"), &operator()).await.unwrap();
        })
    })
    .await
    .unwrap();
    assert_eq!(waited.unwrap().status, "approved");

    let second = Device::new();
    let id = second.started(&authority).await;
    let proof = second.sign(&session_message(&id));
    let unproven = authority.enrollment_status(&id, None, long);
    assert_eq!(tokio::time::timeout(patience, unproven).await.unwrap().unwrap().status, "pending");
    authority.end_waiting();
    let waited = authority.enrollment_status(&id, Some(&proof), long);
    assert_eq!(tokio::time::timeout(patience, waited).await.unwrap().unwrap().status, "pending");
}

#[tokio::test]
async fn ten_thousand_wait_and_no_more() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let first = Device::new();
    let id = first.started(&authority).await;
    world.sql(
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 9999) \
         INSERT INTO pending_enrollments (session_id, pubkey_pem, pubkey_fingerprint, requester_name, \
         requester_email, created_at, expires_at) \
         SELECT printf('%032d', i), pubkey_pem, printf('%064x', i), 'x', 'x@y.z', created_at, expires_at \
         FROM n, pending_enrollments",
    );
    assert_eq!(authority.waiting_enrollments().await.unwrap().len(), 10_000);
    let one_more = refused(authority.start_enrollment(&Device::new().start()).await);
    assert_eq!((one_more.0, one_more.1), (503, "enrollments_full"));
    assert_eq!(first.status(&authority, &id).await, Outcome::PENDING);
    authority.reject_enrollment(&id, "room for others", &operator()).await.unwrap();
    Device::new().started(&authority).await;
}

#[tokio::test]
async fn a_session_goes_on_after_a_restart_once_its_device_has_asked() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let device = Device::new();
    let id = device.started(&authority).await;
    crate::world::leave(authority);
    let authority = world.boot(&[]).await.unwrap();
    assert!(authority.knows_enrollment(&id), "it is not counted as a guess");
    let early = authority.approve_enrollment(&id, &named("alice"), &operator()).await;
    assert_eq!(refused(early).1, "possession_not_shown");
    device.status(&authority, &id).await;
    authority.approve_enrollment(&id, &named("alice"), &operator()).await.unwrap();
    assert_eq!(device.status(&authority, &id).await.status, "approved");
}
