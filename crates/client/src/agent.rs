//! An agent that logs in and calls (contract `auth.md` §15).

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mastio_core::{Clock, Rng, SystemClock, SystemRng};
use mastio_jose::SigningKey;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Answer, Client, ClientError, Identity, assertion,
    following::Following,
    prover::{Call, Prover},
    renewal::Renewals,
};

const TOKEN: &str = "/v1/auth/token";

/// How an agent gets its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Sequence A: an assertion that answers a challenge; the client shows its certificate.
    Challenge,
    /// Sequence C: an assertion straight to the token endpoint; no client certificate is needed.
    Direct,
    /// No assertion: the certificate of the TLS connection says who it is.
    Mtls,
}

/// One agent on one connection. Its client should be built with the same identity: sequences A and D and
/// [`Login::Mtls`] show the certificate.
pub struct Agent {
    pub(crate) identity: Arc<Identity>,
    /// The persistent key, whose thumbprint the Mastio may have registered.
    pub(crate) dpop_key: SigningKey,
    pub(crate) prover: Prover,
    session: Option<Session>,
    /// `None` without a directory to keep what is renewed.
    pub(crate) renewals: Option<Renewals>,
    pub(crate) following: Following,
}

/// A token and the ephemeral key it is bound to.
struct Session {
    login: Login,
    token: SecretString,
    key: SigningKey,
}

impl Agent {
    /// An agent on a new connection of `client`, with the machine's clock and generator.
    #[must_use]
    pub fn new(client: &Client, identity: Arc<Identity>, dpop_key: SigningKey) -> Self {
        Self::with(client, identity, dpop_key, Arc::new(SystemClock::default()), Arc::new(SystemRng))
    }

    /// As [`Self::new`], with time and randomness of the caller's. Ephemeral keys come from the cryptographic library
    /// in any case.
    #[must_use]
    pub fn with(
        client: &Client,
        identity: Arc<Identity>,
        dpop_key: SigningKey,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let prover = Prover::new(client.connect(), clock, rng);
        Self { identity, dpop_key, prover, session: None, renewals: None, following: Following::default() }
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The access token, once logged in.
    #[must_use]
    pub fn access_token(&self) -> Option<&SecretString> {
        self.session.as_ref().map(|session| &session.token)
    }

    /// Logs in by sequence A.
    ///
    /// # Errors
    /// As [`Self::login_by`].
    pub async fn login(&mut self) -> Result<(), ClientError> {
        self.login_by(Login::Challenge).await
    }

    /// Logs in by sequence C.
    ///
    /// # Errors
    /// As [`Self::login_by`].
    pub async fn login_direct(&mut self) -> Result<(), ClientError> {
        self.login_by(Login::Direct).await
    }

    /// Logs in by the client certificate alone.
    ///
    /// # Errors
    /// As [`Self::login_by`].
    pub async fn login_mtls(&mut self) -> Result<(), ClientError> {
        self.login_by(Login::Mtls).await
    }

    /// Logs in; the token is bound to a fresh key. An earlier token is forgotten, even if this fails.
    ///
    /// # Errors
    /// [`ClientError::Refused`], or why there was no answer.
    pub async fn login_by(&mut self, login: Login) -> Result<(), ClientError> {
        self.session = None;
        self.keep_current().await;
        let (assertion, countersignature) = match login {
            Login::Mtls => (None, None),
            Login::Direct => (Some(self.assertion(None)?), None),
            Login::Challenge => {
                let (assertion, countersignature) = self.answer_challenge().await?;
                (Some(assertion), countersignature)
            }
        };
        let body = assertion
            .map_or_else(Bytes::new, |assertion| json_body(&json!({ "client_assertion": assertion })));
        let key = SigningKey::generate()?;
        let call = Call { countersignature: countersignature.as_deref(), ..Call::post(TOKEN, body) };
        let minted: Minted = self.prover.send(&call, &key, None).await?.success()?.json()?;
        self.session = Some(Session { login, token: minted.access_token.into(), key });
        Ok(())
    }

    /// Fetches a nonce, answers it, and has the answer countersigned; `None` while the Mastio does not sign.
    async fn answer_challenge(&mut self) -> Result<(String, Option<String>), ClientError> {
        let connection = &mut self.prover.connection;
        let answer = connection
            .request(Method::POST, "/v1/auth/login-challenge", HeaderMap::new(), Bytes::new())
            .await?;
        let challenge: Challenge = answer.success()?.json()?;
        let assertion = self.assertion(Some(&challenge.nonce))?;
        let body = json_body(&json!({ "client_assertion": assertion, "nonce": challenge.nonce }));
        let answer = self
            .prover
            .connection
            .request(Method::POST, "/v1/auth/sign-challenged-assertion", HeaderMap::new(), body)
            .await?;
        let countersigned: Countersigned = answer.success()?.json()?;
        Ok((countersigned.client_assertion, countersigned.mastio_signature))
    }

    fn assertion(&self, nonce: Option<&str>) -> Result<String, ClientError> {
        Ok(assertion(&self.identity, nonce, &self.prover.unique(), self.prover.clock.now())?)
    }

    /// Calls with the token. A 401 that asks for a nonce is answered once; after another 401 the agent logs in again
    /// as it did before, and tries once more.
    ///
    /// # Errors
    /// [`ClientError::NotLoggedIn`], a failed login, or why there was no answer. Other refusals are answers.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        self.call_by_token(&Call::new(method, path, body)).await
    }

