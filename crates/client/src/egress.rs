//! What agents do with each other: discovery and one-shot messages (contract `calls.md` §4, §7).

use bytes::Bytes;
use mastio_core::AgentId;
use mastio_pki::Certificate;
use serde::Deserialize;
use serde_json::json;

use crate::{
    Agent, ClientError, IdentityError, Message, MessageError, Received, VerifiedMessage, agent::json_body,
    prover::Call, signed_message_body,
};

const INBOX: &str = "/v1/egress/message/inbox";
/// The oldest messages, so few that they fit whatever their size.
const OLDEST: &str = "/v1/egress/message/inbox?limit=8";

/// Each call uses the token if the agent is logged in, else sequence D, and fails with
/// [`ClientError::Refused`] if the server refuses.
impl Agent {
    /// Whom the Mastio takes this agent for (design decision 13).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn whoami(&mut self) -> Result<Whoami, ClientError> {
        self.ask(&Call::get("/v1/auth/whoami")).await?.json()
    }

    /// Everybody it may talk to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peers(&mut self) -> Result<Vec<Peer>, ClientError> {
        let peers: Peers = self.ask(&Call::list("/v1/egress/peers?limit=0")).await?.json()?;
        Ok(peers.peers)
    }

    /// How to reach a recipient: `<org>::<name>` or a SPIFFE id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resolve(&mut self, recipient: &str) -> Result<Resolved, ClientError> {
        let body = json_body(&json!({ "recipient_id": recipient }));
        self.ask(&Call::post("/v1/egress/resolve", body)).await?.json()
    }

    /// Sends a signed one-shot message; without a correlation id it gets a fresh one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(
        &mut self,
        recipient: &str,
        payload: &str,
        correlation_id: Option<&str>,
        reply_to: Option<&str>,
    ) -> Result<Sent, ClientError> {
        let fresh = self.prover.unique();
        let correlation_id = correlation_id.unwrap_or(&fresh);
        let message = Message { recipient, payload, correlation_id, reply_to };
        let body =
            signed_message_body(&self.identity, &message, &self.prover.unique(), self.prover.clock.now())?;
        self.ask(&Call::post("/v1/egress/message/send", body)).await?.json()
    }

    /// The messages that wait for it, oldest first; the oldest few, if all of them are more than is read at once. Reading
    /// does not consume them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn inbox(&mut self) -> Result<Vec<Received>, ClientError> {
        let answer = match self.ask(&Call::list(INBOX)).await {
            Err(ClientError::TooLarge { .. }) => self.ask(&Call::list(OLDEST)).await?,
            answer => answer?,
        };
        Ok(answer.json::<Inbox>()?.messages)
    }

    /// Verifies a received message with the certificate that the Mastio has for its sender.
    ///
    /// # Errors
    /// [`ClientError::Message`] if it must not be believed.
    pub async fn verify(&mut self, received: &Received) -> Result<VerifiedMessage, ClientError> {
        let sender = AgentId::parse(&received.sender_agent_id)
            .map_err(|_| MessageError::Sender(received.sender_agent_id.clone()))?;
        let certificate = self.certificate_of(&sender).await?;
        Ok(received.verify(&certificate)?)
    }

    /// The certificate that the Mastio has for an agent.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn certificate_of(&mut self, agent: &AgentId) -> Result<Certificate, ClientError> {
        let path = format!("/v1/egress/agents/{agent}/public-key");
        let found: PublicKey = self.ask(&Call::get(&path)).await?.json()?;
        Ok(Certificate::from_pem(&found.cert_pem).map_err(IdentityError::from)?)
    }

    /// Acknowledges a message: it is not delivered again (design decision 13).
    ///
    /// # Errors
    /// [`ClientError`]; 404 if it is not in the inbox.
    pub async fn ack(&mut self, msg_id: &str) -> Result<(), ClientError> {
        let path = format!("/v1/egress/message/{msg_id}/ack");
        self.ask(&Call::post(&path, Bytes::new())).await.map(drop)
    }
}

/// What the Mastio knows about the caller (design decision 13).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Whoami {
    /// `<org>::<name>`.
    pub agent_id: AgentId,
    /// The organisation.
    pub org_id: String,
    /// `agent`, `user` or `workload`.
    pub principal_type: String,
    /// The SPIFFE id of the certificate.
    pub spiffe_id: Option<String>,
    /// `mtls` or `token`.
    pub auth: String,
    /// The SHA-256 of the certificate, in hex.
    pub cert_thumbprint: Option<String>,
}

/// Somebody to talk to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Peer {
    /// `<org>::<name>`.
    pub agent_id: String,
    /// Its organisation.
    pub org_id: String,
    /// For people.
    pub display_name: Option<String>,
    /// What it says it can do.
    pub capabilities: Vec<String>,
    /// `intra-org` or `cross-org`.
    pub scope: String,
}

