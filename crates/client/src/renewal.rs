//! An agent that lives from a directory and renews its certificate by itself, before a call that finds it due.

use std::{path::Path, sync::Arc, time::Duration};

use http::StatusCode;
use mastio_core::{Clock, Rng, Stamp, SystemClock, SystemRng};
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, request_for};
use serde::Deserialize;
use serde_json::json;

use crate::{
    Agent, Client, ClientError, Identity, IdentityError, agent::json_body, folder::Folder,
    following::Following, prover::Call,
};

const RENEW: &str = "/v1/agents/self/renew";
/// The shortest pause after a renewal that failed; what is due by age has longer pauses, the longer it lives.
const PAUSE: Duration = Duration::from_secs(60);

/// What an agent needs to renew by itself.
pub(crate) struct Renewals {
    pub(crate) folder: Folder,
    /// Not to be tried before.
    not_before: Stamp,
    trouble: Option<ClientError>,
}

impl Agent {
    /// The agent whose files are in `dir`: `cert.pem`, `agent-key.pem` or `key.pem`, and `dpop.jwk` if there is one. It
    /// shows its certificate, and renews it there by itself once two thirds of its life are over or the Mastio says so.
    ///
    /// # Errors
    /// [`ClientError::Identity`] or [`ClientError::TlsSetup`].
    pub fn open(client: &Client, dir: &Path) -> Result<Self, ClientError> {
        Self::open_with(client, dir, Arc::new(SystemClock::default()), Arc::new(SystemRng))
    }

    /// As [`Self::open`], with time and randomness of the caller's.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        client: &Client,
        dir: &Path,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, ClientError> {
        let folder = Folder::new(dir);
        let identity = folder.identity()?;
        folder.settle(&identity)?;
        let dpop_key = match folder.dpop_key()? {
            Some(key) => key,
            None => SigningKey::generate()?,
        };
        let bundle = folder.trust_bundle()?;
        let client = match &bundle {
            Some(pem) => client.trusting(pem)?.with_identity(&identity)?,
            None => client.with_identity(&identity)?,
        };
        let renewals = Renewals { folder, not_before: Stamp::from_unix(0), trouble: None };
        let mut agent = Self::with(&client, Arc::new(identity), dpop_key, clock, rng);
        agent.renewals = Some(renewals);
        agent.following = Following::from(bundle.as_deref());
        Ok(agent)
    }

    /// Why the last renewal by itself failed, until one succeeds. The agent goes on with the certificate that it has
    /// and tries again.
    #[must_use]
    pub fn renewal_trouble(&self) -> Option<&ClientError> {
        self.renewals.as_ref().and_then(|renewals| renewals.trouble.as_ref())
    }

    /// Renews if it is time. Nothing fails if that does.
    pub(crate) async fn renew_if_due(&mut self) {
        let now = self.prover.clock.now();
        let aged = due_after(&self.identity) <= now;
        if !(aged || self.prover.renewal_hinted)
            || self.renewals.as_ref().is_none_or(|renewals| now < renewals.not_before)
        {
            return;
        }
        let left = self.identity.chain()[0].not_after().since(now);
        let outcome = self.renew(None).await;
        if let Some(renewals) = &mut self.renewals {
            if outcome.is_err() {
                // What is hinted at before its time is a rotation of the Org CA, which waits for its agents.
                let pause = if aged { (left / 10).max(PAUSE) } else { PAUSE };
                renewals.not_before = now.plus(pause);
            }
            renewals.trouble = outcome.err();
        }
    }

    /// Gets the next certificate, for a new key, and uses both from the next call on. With `lifetime` this certificate
    /// and those after it live that long. An agent without a directory has them in memory only.
    ///
    /// # Errors
    /// [`ClientError`]; the certificate and key of before are in use then. After a lost answer the same is asked again.
    pub async fn renew(&mut self, lifetime: Option<Duration>) -> Result<(), ClientError> {
        let folder = self.renewals.as_ref().map(|renewals| renewals.folder.clone());
        let key = match &folder {
            Some(folder) => {
                folder.keep_dpop_key(&self.dpop_key)?;
                folder.next_key()?
            }
            None => KeyPair::generate_p256().map_err(IdentityError::from)?,
        };
        let mut body = json!({ "csr_pem": request_for(&key).map_err(IdentityError::from)? });
        if let Some(lifetime) = lifetime {
            body["lifetime_seconds"] = lifetime.as_secs().into();
        }
        let call = Call::post(RENEW, json_body(&body));
        let answer = self.prover.send(&call, &self.dpop_key, None).await?;
        if let Some(folder) = &folder
            && answer.status == StatusCode::CONFLICT
            && answer.detail().starts_with("key_revoked")
        {
            folder.forget_next_key()?;
        }
        let renewed: Renewed = answer.success()?.json()?;
        let identity = Identity::new(&renewed.cert_pem, key)?;
        if identity.agent_id() != self.identity.agent_id() {
            return Err(IdentityError::NoAgent.into());
        }
        let client = self.prover.connection.client().with_identity(&identity)?;
        if let Some(folder) = &folder {
            folder.keep(&identity)?;
        }
        self.prover.connection = client.connect();
        self.prover.renewal_hinted = false;
        self.identity = Arc::new(identity);
        Ok(())
    }
}

/// When two thirds of the life of the certificate are over.
fn due_after(identity: &Identity) -> Stamp {
    let leaf = &identity.chain()[0];
    leaf.not_before().plus(leaf.not_after().since(leaf.not_before()) * 2 / 3)
}

