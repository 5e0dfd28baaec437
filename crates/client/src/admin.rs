//! What an operator's script does with the admin secret (contract `enrollment.md` §4, §5).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use mastio_core::AgentId;
use mastio_jose::Jwk;
use mastio_pki::KeyPair;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Answer, Client, ClientError, Connection, Identity, IdentityError, prover::secret};

const ADMIN_SECRET: HeaderName = HeaderName::from_static("x-admin-secret");
const AGENTS: &str = "/v1/admin/agents";

/// Manages agents, on one connection. Every call fails with [`ClientError::Refused`] if the server refuses.
pub struct Admin {
    connection: Connection,
    secret: SecretString,
}

/// What an enrolment brought.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EnrolledAgent {
    /// `<org>::<name>`.
    pub agent_id: AgentId,
    /// For people.
    pub display_name: String,
    /// What it may say it can do.
    pub capabilities: Vec<String>,
    /// The SHA-256 of its certificate, in hex.
    pub cert_thumbprint: String,
    /// The SPIFFE id in its certificate, if any.
    pub spiffe_id: Option<String>,
    /// The thumbprint of its registered DPoP key, if any.
    pub dpop_jkt: Option<String>,
}

/// A row of the agent registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RegisteredAgent {
    /// `<org>::<name>`.
    pub agent_id: AgentId,
    /// For people.
    pub display_name: Option<String>,
    /// What it may say it can do.
    pub capabilities: Vec<String>,
    /// Whether it may log in.
    pub is_active: bool,
}

impl Admin {
    /// On a new connection of `client`.
    #[must_use]
    pub fn new(client: &Client, secret: SecretString) -> Self {
        Self { connection: client.connect(), secret }
    }

    /// Enrols an agent that has a certificate of the organisation's CA (BYOCA), with its DPoP key if there is one. The
    /// private key is sent along, as the contract wants: the server checks it and drops it.
    ///
    /// # Errors
    /// [`ClientError`]; 409 if it is enrolled already.
    pub async fn enroll_byoca(
        &mut self,
        name: &str,
        display_name: &str,
        capabilities: &[&str],
        identity: &Identity,
        dpop_jwk: Option<&Jwk>,
    ) -> Result<EnrolledAgent, ClientError> {
        let body = json!({
            "agent_name": name,
            "display_name": display_name,
            "capabilities": capabilities,
            "cert_pem": identity.certificates_pem(),
            "private_key_pem": identity.key().to_pkcs8_pem().expose_secret(),
            "dpop_jwk": dpop_jwk.map(Jwk::to_value),
        });
        self.send(Method::POST, &format!("{AGENTS}/enroll/byoca"), Some(&body)).await?.json()
    }

    /// Has the Mastio make an agent with certificate and key.
    ///
    /// # Errors
    /// [`ClientError`]; 409 if it exists already.
    pub async fn create_agent(
        &mut self,
        name: &str,
        display_name: &str,
        capabilities: &[&str],
    ) -> Result<Identity, ClientError> {
        let body = json!({ "agent_name": name, "display_name": display_name, "capabilities": capabilities });
        let made: Made = self.send(Method::POST, AGENTS, Some(&body)).await?.json()?;
        let key = SecretString::from(made.private_key_pem);
        let key = KeyPair::from_pem(key.expose_secret()).map_err(IdentityError::from)?;
        Ok(Identity::new(&made.cert_pem, key)?)
    }

    /// Registers the key that an agent proves itself with over mTLS (sequence D).
    ///
    /// # Errors
    /// [`ClientError`]; 404 if the agent is not active.
    pub async fn register_dpop_key(&mut self, agent: &AgentId, key: &Jwk) -> Result<(), ClientError> {
        let body = json!({ "jwk": key.to_value() });
        self.send(Method::POST, &format!("{AGENTS}/{agent}/dpop-jwk"), Some(&body)).await.map(drop)
    }

