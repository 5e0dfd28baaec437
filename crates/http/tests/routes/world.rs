//! A Mastio without listeners: what they would tell of the other end is an argument.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::{HeaderMap, Request, StatusCode};
use mastio_authority::{
    Authority, boot,
    peer::{ClientChain, Peer, PeerCertificate},
};
use mastio_config::{Settings, Source};
use mastio_core::{Clock, ManualClock, Rng, Stamp, SystemRng};
use mastio_http::App;
use mastio_jose::{SigningKey, ath, jws};
use mastio_pki::{Certificate, pem};
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
const BASE: &str = "https://mastio.test:9443";

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) app: Arc<App>,
    /// What the TLS listener serves.
    pub(crate) public: Router,
    _dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// `Value::Null` when the body is no JSON.
    pub(crate) body: Value,
    /// The same as it came.
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap(), Some("acme"), Stamp::from_unix(1_790_000_000)).await
    }

    /// A Mastio of `org` in `dir`, past the time in which what came before its start may have been used.
    pub(crate) async fn over(dir: tempfile::TempDir, org: Option<&str>, now: Stamp) -> Self {
        Self::over_with(dir, &[("MCP_PROXY_ORG_ID", org.unwrap_or_default())], now).await
    }

    /// A new Mastio with these settings beside the usual ones.
    pub(crate) async fn with(more: &[(&str, &str)]) -> Self {
        Self::over_with(tempfile::tempdir().unwrap(), more, Stamp::from_unix(1_790_000_000)).await
    }

    pub(crate) async fn over_with(dir: tempfile::TempDir, more: &[(&str, &str)], now: Stamp) -> Self {
        let fixed = [("MCP_PROXY_ADMIN_SECRET", SECRET), ("MCP_PROXY_PROXY_PUBLIC_URL", BASE)];
        let environment = fixed.iter().chain(more);
        let environment = environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::load(&Source::new(environment, ""), dir.path()).unwrap().settings;
        let clock = Arc::new(ManualClock::at(now));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let authority = boot::start(settings, shared, Arc::new(SystemRng)).await.unwrap();
        clock.advance(Duration::from_secs(400));
        let app = App::new(Arc::clone(&authority));
        let (public, _) = app.routers().unwrap();
        Self { clock, authority, app, public, _dir: dir }
    }

    /// The answer to `request` from `peer`.
    pub(crate) async fn ask(&self, peer: Peer, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(Arc::new(peer));
        let response = self.public.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status, headers: parts.headers, body, text }
    }

    pub(crate) fn tls_dir(&self) -> &Path {
        &self.authority.settings.tls_dir
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(nobody(), Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// A request of an operator, with `secret`.
    pub(crate) async fn operate(&self, secret: &str, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header("x-admin-secret", secret);
        self.ask(nobody(), request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// An agent, made by the route of the operator.
    pub(crate) async fn member(&self, name: &str) -> Member {
        let made = self.operate(SECRET, "/v1/admin/agents", &json!({ "agent_name": name })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        Member { chain: pem::certificates(made.body["cert_pem"].as_str().unwrap()).unwrap() }
    }

    /// A token for `member`, bound to a fresh key.
    pub(crate) async fn token(&self, member: &Member) -> (String, SigningKey) {
        let (key, path) = (SigningKey::generate().unwrap(), "/v1/auth/token");
        let request = Request::post(path).header("dpop", self.proof(&key, "POST", path, None));
        let minted = self.ask(member.peer(), request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(minted.status, StatusCode::OK, "{minted:?}");
        (minted.body["access_token"].as_str().unwrap().to_owned(), key)
    }

    /// A DPoP proof by `key`, made now.
    pub(crate) fn proof(&self, key: &SigningKey, method: &str, path: &str, token: Option<&str>) -> String {
        let header = json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": key.public_jwk().to_value() });
        let mut claims = json!({
            "jti": SystemRng.uuid().to_string(), "htm": method, "htu": format!("{BASE}{path}"),
            "iat": self.clock.now().unix(),
        });
        if let Some(token) = token {
            claims["ath"] = ath(token).into();
        }
        jws::sign(key, &header, &claims).unwrap()
    }
}

/// An agent as the listeners see it.
pub(crate) struct Member {
    chain: Vec<Certificate>,
}

impl Member {
    /// A connection with the agent's certificate.
    pub(crate) fn peer(&self) -> Peer {
        let chain = ClientChain { leaf: self.chain[0].clone(), presented: self.chain[1..].to_vec() };
        Peer { address: address(), certificate: PeerCertificate::Chain(Arc::new(chain)) }
    }
}

fn address() -> IpAddr {
    "198.51.100.7".parse().unwrap()
}

/// A connection without a certificate.
pub(crate) fn nobody() -> Peer {
    Peer { address: address(), certificate: PeerCertificate::None }
}