#[derive(Deserialize)]
struct Renewed {
    cert_pem: String,
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicBool, Ordering},
    };

    use http::Method;
    use mastio_core::{ManualClock, SeededRng};
    use mastio_pki::SigningRequest;
    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::*;
    use crate::testing::{
        Pki,
        server::{Reply, Seen, Server, reply},
    };

    /// Renews while `willing`, for the key that is asked for.
    fn mastio(pki: &Pki, willing: &Arc<AtomicBool>, hint: bool) -> impl Fn(&str, &Seen) -> Reply + use<> {
        let (issuer, willing) = (pki.clone(), Arc::clone(willing));
        move |_, seen| {
            let hints: &[_] =
                if hint { &[("x-cullis-cert-renew-after", "2026-01-01T00:00:00+00:00")] } else { &[] };
            match seen.path.as_str() {
                RENEW if !willing.load(Ordering::SeqCst) => {
                    reply(503, &[], &json!({ "detail": "signing halted" }))
                }
                RENEW => {
                    let request = SigningRequest::from_pem(seen.json()["csr_pem"].as_str().unwrap()).unwrap();
                    let chain = issuer.certified("alice", request.public().spki_der());
                    reply(200, &[], &json!({ "cert_pem": chain, "key_pem": null }))
                }
                _ => reply(200, hints, &json!({})),
            }
        }
    }

    struct Scene {
        dir: TempDir,
        server: Server,
        agent: Agent,
        clock: Arc<ManualClock>,
        willing: Arc<AtomicBool>,
    }

    async fn scene(hint: bool) -> Scene {
        let pki = Pki::new();
        let (dir, alice) = (tempfile::tempdir().unwrap(), pki.identity("alice"));
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("cert.pem", &alice.certificates_pem());
        write("agent-key.pem", alice.key().to_pkcs8_pem().expose_secret());
        let willing = Arc::new(AtomicBool::new(true));
        let server = Server::start(&pki, mastio(&pki, &willing, hint)).await;
        let client = Client::builder(&server.origin).ca_pem(&pki.root_and_key().0.pem()).build().unwrap();
        let clock = Arc::new(ManualClock::at(SystemClock::default().now()));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let agent = Agent::open_with(&client, dir.path(), shared, Arc::new(SeededRng::new(1))).unwrap();
        Scene { dir, server, agent, clock, willing }
    }

    impl Scene {
        /// A call that must succeed; the paths asked for since the one before.
        async fn call(&mut self) -> Vec<String> {
            let before = self.server.seen().len();
            let answer = self.agent.call_mtls(Method::GET, "/v1/x", "").await.unwrap();
            assert_eq!(answer.status, StatusCode::OK);
            self.server.seen()[before..].iter().map(|seen| seen.path.clone()).collect()
        }

        fn shown(&self) -> Vec<u8> {
            self.server.seen().last().unwrap().certificate.clone().unwrap()
        }
    }

    #[tokio::test]
    async fn by_its_own_clock_it_renews_before_the_call_and_shows_the_new_certificate() {
        let mut scene = scene(false).await;
        let old = scene.agent.identity().chain()[0].der().to_vec();
        // The certificates of this server live an hour and are dated back by five minutes.
        scene.clock.advance(Duration::from_secs(38 * 60));
        assert_eq!(scene.call().await, ["/v1/x"]);
        scene.clock.advance(Duration::from_secs(60));
        assert_eq!(scene.call().await, [RENEW, "/v1/x"]);
        let new = scene.agent.identity().chain()[0].der().to_vec();
        assert!(new != old && scene.shown() == new);
        let renewal = scene.server.seen().into_iter().find(|seen| seen.path == RENEW).unwrap();
        assert_eq!(renewal.certificate, Some(old), "asked with the certificate of before");
        let kept = Identity::from_dir(scene.dir.path()).unwrap();
        assert_eq!(kept.chain()[0].der(), new);
        assert!(Folder::new(scene.dir.path()).dpop_key().unwrap().is_some(), "the key that renews next time");
    }

    #[tokio::test]
    async fn a_hint_is_followed_with_the_next_call() {
        let mut scene = scene(true).await;
        assert_eq!(scene.call().await, ["/v1/x"]);
        assert_eq!(scene.call().await, [RENEW, "/v1/x"]);
    }

    #[tokio::test]
    async fn a_renewal_that_fails_fails_no_call_and_is_tried_again_later() {
        let mut scene = scene(false).await;
        scene.willing.store(false, Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(40 * 60));
        assert_eq!(scene.call().await, [RENEW, "/v1/x"]);
        assert!(scene.agent.renewal_trouble().unwrap().to_string().contains("signing halted"));
        assert_eq!(scene.call().await, ["/v1/x"]);
        scene.willing.store(true, Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(2 * 60));
        assert_eq!(scene.call().await, [RENEW, "/v1/x"]);
        assert!(scene.agent.renewal_trouble().is_none());
        let asked: Vec<_> = scene.server.seen().into_iter().filter(|seen| seen.path == RENEW).collect();
        let key = |seen: &Seen| {
            let request = SigningRequest::from_pem(seen.json()["csr_pem"].as_str().unwrap()).unwrap();
            request.public().spki_der().to_vec()
        };
        assert_eq!(key(&asked[0]), key(&asked[1]), "the same key, so that a lost answer can be given again");
    }
}