    async fn call_by_token(&mut self, call: &Call<'_>) -> Result<Answer, ClientError> {
        self.keep_current().await;
        let answer = self.call_once(call).await?;
        let login = self.session.as_ref().map(|session| session.login);
        match login {
            Some(login) if answer.status == StatusCode::UNAUTHORIZED => {
                self.login_by(login).await?;
                self.call_once(call).await
            }
            _ => Ok(answer),
        }
    }

    /// Follows a rotation of the Org CA, and renews if it is time. Nothing fails if that does.
    async fn keep_current(&mut self) {
        self.follow_if_hinted().await;
        self.renew_if_due().await;
    }

    /// A call with the token if there is one, else with the certificate, as it is answered.
    pub(crate) async fn ask_once(&mut self, call: &Call<'_>) -> Result<Answer, ClientError> {
        match self.session {
            Some(_) => self.call_once(call).await,
            None => self.prover.send(call, &self.dpop_key, None).await,
        }
    }

    async fn call_once(&mut self, call: &Call<'_>) -> Result<Answer, ClientError> {
        let Session { token, key, .. } = self.session.as_ref().ok_or(ClientError::NotLoggedIn)?;
        self.prover.send(call, key, Some(token.expose_secret())).await
    }

    /// Calls with the client certificate and a proof by the persistent key (sequence D).
    ///
    /// # Errors
    /// Why there was no answer. Refusals are answers.
    pub async fn call_mtls(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        self.call_by_certificate(&Call::new(method, path, body)).await
    }

    async fn call_by_certificate(&mut self, call: &Call<'_>) -> Result<Answer, ClientError> {
        self.keep_current().await;
        self.prover.send(call, &self.dpop_key, None).await
    }

    /// With the token if there is one, else with the certificate; anything but success is an error.
    pub(crate) async fn ask(&mut self, call: &Call<'_>) -> Result<Answer, ClientError> {
        match self.session {
            Some(_) => self.call_by_token(call).await?.success(),
            None => self.call_by_certificate(call).await?.success(),
        }
    }
}

#[derive(Deserialize)]
struct Minted {
    access_token: String,
}

#[derive(Deserialize)]
struct Challenge {
    nonce: String,
}

#[derive(Deserialize)]
struct Countersigned {
    client_assertion: String,
    mastio_signature: Option<String>,
}

