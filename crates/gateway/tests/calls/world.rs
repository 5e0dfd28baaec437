//! An organisation `acme` with agents that hold their keys.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use mastio_authority::{
    Authority,
    admin::Operator,
    authenticate::{Auth, Caller},
    boot,
    enroll::Candidate,
};
use mastio_config::{Settings, Source};
use mastio_core::{AgentId, AgentName, Clock, ManualClock, SeededRng, Stamp};
use mastio_gateway::{
    Gateway, Mode, Outgoing,
    inbox::InboxRow,
    send::{SendError, Sent},
};
use mastio_jose::{Envelope, SigningKey};
use mastio_store::{Query, Statement, Touch, Unit, agents::Reach};
use secrecy::ExposeSecret;

pub(crate) struct World {
    pub(crate) authority: Arc<Authority>,
    pub(crate) gateway: Gateway,
    pub(crate) clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

pub(crate) struct Member {
    pub(crate) id: AgentId,
    key: SigningKey,
}

fn operator() -> Operator {
    Operator { fingerprint: "operator:test".into() }
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let environment =
            [("MCP_PROXY_ADMIN_SECRET", "4f1c0b6d9e2a4f1c0b6d9e2a4f1c0b6d"), ("MCP_PROXY_ORG_ID", "acme")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::load(&Source::new(environment, ""), dir.path()).unwrap().settings;
        let clock = Arc::new(ManualClock::at(Stamp::from_unix(1_790_000_000)));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let authority = boot::start(settings, shared, Arc::new(SeededRng::new(7))).await.unwrap();
        Self { gateway: Gateway::new(Arc::clone(&authority)), authority, clock, _dir: dir }
    }

    pub(crate) async fn member(&self, name: &str) -> Member {
        let candidate = Candidate {
            name: AgentName::parse(name).unwrap(),
            display_name: format!("The {name}"),
            capabilities: vec!["order.read".into()],
            federated: false,
            dpop_jwk: None,
            lifetime: None,
            reuse: false,
            once: None,
        };
        let enrolled = self.authority.create_agent(&candidate, false, &operator()).await.unwrap();
        let pem = enrolled.key.unwrap();
        let base64: String = pem.expose_secret().lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
        Member { id: enrolled.id, key: SigningKey::from_pkcs8_der(&der).unwrap() }
    }

    pub(crate) async fn caller(&self, member: &Member) -> Caller {
        let agent = self.authority.registry().find(&member.id).await.unwrap().unwrap();
        let leaf = &agent.certificates[0];
        let auth =
            Auth::Mtls { thumbprint: leaf.thumbprint(), not_after: leaf.not_after().unix(), jkt: None };
        Caller { agent, auth }
    }

    pub(crate) async fn deactivate(&self, member: &Member) {
        self.authority.deactivate(&member.id, &operator()).await.unwrap();
    }

    pub(crate) async fn set_reach(&self, member: &Member, reach: Reach) {
        let sql = "UPDATE internal_agents SET reach = ?2 WHERE agent_id = ?1";
        let statement = Statement::one(sql, vec![(&member.id).into(), reach.as_str().into()]);
        let unit = Unit::default().write(statement).touch(Touch::Agent(member.id.clone()));
        self.authority.commit(unit).await.unwrap();
    }

    pub(crate) async fn send(&self, sender: &Member, outgoing: &Outgoing) -> Result<Sent, SendError> {
        self.gateway.send(&self.caller(sender).await, outgoing, "req-1").await
    }

    pub(crate) async fn inbox(&self, member: &Member) -> Vec<InboxRow> {
        self.inbox_since(member, None).await
    }

    pub(crate) async fn inbox_since(&self, member: &Member, since: Option<Stamp>) -> Vec<InboxRow> {
        self.gateway.inbox(&self.caller(member).await, since, 500).await.unwrap()
    }

    /// The details of the audit entries of one kind, oldest first, after everything that was posted before is written.
    pub(crate) async fn told(&self, event: &str) -> Vec<String> {
        self.authority.commit(Unit::default()).await.unwrap();
        let sql = "SELECT details FROM local_audit WHERE event_type = ?1 ORDER BY chain_seq";
        let query = Query::new("local_audit", sql, vec![event.into()]);
        let rows = self.authority.store().rows(query).await.unwrap();
        rows.iter().map(|row| row.text("details").unwrap().to_owned()).collect()
    }

    pub(crate) async fn count(&self, table: &'static str) -> usize {
        let query = Query { table, sql: format!("SELECT * FROM {table}").into(), values: vec![] };
        self.authority.store().rows(query).await.unwrap().len()
    }

    /// How many transactions the writer has committed.
    pub(crate) async fn commits(&self) -> i64 {
        let query = Query::new("cullis_writer", "SELECT ticket FROM cullis_writer WHERE id = 1", vec![]);
        self.authority.store().rows(query).await.unwrap()[0].int("ticket").unwrap()
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// A message as a client of `sender` builds it.
    pub(crate) fn message(&self, sender: &Member, to: &str, correlation_id: &str, nonce: &str) -> Outgoing {
        let mut outgoing = Outgoing {
            recipient_id: to.to_owned(),
            payload: serde_json::from_str(r#"{"text":"hé"}"#).unwrap(),
            correlation_id: Some(correlation_id.to_owned()),
            reply_to: None,
            mode: Mode::MtlsOnly,
            signature: None,
            nonce: Some(nonce.to_owned()),
            timestamp: Some(self.clock.now().unix()),
            ttl_seconds: 300,
            v: 2,
        };
        sender.sign(&mut outgoing);
        outgoing
    }
}

impl Member {
    /// Signs what is in `outgoing` now.
    pub(crate) fn sign(&self, outgoing: &mut Outgoing) {
        let envelope = Envelope {
            sender: self.id.as_str(),
            nonce: outgoing.nonce.as_deref().unwrap(),
            timestamp: outgoing.timestamp.unwrap(),
            payload: outgoing.payload.get(),
        };
        let correlation_id = outgoing.correlation_id.as_deref().unwrap_or_default();
        let signed = envelope
            .oneshot_envelope(correlation_id, outgoing.mode.as_str(), outgoing.reply_to.as_deref())
            .unwrap();
        outgoing.signature = Some(URL_SAFE.encode(self.key.sign_der(signed.as_bytes()).unwrap()));
    }
}