/// How a recipient is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Resolved {
    /// `intra-org` or `cross-org`.
    pub path: String,
    /// Its name, without the organisation.
    pub target_agent_id: String,
    /// Its organisation.
    pub target_org_id: String,
    /// `mtls-only` or `envelope`.
    pub transport: String,
    /// Its certificate in PEM; none for users, workloads and other organisations.
    pub target_cert_pem: Option<String>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sent {
    /// The sender's name for it.
    pub correlation_id: String,
    /// The server's name for it.
    pub msg_id: String,
    /// `enqueued` or `duplicate`.
    pub status: String,
}

#[derive(Deserialize)]
struct Peers {
    peers: Vec<Peer>,
}

#[derive(Deserialize)]
struct Inbox {
    messages: Vec<Received>,
}

#[derive(Deserialize)]
struct PublicKey {
    cert_pem: String,
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use mastio_jose::SigningKey;
    use serde_json::Value;

    use super::*;
    use crate::{
        Client, Identity,
        testing::{
            Pki,
            server::{Reply, Seen, Server, reply},
        },
    };

    /// Keeps the last message, and hands out `alice`'s certificate for everybody.
    fn post_office(alice: &Identity) -> impl Fn(&str, &Seen) -> Reply + Send + Sync + 'static {
        let (kept, certificate) = (Mutex::new(Value::Null), alice.certificates_pem());
        move |_, seen| {
            let body = match seen.path.as_str() {
                "/v1/egress/message/send" => {
                    let mut kept = kept.lock().unwrap();
                    *kept = seen.json();
                    json!({ "correlation_id": kept["correlation_id"], "msg_id": "m-1", "status": "enqueued" })
                }
                "/v1/egress/message/inbox" => {
                    let kept = kept.lock().unwrap();
                    let row = json!({
                        "msg_id": "m-1",
                        "correlation_id": kept["correlation_id"],
                        "reply_to": kept["reply_to"],
                        "sender_agent_id": "acme::alice",
                        "payload_ciphertext": kept.to_string(),
                        "idempotency_key": null,
                    });
                    json!({ "messages": [row], "count": 1 })
                }
                "/v1/egress/agents/acme::alice/public-key" | "/v1/egress/agents/acme::bob/public-key" => {
                    json!({ "agent_id": "acme::alice", "cert_pem": certificate })
                }
                "/v1/egress/message/m-1/ack" => json!({ "status": "acked", "msg_id": "m-1" }),
                _ => return reply(404, &[], &json!({ "detail": "message not found" })),
            };
            reply(200, &[], &body)
        }
    }

    #[tokio::test]
    async fn a_message_travels_and_is_believed_only_from_its_sender() {
        let pki = Pki::new();
        let (alice, root) = (pki.identity("alice"), pki.root_and_key().0.pem());
        let server = Server::start(&pki, post_office(&alice)).await;
        let client = Client::builder(&server.origin).ca_pem(&root).identity(&alice).build().unwrap();
        let mut alice = Agent::new(&client, Arc::new(alice), SigningKey::generate().unwrap());

        let sent = alice.send("acme::bob", r#"{"n":1.5}"#, None, Some("c-0")).await.unwrap();
        assert_eq!(sent.status, "enqueued");
        let inbox = alice.inbox().await.unwrap();
        assert_eq!((inbox.len(), &inbox[0].correlation_id), (1, &sent.correlation_id));
        assert_eq!(alice.verify(&inbox[0]).await.unwrap().payload.get(), r#"{"n":1.5}"#);
        for sender in ["acme::bob", "../admin"] {
            let forged = Received { sender_agent_id: sender.into(), ..inbox[0].clone() };
            let error = alice.verify(&forged).await.unwrap_err();
            assert!(matches!(error, ClientError::Message(MessageError::Sender(_))), "{error}");
        }
        alice.ack("m-1").await.unwrap();
        let error = alice.ack("m-2").await.unwrap_err();
        assert!(error.to_string().ends_with("404 Not Found: message not found"), "{error}");
    }

    #[tokio::test]
    async fn an_inbox_that_nobody_can_read_at_once_is_read_from_its_beginning() {
        let pki = Pki::new();
        let (alice, root) = (pki.identity("alice"), pki.root_and_key().0.pem());
        let asked = AtomicUsize::new(0);
        let server = Server::start(&pki, move |_, _| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::new(vec![b' '; 65 << 20].into()),
            _ => reply(200, &[], &json!({ "messages": [] })),
        })
        .await;
        let client = Client::builder(&server.origin).ca_pem(&root).identity(&alice).build().unwrap();
        let mut alice = Agent::new(&client, Arc::new(alice), SigningKey::generate().unwrap());
        assert_eq!(alice.inbox().await.unwrap().len(), 0);
        assert_eq!(server.seen().len(), 2);
    }
}
