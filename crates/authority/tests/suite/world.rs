//! A real authority in a folder of its own, with a clock that stands still.

use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_authority::{
    Authority, Refusal,
    admin::Operator,
    boot::{self, BootError},
    enroll::{Candidate, Enrolled},
    peer::{ClientChain, Peer, PeerCertificate},
    proofs::RequestLine,
};
use mastio_config::{Settings, Source};
use mastio_core::{AgentName, Clock, ManualClock, Stamp, SystemRng};
use mastio_jose::{SigningKey, jws};
use mastio_pki::{Certificate, KeyPair, pem};
use mastio_store::{
    Query,
    agents::{AgentRow, fleet::Filter},
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const BASE: &str = "https://mastio.test:9443";

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Stamp::from_unix(1_790_000_000)));
        Self { dir: tempfile::tempdir().unwrap(), clock }
    }

    pub(crate) fn settings(&self, more: &[(&str, &str)]) -> Settings {
        let fixed = [("MCP_PROXY_ADMIN_SECRET", SECRET), ("MCP_PROXY_PROXY_PUBLIC_URL", BASE)];
        let fixed = fixed.iter().filter(|(name, _)| more.iter().all(|(other, _)| other != name));
        let all = fixed.chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load(&Source::new(all, ""), self.dir.path()).unwrap().settings
    }

    pub(crate) async fn boot(&self, more: &[(&str, &str)]) -> Result<Arc<Authority>, BootError> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let authority = boot::start(self.settings(more), clock, Arc::new(SystemRng)).await?;
        // Past the time in which what came before the start may have been used.
        self.clock.advance(Duration::from_secs(400));
        Ok(authority)
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.dir.path().join("data/mcp_proxy.db")).unwrap()
    }

    /// What an operator does behind the server's back.
    pub(crate) fn sql(&self, sql: &str) {
        self.database().execute_batch(sql).unwrap();
    }

    /// The number that `sql` asks the database for.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// The text that `sql` asks the database for.
    pub(crate) fn text(&self, sql: &str) -> String {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// How often the audit log tells of `event`.
    pub(crate) fn events(&self, event: &str) -> i64 {
        self.count(&format!("SELECT count(*) FROM local_audit WHERE event_type = '{event}'"))
    }
}

pub(crate) fn operator() -> Operator {
    Operator { fingerprint: "operator:test".into() }
}

pub(crate) fn address() -> IpAddr {
    "198.51.100.7".parse().unwrap()
}

pub(crate) fn candidate(name: &str) -> Candidate {
    Candidate {
        name: AgentName::parse(name).unwrap(),
        display_name: name.to_owned(),
        capabilities: vec![],
        federated: false,
        dpop_jwk: None,
        lifetime: None,
        reuse: false,
        once: None,
    }
}

/// All agents, newest first.
pub(crate) async fn fleet(authority: &Arc<Authority>) -> Vec<AgentRow> {
    let fleet = authority.fleet(&Filter::default()).await.unwrap().all().await.unwrap();
    fleet.into_iter().map(|listed| listed.agent).collect()
}

/// An agent with its key, as its host would hold it.
pub(crate) struct Holder {
    pub(crate) id: String,
    pub(crate) chain: Vec<Certificate>,
    pub(crate) key: KeyPair,
}

impl Holder {
    pub(crate) fn of(enrolled: &Enrolled) -> Self {
        let key = KeyPair::from_pem(enrolled.key.as_ref().unwrap().expose_secret()).unwrap();
        Self { id: enrolled.id.to_string(), chain: pem::certificates(&enrolled.certificates).unwrap(), key }
    }

    pub(crate) async fn created(authority: &Authority, name: &str) -> Self {
        Self::of(&authority.create_agent(&candidate(name), true, &operator()).await.unwrap())
    }

    pub(crate) fn peer(&self) -> Peer {
        let chain = ClientChain { leaf: self.chain[0].clone(), presented: self.chain[1..].to_vec() };
        Peer { address: address(), certificate: PeerCertificate::Chain(Arc::new(chain)) }
    }

    fn signer(&self) -> SigningKey {
        SigningKey::from_pkcs8_der(&self.key.to_pkcs8_der()).unwrap()
    }

    /// An assertion with `chain` in `x5c` and `claims` over the usual ones.
    pub(crate) fn assertion_with(&self, chain: &[Certificate], claims: &Value, now: Stamp) -> String {
        let x5c: Vec<String> = chain.iter().map(|certificate| STANDARD.encode(certificate.der())).collect();
        let mut all = json!({
            "sub": self.id, "iss": self.id, "aud": "agent-trust-broker",
            "iat": now.unix(), "exp": now.unix() + 300, "jti": uuid(),
        });
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        jws::sign(&self.signer(), &json!({ "alg": "ES256", "typ": "JWT", "x5c": x5c }), &all).unwrap()
    }

    pub(crate) fn assertion(&self, now: Stamp) -> String {
        self.assertion_with(&self.chain, &json!({}), now)
    }
}

pub(crate) fn nobody() -> Peer {
    Peer { address: address(), certificate: PeerCertificate::None }
}

pub(crate) fn uuid() -> String {
    mastio_core::Rng::uuid(&SystemRng).to_string()
}

/// A DPoP proof by `key`.
pub(crate) fn proof(key: &SigningKey, method: &str, path: &str, more: &Value, now: Stamp) -> String {
    let header = json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": key.public_jwk().to_value() });
    let mut claims =
        json!({ "jti": uuid(), "htm": method, "htu": format!("{BASE}{path}"), "iat": now.unix() });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    jws::sign(key, &header, &claims).unwrap()
}

pub(crate) fn line<'a>(method: &'a str, path: &'a str, proof: Option<&'a str>) -> RequestLine<'a> {
    RequestLine { method, path, proof }
}

pub(crate) fn reason<T: std::fmt::Debug, E: Refusal>(result: Result<T, E>) -> (u16, &'static str) {
    let error = result.unwrap_err();
    (error.status(), error.reason())
}

pub(crate) const TOKEN: &str = "/v1/auth/token";
pub(crate) const CALL: &str = "/v1/auth/whoami";

pub(crate) fn fixture(world: &World, name: &str) {
    let data = world.dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let bytes = std::fs::read(format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    std::fs::write(data.join("mcp_proxy.db"), bytes).unwrap();
}

/// Lets go of the database and waits until the last connection is closed: SQLite then removes its log.
pub(crate) fn leave(authority: Arc<Authority>) {
    let wal = authority.store().database().path().with_file_name("mcp_proxy.db-wal");
    let weak = Arc::downgrade(&authority);
    drop(authority);
    for _ in 0..2000 {
        if weak.strong_count() == 0 && !wal.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("somebody still holds the authority or its database");
}

/// The details of all audit entries of one kind, oldest first.
pub(crate) async fn told(authority: &Authority, event: &str) -> Vec<String> {
    let sql = "SELECT details FROM local_audit WHERE event_type = ?1 ORDER BY chain_seq";
    let rows = authority.store().rows(Query::new("local_audit", sql, vec![event.into()])).await.unwrap();
    rows.iter().map(|row| row.text("details").unwrap().to_owned()).collect()
}

/// A token for whoever presents this, over mTLS alone.
pub(crate) async fn mint_mtls(
    authority: &Authority,
    peer: &Peer,
) -> Result<String, mastio_authority::mint::MintError> {
    let pinned = authority.certificate(peer).await?;
    Ok(authority.mint(Some(pinned), None, &line("POST", TOKEN, None), "r").await?.access_token)
}