pub(crate) fn json_body(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    use mastio_core::{ManualClock, SeededRng};
    use mastio_jose::{Assertion, VerifyingKey};

    use super::*;
    use crate::testing::{
        NOW, Pki,
        server::{Reply, Seen, Server, reply},
    };

    /// Tokens are `t-1`, `t-2`, …; only the last one made is good, and `t-1` never. Every proof needs the nonce.
    fn mastio() -> impl Fn(&str, &Seen) -> Reply + Send + Sync {
        let minted = std::sync::atomic::AtomicUsize::new(0);
        move |origin, seen| {
            let nonce = [("dpop-nonce", "n-1")];
            let ok = |body| reply(200, &nonce, &body);
            let refuse = |detail: &str| reply(401, &nonce, &json!({ "detail": detail }));
            match seen.path.as_str() {
                "/v1/auth/login-challenge" => return ok(json!({ "nonce": "challenge", "expires_in": 120 })),
                "/v1/auth/sign-challenged-assertion" => {
                    let mut body = seen.json();
                    body["mastio_signature"] = json!("countersigned");
                    return ok(body);
                }
                _ => {}
            }
            let token = seen.header("authorization").map(|value| value.strip_prefix("DPoP ").unwrap());
            if let Err(error) = seen.proof(origin, token, Some("n-1")) {
                return refuse(&error.to_string());
            }
            match (seen.path.as_str(), token) {
                (TOKEN, None) => {
                    let count = minted.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                    ok(json!({ "access_token": format!("t-{count}") }))
                }
                (_, Some("t-1")) => refuse("token revoked"),
                _ => ok(json!({ "ok": true })),
            }
        }
    }

    fn agent(server: &Server, pki: &Pki, with_certificate: bool) -> Agent {
        let (root, identity) = (pki.root_and_key().0.pem(), pki.identity("alice"));
        let builder = Client::builder(&server.origin).ca_pem(&root);
        let builder = if with_certificate { builder.identity(&identity) } else { builder };
        let client = builder.build().unwrap();
        let (clock, rng) = (Arc::new(ManualClock::at(NOW)), Arc::new(SeededRng::new(1)));
        Agent::with(&client, Arc::new(identity), SigningKey::generate().unwrap(), clock, rng)
    }

    fn paths(seen: &[Seen]) -> Vec<&str> {
        seen.iter().map(|seen| seen.path.as_str()).collect()
    }

    #[tokio::test]
    async fn sequence_a_answers_the_challenge_and_the_nonce() {
        let pki = Pki::new();
        let server = Server::start(&pki, mastio()).await;
        let mut alice = agent(&server, &pki, true);
        alice.login().await.unwrap();
        assert_eq!(alice.access_token().unwrap().expose_secret(), "t-1");

        let seen = server.seen();
        let signed = "/v1/auth/sign-challenged-assertion";
        assert_eq!(paths(&seen), ["/v1/auth/login-challenge", signed, TOKEN, TOKEN]);
        let leaf = alice.identity().chain()[0].der();
        assert!(seen.iter().all(|seen| seen.certificate.as_deref() == Some(leaf) && seen.connection == 1));
        assert_eq!(seen[1].json()["nonce"], "challenge");
        let mint = &seen[3];
        assert_eq!(mint.header("x-cullis-mastio-signature"), Some("countersigned"));
        let text = mint.json()["client_assertion"].as_str().unwrap().to_owned();
        let leaf_key = VerifyingKey::from_spki_der(alice.identity().chain()[0].spki_der()).unwrap();
        let claims = Assertion::parse(&text).unwrap().verify(&leaf_key, NOW).unwrap();
        assert_eq!((claims.sub.as_str(), claims.nonce.as_deref()), ("acme::alice", Some("challenge")));
        // The proof is by a key of its own, not by the persistent one.
        let shown = mint.proof(&server.origin, None, Some("n-1")).unwrap();
        assert_ne!(shown.jkt, alice.dpop_key.public_jwk().thumbprint());
    }

    #[tokio::test]
    async fn a_refused_token_is_replaced_once() {
        let pki = Pki::new();
        let server = Server::start(&pki, mastio()).await;
        let mut alice = agent(&server, &pki, false);
        assert!(matches!(alice.call(Method::GET, "/v1/x", "").await, Err(ClientError::NotLoggedIn)));
        alice.login_direct().await.unwrap();
        let answer = alice.call(Method::POST, "/v1/mcp?a=b", "{}").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);

        let seen = server.seen();
        assert_eq!(paths(&seen), [TOKEN, TOKEN, "/v1/mcp", TOKEN, "/v1/mcp"]);
        let tokens: Vec<_> = seen.iter().map(|seen| seen.header("authorization")).collect();
        assert_eq!(tokens, [None, None, Some("DPoP t-1"), None, Some("DPoP t-2")]);
        let keys = [1, 3].map(|index| seen[index].proof(&server.origin, None, None).unwrap().jkt);
        assert_ne!(keys[0], keys[1]);
        assert!(seen.iter().all(|seen| seen.certificate.is_none()));
    }

    #[tokio::test]
    async fn mtls_needs_no_assertion_and_calls_no_token() {
        let pki = Pki::new();
        let server = Server::start(&pki, mastio()).await;
        let mut alice = agent(&server, &pki, true);
        assert_eq!(alice.call_mtls(Method::GET, "/v1/egress/peers", "").await.unwrap().status, 200);
        alice.login_mtls().await.unwrap();

        let seen = server.seen();
        assert_eq!(paths(&seen), ["/v1/egress/peers", "/v1/egress/peers", TOKEN]);
        let shown = seen[1].proof(&server.origin, None, Some("n-1")).unwrap();
        assert_eq!(shown.jkt, alice.dpop_key.public_jwk().thumbprint());
        assert!(seen[1].header("authorization").is_none());
        assert!(seen[2].body.is_empty() && seen[2].header("content-type").is_none());
    }

    #[tokio::test]
    async fn a_server_that_always_refuses_is_asked_twice() {
        let pki = Pki::new();
        let refuse =
            |_: &str, _: &Seen| reply(401, &[("dpop-nonce", "n-1")], &json!({ "detail": "use_dpop_nonce" }));
        let server = Server::start(&pki, refuse).await;
        let mut alice = agent(&server, &pki, false);
        let login = tokio::spawn(async move { alice.login_direct().await });
        let error = login.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("POST /v1/auth/token was refused with 401"), "{error}");
        assert_eq!(server.seen().len(), 2);
    }
}
