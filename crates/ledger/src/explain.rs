//! One entry explained: who, by which credential, under which rule, what followed, and whether it verifies.

use mastio_audit::{Head, LocalVerifier};
use mastio_authority::{Outage, Refusal};
use mastio_core::{
    OrgId,
    event::{Details, catalogue},
    hash_from_hex,
};
use mastio_store::{
    ReadError, Unavailable,
    audit::{self, Entry, EventName, Filter, Order, View, Words},
    sqlite::Database,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Ledger,
    search::Told,
    sentence::{details, sentence},
};

/// How many entries of what followed are named.
const FOLLOWED: u32 = 5;
/// Members of details that name one thing alone: whatever else names it belongs to it.
const HANDLES: &[&str] = &["jti", "msg_id", "correlation_id", "rotation_id"];
/// Members of details that name a certificate.
const CERTIFICATES: &[&str] = &["cert_thumbprint", "cnf_x5t", "new_cert_thumbprint"];
/// What gives an agent the certificate that it acts with.
const PINNED_BY: &[&str] =
    &["agent.create", "agent.cert_rotated", "admin.agent_enroll_byoca", "admin.agent_enroll_spiffe"];
/// What befalls an agent, as opposed to what it does.
const FATE: &[&str] = &["agent.", "incident.", "admin.agent_"];

/// An entry and what surrounds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The entry, told.
    #[serde(flatten)]
    pub told: Told,
    /// Who did it.
    pub who: Who,
    /// The entries that gave the credentials behind it, as far as the log knows them.
    pub credentials: Vec<Reference>,
    /// Why it was decided so, where a reason was given.
    pub rule: Option<String>,
    /// What happened next to the same agent, session, token, message or rotation of the Org CA.
    pub followed: Vec<Reference>,
    /// Whether its content has its hash and follows the entry before.
    pub verdict: Verdict,
    /// The archive that it went to.
    pub archive: Option<String>,
}

impl Explained {
    /// As JSON: the entry as [`Told::document`] has it.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = json!(self);
        document["details"] = self.told.document()["details"].take();
        document
    }
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Who {
    /// What the entry calls them; `None`: the Mastio itself, or nobody who is known.
    pub name: Option<String>,
    /// What that means.
    pub meaning: String,
    /// The login of the session at the dashboard.
    pub login: Option<Reference>,
}

/// Another entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// Its place in the chain.
    pub chain_seq: Option<i64>,
    /// When.
    pub timestamp: String,
    /// Its name.
    pub event_type: String,
    /// What it says.
    pub sentence: String,
}

impl From<Entry> for Reference {
    fn from(entry: Entry) -> Self {
        Self {
            sentence: sentence(&entry),
            chain_seq: entry.chain_seq,
            timestamp: entry.timestamp,
            event_type: entry.event_type,
        }
    }
}

/// What recomputing the hash of an entry showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether it holds.
    pub holds: bool,
    /// In words.
    pub words: String,
}

/// Why an entry is not explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// There is none.
    #[error("the chain of {org} has no entry {seq}{}", newest.map_or_else(String::new, |newest| format!("; the newest is {newest}")))]
    Nothing {
        /// Whose chain.
        org: String,
        /// Which place.
        seq: i64,
        /// How far the chain goes.
        newest: Option<i64>,
    },
    /// It is elsewhere.
    #[error(
        "entry {seq} went to the archive {file}; bring it back with: mastio audit restore-archive {file}"
    )]
    Archived {
        /// Which place.
        seq: i64,
        /// Where it is.
        file: String,
    },
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<Unavailable> for ExplainError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Outage(ReadError::from(unavailable).into())
    }
}

