//! An agent that follows a rotation of the Org CA: it fetches whom to trust from now on when the Mastio says that there is
//! something new, before a call. The new certificate comes by [renewal](crate::renewal), which the Mastio asks for too.

use std::time::Duration;

use mastio_core::{Stamp, Thumbprint};
use serde::Deserialize;

use crate::{Agent, ClientError, prover::Call};

const TRUST_BUNDLE: &str = "/v1/agents/self/trust-bundle";
/// The pause after a fetch that failed.
const PAUSE: Duration = Duration::from_secs(10);

/// How far the agent follows.
pub(crate) struct Following {
    /// The SHA-256 of the trust file that it has from the Mastio, in hex.
    known: Option<String>,
    /// Not to be tried before.
    not_before: Stamp,
    trouble: Option<ClientError>,
}

impl Default for Following {
    fn default() -> Self {
        Self { known: None, not_before: Stamp::from_unix(0), trouble: None }
    }
}

impl From<Option<&str>> for Following {
    /// With the trust file that was kept.
    fn from(bundle: Option<&str>) -> Self {
        Self { known: bundle.map(|pem| Thumbprint::of(pem.as_bytes()).to_string()), ..Self::default() }
    }
}

impl Agent {
    /// Why the trust file could not be fetched the last time, until it can. The agent goes on with whom it trusts and
    /// tries again.
    #[must_use]
    pub fn following_trouble(&self) -> Option<&ClientError> {
        self.following.trouble.as_ref()
    }

    /// Fetches the trust file if the Mastio has another one. Nothing fails if that does.
    pub(crate) async fn follow_if_hinted(&mut self) {
        let (hinted, now) = (&self.prover.bundle_hinted, self.prover.clock.now());
        if hinted.is_none() || *hinted == self.following.known || now < self.following.not_before {
            return;
        }
        let outcome = self.follow().await;
        if outcome.is_err() {
            self.following.not_before = now.plus(PAUSE);
        }
        self.following.trouble = outcome.err();
    }

    /// Fetches whom to trust, keeps it in the directory, if there is one, and trusts it from the next connection on.
    ///
    /// # Errors
    /// [`ClientError`]; whom the agent trusts is as before then.
    pub async fn follow(&mut self) -> Result<(), ClientError> {
        let bundle: Bundle = self.ask_once(&Call::get(TRUST_BUNDLE)).await?.success()?.json()?;
        let client = self.prover.connection.client().trusting(&bundle.bundle_pem)?;
        if let Some(renewals) = &self.renewals {
            renewals.folder.keep_trust_bundle(&bundle.bundle_pem)?;
        }
        self.prover.connection.reopen_by(client);
        self.following.known = Some(Thumbprint::of(bundle.bundle_pem.as_bytes()).to_string());
        Ok(())
    }
}

#[derive(Deserialize)]
struct Bundle {
    bundle_pem: String,
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use http::Method;
    use mastio_core::{Clock, ManualClock, SeededRng};
    use secrecy::ExposeSecret;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        Client,
        testing::{
            NOW, Pki,
            server::{Reply, Seen, Server, reply},
        },
    };

    /// Says that `bundle` is to be trusted, and hands it out; while it is empty there is nothing to say, and what is no
    /// PEM is handed out as it is.
    fn mastio(
        bundle: &Arc<Mutex<String>>,
        fetched: &Arc<AtomicUsize>,
    ) -> impl Fn(&str, &Seen) -> Reply + use<> {
        let (bundle, fetched) = (Arc::clone(bundle), Arc::clone(fetched));
        move |_, seen| {
            let pem = bundle.lock().unwrap().clone();
            let sha256 = Thumbprint::of(pem.as_bytes()).to_string();
            if seen.path == TRUST_BUNDLE {
                fetched.fetch_add(1, Ordering::SeqCst);
                return reply(200, &[], &json!({ "generation": 7, "bundle_pem": pem, "sha256": sha256 }));
            }
            let hints: &[_] =
                if pem.is_empty() { &[] } else { &[("x-cullis-trust-bundle", sha256.as_str())] };
            reply(200, hints, &json!({}))
        }
    }

    struct Scene {
        dir: TempDir,
        server: Server,
        pki: Pki,
        bundle: Arc<Mutex<String>>,
        fetched: Arc<AtomicUsize>,
        clock: Arc<ManualClock>,
    }

    impl Scene {
        async fn new() -> Self {
            let pki = Pki::new();
            let (dir, alice) = (tempfile::tempdir().unwrap(), pki.identity("alice"));
            std::fs::write(dir.path().join("cert.pem"), alice.certificates_pem()).unwrap();
            std::fs::write(dir.path().join("agent-key.pem"), alice.key().to_pkcs8_pem().expose_secret())
                .unwrap();
            let (bundle, fetched) = (Arc::default(), Arc::default());
            let server = Server::start(&pki, mastio(&bundle, &fetched)).await;
            Self { dir, server, pki, bundle, fetched, clock: Arc::new(ManualClock::at(NOW)) }
        }

        fn agent(&self, ca_pem: &str) -> Agent {
            let client = Client::builder(&self.server.origin).ca_pem(ca_pem).build().unwrap();
            let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
            Agent::open_with(&client, self.dir.path(), clock, Arc::new(SeededRng::new(1))).unwrap()
        }

        fn root(&self) -> String {
            self.pki.root_and_key().0.pem()
        }
    }

    async fn call(agent: &mut Agent) {
        assert_eq!(agent.call_mtls(Method::GET, "/v1/x", "").await.unwrap().status, 200);
    }

    #[tokio::test]
    async fn what_is_hinted_at_is_fetched_once_kept_and_trusted() {
        let scene = Scene::new().await;
        let mut agent = scene.agent(&scene.root());
        call(&mut agent).await;
        call(&mut agent).await;
        assert_eq!(scene.fetched.load(Ordering::SeqCst), 0, "nothing to follow");
        *scene.bundle.lock().unwrap() = scene.root() + &Pki::new().root_and_key().0.pem();
        for _ in 0..3 {
            call(&mut agent).await;
        }
        assert_eq!(scene.fetched.load(Ordering::SeqCst), 1);
        assert_eq!(scene.server.seen().last().unwrap().connection, 1, "what is open stays open");
        // From then on also by an agent that is started with another CA file, which alone would not do.
        let mut again = scene.agent(&Pki::new().root_and_key().0.pem());
        call(&mut again).await;
        call(&mut again).await;
        assert_eq!(scene.fetched.load(Ordering::SeqCst), 1, "it has what is hinted at");
    }

    #[tokio::test]
    async fn a_bundle_that_is_none_fails_no_call_and_is_asked_for_later() {
        let scene = Scene::new().await;
        let mut agent = scene.agent(&scene.root());
        *scene.bundle.lock().unwrap() = "nothing to trust".to_owned();
        for _ in 0..3 {
            call(&mut agent).await;
        }
        assert_eq!(scene.fetched.load(Ordering::SeqCst), 1);
        assert!(agent.following_trouble().unwrap().to_string().contains("CA file"));
        *scene.bundle.lock().unwrap() = scene.root();
        scene.clock.advance(PAUSE);
        call(&mut agent).await;
        assert!(agent.following_trouble().is_none() && scene.fetched.load(Ordering::SeqCst) == 2);
    }
}