    /// All agents, newest first, inactive ones too.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn agents(&mut self) -> Result<Vec<RegisteredAgent>, ClientError> {
        let max_answer = self.connection.client().max_list();
        self.send_up_to(max_answer, Method::GET, AGENTS, None).await?.json()
    }

    /// Takes an agent out of service.
    ///
    /// # Errors
    /// [`ClientError`]; 404 if it is not active.
    pub async fn deactivate(&mut self, agent: &AgentId) -> Result<(), ClientError> {
        self.send(Method::DELETE, &format!("{AGENTS}/{agent}"), None).await.map(drop)
    }

    /// Any call with the admin secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let max_answer = self.connection.client().max_answer();
        self.send_up_to(max_answer, method, path, body).await
    }

    async fn send_up_to(
        &mut self,
        max_answer: usize,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let headers = HeaderMap::from_iter([(ADMIN_SECRET, secret(self.secret.expose_secret())?)]);
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        self.connection.request_up_to(max_answer, method, path, headers, body).await?.success()
    }
}

#[derive(Deserialize)]
struct Made {
    cert_pem: String,
    private_key_pem: String,
}

#[cfg(test)]
mod tests {
    use mastio_jose::SigningKey;

    use super::*;
    use crate::testing::{
        Pki,
        server::{Server, reply},
    };

    #[tokio::test]
    async fn agents_are_made_enrolled_listed_and_deactivated() {
        let pki = Pki::new();
        let (alice, root) = (pki.identity("alice"), pki.root_and_key().0.pem());
        let (cert_pem, key_pem) = (alice.certificates_pem(), alice.key().to_pkcs8_pem());
        let server = Server::start(&pki, move |_, seen| {
            if seen.header("x-admin-secret") != Some("s3cret") {
                return reply(403, &[], &json!({ "detail": "invalid admin secret" }));
            }
            let row = json!({ "agent_id": "acme::alice", "display_name": "Alice", "capabilities": ["kyc"] });
            let with = |more: Value| {
                let mut row = row.clone();
                row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                row
            };
            match (seen.method.as_str(), seen.path.as_str()) {
                ("POST", AGENTS) => {
                    let made = json!({ "cert_pem": cert_pem, "private_key_pem": key_pem.expose_secret() });
                    reply(201, &[], &with(made))
                }
                ("POST", "/v1/admin/agents/enroll/byoca") => {
                    let enrolled = json!({ "cert_thumbprint": "ab", "spiffe_id": null, "dpop_jkt": "jkt" });
                    reply(201, &[], &with(enrolled))
                }
                ("GET", AGENTS) => reply(200, &[], &json!([with(json!({ "is_active": true }))])),
                ("DELETE", "/v1/admin/agents/acme::alice") => reply(204, &[], &json!({})),
                _ => reply(404, &[], &json!({ "detail": "agent not found" })),
            }
        })
        .await;
        let client = Client::builder(&server.origin).ca_pem(&root).build().unwrap();
        let mut admin = Admin::new(&client, SecretString::from("s3cret"));

        let made = admin.create_agent("alice", "Alice", &["kyc"]).await.unwrap();
        assert_eq!(made.chain(), alice.chain());
        let dpop = SigningKey::generate().unwrap().public_jwk();
        let enrolled = admin.enroll_byoca("alice", "Alice", &["kyc"], &alice, Some(&dpop)).await.unwrap();
        assert_eq!(enrolled.dpop_jkt.as_deref(), Some("jkt"));
        let sent = server.seen()[1].json();
        assert_eq!((&sent["dpop_jwk"], &sent["agent_name"]), (&dpop.to_value(), &json!("alice")));
        assert!(
            Identity::new(
                sent["cert_pem"].as_str().unwrap(),
                KeyPair::from_pem(sent["private_key_pem"].as_str().unwrap()).unwrap()
            )
            .is_ok()
        );
        let listed = admin.agents().await.unwrap();
        assert_eq!(listed[0].agent_id, *alice.agent_id());
        admin.deactivate(alice.agent_id()).await.unwrap();

        let mut stranger = Admin::new(&client, SecretString::from("guess"));
        let error = stranger.agents().await.unwrap_err();
        assert!(matches!(&error, ClientError::Refused { status, .. } if status.as_u16() == 403));
        assert!(!format!("{error} {error:?}").contains("guess"));
    }
}
