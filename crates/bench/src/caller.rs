//! Who asks: one connection that repeats one request.

use std::sync::Arc;

use http::{HeaderMap, Method};
use mastio_client::{Admin, Agent, Connection, Login};
use mastio_core::{Event, SystemClock};
use mastio_jose::SigningKey;
use mastio_store::{Store, Unit};

use crate::{bench::Bench, error::BenchError, organisation::Organisation, server::Server};

/// Requests over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `GET /healthz`.
    Healthz,
    /// `POST /v1/auth/token` with an assertion, without a client certificate (sequence C).
    Mint,
    /// `POST /v1/auth/token` with the client certificate instead of an assertion.
    MintMtls,
    /// `GET /v1/auth/whoami` with token and proof.
    Call,
    /// `POST /v1/egress/message/send` with token, proof and a signed envelope, to the next agent.
    Message,
    /// `POST /v1/egress/resolve` with token and proof, each time about the next agent of the fleet.
    Resolve,
    /// `POST /v1/admin/agents`.
    Create,
    /// `POST /v1/admin/agents/enroll/byoca`.
    Byoca,
}

/// One that is ready to ask.
pub(crate) enum Caller {
    Healthz(Connection),
    Mint(Box<Agent>, Login),
    Call(Box<Agent>),
    Message {
        agent: Box<Agent>,
        recipient: String,
    },
    Resolve {
        agent: Box<Agent>,
        names: Names,
    },
    Create {
        admin: Admin,
        names: Names,
    },
    Byoca {
        admin: Admin,
        names: Names,
        issuer: Arc<Organisation>,
        clock: SystemClock,
    },
    /// No HTTP: units of one entry for a writer in this process.
    Append(Arc<Store>, Event),
}

/// Names of agents: a word and numbers that `step` apart callers share without meeting.
pub(crate) struct Names {
    pub(crate) word: &'static str,
    pub(crate) next: u64,
    pub(crate) step: u64,
}

impl Names {
    fn take(&mut self) -> String {
        let name = name(self.word, self.next);
        self.next += self.step;
        name
    }
}

/// The name with a number.
pub(crate) fn name(word: &str, number: u64) -> String {
    format!("{word}-{number}")
}

/// The agents that call; `fleet` is the word for those who are only there.
const CALLER: &str = "caller";
pub(crate) const FLEET: &str = "fleet";
const ENROLLED: &str = "enrolled";

impl Caller {
    /// As many callers as the options say, enrolled and logged in.
    pub(crate) async fn all(bench: &Bench, server: &Server, kind: Kind) -> Result<Vec<Self>, BenchError> {
        let count = u64::from(bench.options.connections);
        let mut callers = Vec::new();
        for index in 0..count {
            callers.push(Self::new(bench, server, kind, index, count).await?);
        }
        Ok(callers)
    }

    async fn new(
        bench: &Bench,
        server: &Server,
        kind: Kind,
        index: u64,
        count: u64,
    ) -> Result<Self, BenchError> {
        let names = |word| Names { word, next: index, step: count };
        Ok(match kind {
            Kind::Healthz => Self::Healthz(server.client().build()?.connect()),
            Kind::Create => Self::Create { admin: server.admin()?, names: names(ENROLLED) },
            Kind::Byoca => Self::Byoca {
                admin: server.admin()?,
                names: names(ENROLLED),
                issuer: Arc::clone(&bench.organisation),
                clock: bench.clock,
            },
            Kind::Mint => Self::Mint(agent(server, index, false).await?, Login::Direct),
            Kind::MintMtls => Self::Mint(agent(server, index, true).await?, Login::Mtls),
            Kind::Call => Self::Call(logged_in(server, index).await?),
            Kind::Resolve => Self::Resolve { agent: logged_in(server, index).await?, names: names(FLEET) },
            Kind::Message => {
                let recipient = bench.organisation.agent(&name(CALLER, (index + 1) % count))?;
                Self::Message { agent: logged_in(server, index).await?, recipient: recipient.to_string() }
            }
        })
    }

    /// Asks once and reads the whole answer.
    pub(crate) async fn ask(&mut self) -> Result<(), BenchError> {
        match self {
            Self::Healthz(connection) => {
                connection.request(Method::GET, "/healthz", HeaderMap::new(), "").await?.success()?;
            }
            Self::Mint(agent, login) => agent.login_by(*login).await?,
            Self::Call(agent) => drop(agent.whoami().await?),
            Self::Message { agent, recipient } => {
                agent.send(recipient, r#"{"order":7,"amount":1.0}"#, None, None).await?;
            }
            Self::Resolve { agent, names } => {
                let id = format!("{}::{}", agent.identity().agent_id().org(), names.take());
                agent.resolve(&id).await?;
            }
            Self::Create { admin, names } => {
                admin.create_agent(&names.take(), "Bench", &["order.read"]).await?;
            }
            Self::Byoca { admin, names, issuer, clock } => {
                let name = names.take();
                let identity = issuer.identity(&name, clock)?;
                admin.enroll_byoca(&name, "Bench", &["order.read"], &identity, None).await?;
            }
            Self::Append(store, event) => drop(store.submit(Unit::of(event.clone())).await?),
        }
        Ok(())
    }
}

/// A new agent on a connection of its own, which shows its certificate if told so.
async fn agent(server: &Server, index: u64, certified: bool) -> Result<Box<Agent>, BenchError> {
    let identity = server.admin()?.create_agent(&name(CALLER, index), "Bench", &["order.read"]).await?;
    let client = if certified { server.client().identity(&identity) } else { server.client() }.build()?;
    Ok(Box::new(Agent::new(&client, Arc::new(identity), SigningKey::generate()?)))
}

async fn logged_in(server: &Server, index: u64) -> Result<Box<Agent>, BenchError> {
    let mut agent = agent(server, index, false).await?;
    agent.login_direct().await?;
    Ok(agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_share_numbers_without_meeting() {
        let mut names: Vec<_> = (0..3).map(|index| Names { word: "x", next: index, step: 3 }).collect();
        let mut taken: Vec<_> =
            (0..2).flat_map(|_| names.iter_mut().map(Names::take).collect::<Vec<_>>()).collect();
        assert_eq!(taken.first().map(String::as_str), Some("x-0"));
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 6);
    }
}