impl Refusal for ExplainError {
    fn status(&self) -> u16 {
        match self {
            Self::Nothing { .. } => 404,
            Self::Archived { .. } => 410,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Nothing { .. } => "no_such_entry",
            Self::Archived { .. } => "entry_archived",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

impl Ledger {
    /// Explains the entry in this place of the chain of `org`, or of ours.
    ///
    /// # Errors
    /// When it is not there, or the database cannot be read.
    pub async fn explain(&self, org: Option<OrgId>, seq: i64) -> Result<Explained, ExplainError> {
        let org = org.unwrap_or_else(|| self.authority.trust().org.clone());
        self.read(move |view| Ok(explained(view, org.as_str(), seq))).await?
    }
}

/// The same for a command-line tool, on the calling thread. Without `org` it is the chain whose log key was announced,
/// else the first one there is.
///
/// # Errors
/// As [`Ledger::explain`].
pub fn explain(database: &Database, org: Option<&str>, seq: i64) -> Result<Explained, ExplainError> {
    let ours = audit::evidence::announcing_org(database).map_err(Outage::from)?;
    database.audit(|view| {
        let org = match org.map(str::to_owned).or(ours) {
            Some(org) => org,
            None => view.chains()?.into_iter().find(|org| !org.starts_with("__")).unwrap_or_default(),
        };
        Ok(explained(view, &org, seq))
    })?
}

fn explained(view: &View<'_>, org: &str, seq: i64) -> Result<Explained, ExplainError> {
    let archive = view.archive_of(org, seq)?.map(|archived| archived.file);
    let here = match view.entry(org, seq)? {
        None => view.restored(org, seq)?,
        found => found,
    };
    let Some(entry) = here else {
        return Err(match archive {
            Some(file) => ExplainError::Archived { seq, file },
            None => {
                let newest = view.newest(org)?.and_then(|entry| entry.chain_seq);
                ExplainError::Nothing { org: org.to_owned(), seq, newest }
            }
        });
    };
    let details = details(&entry);
    Ok(Explained {
        who: who(view, &entry, &details)?,
        credentials: credentials(view, &entry, &details)?,
        rule: rule(&details),
        followed: followed(view, &entry, &details)?,
        verdict: verdict(view, org, seq, &entry)?,
        told: Told::local(entry),
        archive,
    })
}

fn who(view: &View<'_>, entry: &Entry, details: &Value) -> Result<Who, Unavailable> {
    let name = details["by"].as_str().map(str::to_owned).or_else(|| entry.agent_id.clone());
    let mut login = None;
    let meaning = match name.as_deref().map(|name| name.split_once(':').unwrap_or((name, ""))) {
        Some(("operator", _)) => "somebody with the admin secret that has this fingerprint".to_owned(),
        Some(("dashboard", session)) => {
            let filter = Filter {
                event: Some(EventName::Is(catalogue::LoggedIn::KIND.name.into())),
                result: Some("ok".into()),
                text: Words::read(session),
                ..Filter::default()
            };
            login = before(view, &filter, entry)?;
            "an operator in this session at the dashboard".to_owned()
        }
        Some((shell, _)) if shell.starts_with("command line (uid ") => {
            "somebody with a shell on the server, as the user with this number".to_owned()
        }
        Some(_) if name == entry.agent_id => "the agent".to_owned(),
        Some(_) => "whom the entry names".to_owned(),
        None => "the Mastio itself, or somebody who did not prove who they are".to_owned(),
    };
    Ok(Who { name, meaning, login: login.map(Reference::from) })
}

/// The token that is named, else the newest of the agent that was good then; and where the certificate comes from.
fn credentials(view: &View<'_>, entry: &Entry, details: &Value) -> Result<Vec<Reference>, Unavailable> {
    let issued =
        |filter| Filter { event: Some(EventName::Is(catalogue::TokenIssued::KIND.name.into())), ..filter };
    let is_token = entry.event_type.starts_with("auth.");
    let acted = entry.agent_id.is_some() && details["by"].is_null() && entry.result != "denied" || is_token;
    let mut found = Vec::new();
    if let Some(jti) = details["jti"].as_str().filter(|_| !is_token) {
        found.extend(before(view, &issued(Filter { text: Words::read(jti), ..Filter::default() }), entry)?);
    } else if let Some(agent) = entry.agent_id.clone().filter(|_| acted && !is_token) {
        let token = before(view, &issued(Filter { agent: Some(agent), ..Filter::default() }), entry)?;
        found.extend(token.filter(|token| was_good(token, entry)));
    }
    let mut pinned = None;
    for thumbprint in named(details, CERTIFICATES) {
        let filter = Filter { text: Words::read(thumbprint), ..Filter::default() };
        let first = view.search(&filter, Order::OldestFirst, None, 1)?.entries.into_iter().next();
        pinned = first.filter(|first| first.id < entry.id).or(pinned);
    }
    if pinned.is_none()
        && acted
        && let Some(agent) = &entry.agent_id
    {
        for event in PINNED_BY {
            let event = Some(EventName::Is((*event).into()));
            let candidate =
                before(view, &Filter { agent: Some(agent.clone()), event, ..Filter::default() }, entry)?;
            pinned = pinned.into_iter().chain(candidate).max_by_key(|entry| entry.id);
        }
    }
    found.extend(pinned);
    Ok(found.into_iter().map(Reference::from).collect())
}

fn was_good(token: &Entry, entry: &Entry) -> bool {
    let until = details(token)["expires_at"].as_str().and_then(|text| mastio_core::Stamp::parse(text).ok());
    until.zip(mastio_core::Stamp::parse(&entry.timestamp).ok()).is_some_and(|(until, at)| at <= until)
}

fn rule(details: &Value) -> Option<String> {
    let parts = ["reason", "policy_id", "reach"].iter().filter_map(|name| {
        let value = details[*name].as_str()?;
        Some(if *name == "reason" { value.to_owned() } else { format!("{name} {value}") })
    });
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn followed(view: &View<'_>, entry: &Entry, details: &Value) -> Result<Vec<Reference>, Unavailable> {
    let any = Filter::default;
    let mut questions: Vec<Filter> = named(details, HANDLES)
        .chain(named(details, CERTIFICATES))
        .map(|handle| Filter { text: Words::read(handle), ..any() })
        .collect();
    questions.extend(entry.session_id.clone().map(|session| Filter { session: Some(session), ..any() }));
    if let Some(agent) = &entry.agent_id {
        questions.extend(FATE.iter().map(|family| Filter {
            agent: Some(agent.clone()),
            event: Some(EventName::read(family)),
            ..any()
        }));
    }
    let mut found: Vec<Entry> = Vec::new();
    for question in questions {
        found.extend(view.search(&question, Order::OldestFirst, Some(entry.id), FOLLOWED)?.entries);
    }
    found.sort_by_key(|entry| entry.id);
    found.dedup_by_key(|entry| entry.id);
    Ok(found.into_iter().take(FOLLOWED as usize).map(Reference::from).collect())
}

fn named<'d>(details: &'d Value, names: &'static [&str]) -> impl Iterator<Item = &'d str> {
    names.iter().filter_map(|name| details[*name].as_str())
}

/// The newest entry before `entry`.
fn before(view: &View<'_>, filter: &Filter, entry: &Entry) -> Result<Option<Entry>, Unavailable> {
    Ok(view.search(filter, Order::NewestFirst, Some(entry.id), 1)?.entries.into_iter().next())
}

/// Hash and link, recomputed. Where the entry before is gone, an archive's mark has its hash.
fn verdict(view: &View<'_>, org: &str, seq: i64, entry: &Entry) -> Result<Verdict, Unavailable> {
    let stored = match view.entry(org, seq - 1)? {
        None => view.restored(org, seq - 1)?,
        found => found,
    };
    let hash = match stored {
        Some(before) => before.entry_hash,
        None => {
            view.archive_of(org, seq - 1)?.filter(|mark| mark.span.last == seq - 1).map(|mark| mark.head_hash)
        }
    };
    let link_is_known = hash.is_some() || seq == 1;
    // Where nothing has the hash of the entry before, what this one says of it is taken as it is.
    let previous = hash.or_else(|| entry.previous_hash.clone()).filter(|_| seq > 1);
    let head = match previous.and_then(|text| hash_from_hex(&text).ok()) {
        Some(hash) => Head { seq: (seq - 1).unsigned_abs(), hash: Some(hash) },
        None => Head::GENESIS,
    };
    let words = match LocalVerifier::from(head).push(&entry.row()) {
        Err(broken) => return Ok(Verdict { holds: false, words: broken.to_string() }),
        Ok(()) if link_is_known => "its content has its hash, and it follows the entry before",
        Ok(()) => "its content has its hash; the entry before is not here to compare with",
    };
    Ok(Verdict { holds: true, words: words.to_owned() })
}
