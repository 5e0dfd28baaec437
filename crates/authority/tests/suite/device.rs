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
struct Device {
    key: KeyPair,
    dpop: SigningKey,
}

impl Device {
    fn new() -> Self {
        Self { key: KeyPair::generate_p256().unwrap(), dpop: SigningKey::generate().unwrap() }
    }

    fn sign(&self, message: &str) -> String {
        let key = SigningKey::from_pkcs8_der(&self.key.to_pkcs8_der()).unwrap();
        URL_SAFE_NO_PAD.encode(key.sign_der(message.as_bytes()).unwrap())
    }

    fn start(&self) -> Start {
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

    async fn started(&self, authority: &Authority) -> EnrollmentId {
        authority.start_enrollment(&self.start()).await.unwrap().id
    }

    async fn status(&self, authority: &Authority, id: &EnrollmentId) -> Outcome {
        let proof = self.sign(&session_message(id));
        authority.enrollment_status(id, Some(&proof), Duration::ZERO).await.unwrap()
    }

    /// Starts, is approved as `name` and collects its certificate.
    async fn enrolled(self, authority: &Authority, name: &str) -> Holder {
        let id = self.started(authority).await;
        authority.approve_enrollment(&id, &named(name), &operator()).await.unwrap();
        let outcome = self.status(authority, &id).await;
        let chain = pem::certificates(&outcome.certificates.unwrap()).unwrap();
        Holder { id: outcome.agent.unwrap().to_string(), chain, key: self.key }
    }
}

fn named(name: &str) -> Approval {
    Approval { agent_id: name.into(), capabilities: vec!["kyc.read".into()], groups: vec!["staff".into()] }
}

async fn row(authority: &Authority, id: &str) -> agents::AgentRow {
    let id = AgentId::parse(id).unwrap();
    agents::find(authority.store(), &id).await.unwrap().unwrap()
}

fn refused<T: std::fmt::Debug>(result: Result<T, DeviceError>) -> (u16, &'static str, String) {
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
