//! The main job, step by step, as agents and an operator would do it.

use std::{sync::Arc, time::Duration};

use mastio_client::{Admin, Agent, Client, ClientError, Identity};
use mastio_config::Settings;
use mastio_core::{AgentId, Clock, Rng, SpiffeId, SystemClock, SystemRng, counted};
use mastio_jose::SigningKey;
use mastio_pki::{CsrKind, Issuer, KeyPair, profile};
use mastio_store::audit::verify_file;
use rcgen::{CertificateParams, DnType};

use super::{Failure, database};
use crate::{out::say, pki::sign_with_org_ca};

const DAY: Duration = Duration::from_secs(86_400);

/// Prints each step with what it proved and how long it took.
pub(crate) struct Steps {
    clock: SystemClock,
    since: Duration,
}

impl Steps {
    pub(crate) fn new(clock: SystemClock) -> Self {
        Self { since: clock.elapsed(), clock }
    }

    pub(crate) fn done(&mut self, step: &str, proved: &str) {
        let now = self.clock.elapsed();
        let took = now.saturating_sub(self.since).as_secs_f64() * 1000.0;
        self.since = now;
        say!("✓ {step:<12} {took:>7.1} ms  {proved}");
    }
}

/// What was promised and is not so.
fn promised(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(format!("not as promised: {what}").into()) }
}

fn refused(error: ClientError) -> Result<(u16, String), Failure> {
    match error {
        ClientError::Refused { status, detail, .. } => Ok((status.as_u16(), detail)),
        other => Err(other.into()),
    }
}

pub(crate) async fn walk(base: String, settings: Settings, mut steps: Steps) -> Result<(), Failure> {
    let ca_pem = std::fs::read_to_string(settings.certs_dir.join("org-ca.pem"))?;
    let client = Client::builder(&base).ca_pem(&ca_pem).build()?;
    let mut admin = Admin::new(&client, settings.admin_secret.clone());
    let org = std::fs::read_to_string(settings.certs_dir.join("org-id"))?;
    let name = |what: &str| format!("{what}-{}", hex::encode(SystemRng.bytes::<3>()));

    let own_ca = own_ca(&settings).await?;
    steps.done(
        "own CA",
        &format!("{}, signed by the Org CA, which logged it", own_ca.certificate().subject()),
    );

    let alice_name = name("alice");
    let alice = Arc::new(identity(&own_ca, org.trim(), &alice_name)?);
    let key = SigningKey::generate()?;
    let enrolled =
        admin.enroll_byoca(&alice_name, "Alice", &["order.read"], &alice, Some(&key.public_jwk())).await?;
    steps.done("enroll", &format!("{} pinned to {}", enrolled.agent_id, alice.chain()[0].thumbprint()));

    let alice_client = Client::builder(&base).ca_pem(&ca_pem).identity(&alice).build()?;
    let mut alice_agent = Agent::new(&alice_client, Arc::clone(&alice), key);
    alice_agent.login().await?;
    steps.done("log in", "challenge signed over mTLS, token bound to a fresh DPoP key");

    let me = alice_agent.whoami().await?;
    promised(me.agent_id == enrolled.agent_id, "whoami names the agent that logged in")?;
    stolen_token_is_useless(&client, &alice_agent).await?;
    steps.done("call", "whoami answered; the same token without the key was refused");

    let bob_name = name("bob");
    let bob = Arc::new(admin.create_agent(&bob_name, "Bob", &["order.read"]).await?);
    let bob_client = Client::builder(&base).ca_pem(&ca_pem).identity(&bob).build()?;
    let mut bob_agent = Agent::new(&bob_client, Arc::clone(&bob), SigningKey::generate()?);
    bob_agent.login().await?;
    let sent = alice_agent.send(bob.agent_id().as_str(), r#"{"order":7,"amount":1.0}"#, None, None).await?;
    let inbox = bob_agent.inbox().await?;
    let message =
        inbox.iter().find(|message| message.msg_id == sent.msg_id).ok_or("the message did not arrive")?;
    let verified = bob_agent.verify(message).await?;
    promised(verified.payload.get().contains("1.0"), "numbers arrive as they were written")?;
    bob_agent.ack(&message.msg_id).await?;
    promised(bob_agent.inbox().await?.is_empty(), "an acknowledged message is not delivered again")?;
    steps.done("message", "sent, read, its signature verified against Alice's certificate, acknowledged");

    admin.deactivate(alice.agent_id()).await?;
    let (status, detail) =
        refused(alice_agent.whoami().await.err().ok_or("a deactivated agent was served")?)?;
    promised(status == 401, "a deactivated agent is refused")?;
    steps
        .done("deactivate", &format!("the next request on the open connection got 401: {}", reason(&detail)));

    let findings = verify_file(database(&settings), &mut |_| {})?;
    let entries: u64 =
        findings.iter().filter_map(|finding| finding.result.as_ref().ok()).map(|report| report.rows).sum();
    promised(
        findings.iter().all(|finding| finding.result.is_ok()) && entries >= 10,
        "the audit chain verifies",
    )?;
    steps.done(
        "audit",
        &format!("{} verified from the file, without the server", counted(entries, "entry", "entries")),
    );
    Ok(())
}

/// The stable word in the answer, or the answer where there is none.
fn reason(detail: &str) -> String {
    let object: Option<serde_json::Value> = serde_json::from_str(detail).ok();
    object
        .and_then(|object| object["reason"].as_str().map(str::to_owned))
        .unwrap_or_else(|| detail.to_owned())
}

/// A CA of the organisation's own below the Org CA: key and request made here, signed by the Org CA's key.
async fn own_ca(settings: &Settings) -> Result<Issuer<KeyPair>, Failure> {
    let key = KeyPair::generate_p256()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Demo Agents CA");
    let request = params.serialize_request(&key)?.pem()?;
    let kind = CsrKind::Ca { lifetime: 30 * DAY };
    let signed = sign_with_org_ca(settings, &request, &kind).await.map_err(|error| error.to_string())?;
    Ok(Issuer::new(signed.certificate, key)?)
}

/// An agent's key and its certificate below `ca`.
fn identity(ca: &Issuer<KeyPair>, org: &str, name: &str) -> Result<Identity, Failure> {
    let id = AgentId::parse(&format!("{org}::{name}"))?;
    let spiffe = SpiffeId::parse(&format!("spiffe://cullis.local/{org}/{name}"))?;
    let key = KeyPair::generate_p256()?;
    let now = SystemClock::default().now();
    let leaf = profile::agent(ca, &id, &spiffe, key.spki_der(), 7 * DAY, now, &SystemRng)?;
    let pem = mastio_pki::issued_chain(&leaf, std::slice::from_ref(ca.certificate()));
    Ok(Identity::new(&pem, key)?)
}

/// A token that was stolen without its key.
async fn stolen_token_is_useless(client: &Client, agent: &Agent) -> Result<(), Failure> {
    use secrecy::ExposeSecret;
    let token = agent.access_token().ok_or("no token after logging in")?;
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()).parse()?);
    let answer = client.connect().request(http::Method::GET, "/v1/auth/whoami", headers, "").await?;
    promised(answer.status == http::StatusCode::UNAUTHORIZED, "a token without its key is refused")
}
