//! `mastio pki doctor`: everything that is stored about certificates, held against each other, against the files, and
//! against the rules of strict clients.
//!
//! It reads and changes nothing; a server may be running. What it finds is a [`Kind`] each, with what to do.

mod agents;
mod cas;
mod ends;
mod files;
mod finding;
mod keys;
mod outlook;
mod updates;

use std::{collections::BTreeSet, sync::Arc};

use mastio_config::Settings;
use mastio_core::{OrgId, Stamp};
use mastio_custody::{Custody, CustodyError};
use mastio_store::{ReadError, sqlite::Database};

pub use self::{
    agents::Fleet,
    ends::End,
    finding::{Finding, Kind, Level},
    outlook::{CaOutlook, Outlook, Rotation},
};
use self::{ends::Ends, finding::Findings};

/// Whom it looks at.
#[derive(Clone, Copy)]
pub struct Patient<'a> {
    /// Its settings.
    pub settings: &'a Settings,
    /// Its database.
    pub database: &'a Arc<Database>,
    /// Who opens its keys.
    pub custody: &'a dyn Custody,
    /// Its organisation, as the database names it.
    pub org: &'a OrgId,
    /// Whether a server runs on the database.
    pub served: bool,
    /// Now.
    pub now: Stamp,
}

/// What was found.
#[derive(Debug, serde::Serialize)]
pub struct Diagnosis {
    /// Whose.
    pub org_id: OrgId,
    /// When.
    pub checked_at: Stamp,
    /// Whether a server runs on the database.
    pub served: bool,
    /// The worst first.
    pub findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub not_checked: Vec<String>,
    /// What ends when, the soonest first.
    pub ends: Vec<End>,
    /// The agents in numbers.
    pub agents: Fleet,
    /// What follows for clients.
    #[serde(flatten)]
    pub outlook: Outlook,
}

impl Diagnosis {
    /// Whether anything does not hold.
    #[must_use]
    pub fn has_problems(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Problem)
    }
}

/// What the parts write down.
#[derive(Default)]
struct Notes {
    findings: Findings,
    not_checked: BTreeSet<String>,
    ends: Ends,
}

impl Notes {
    fn find(&mut self, kind: Kind, example: impl Into<String>) {
        self.findings.add(kind, example);
    }

    fn not_check(&mut self, why: &str) {
        self.not_checked.insert(why.to_owned());
    }

    /// A key that does not open: whether that is wrong depends on whether we were given a passphrase.
    fn sealed_key(&mut self, error: &CustodyError) {
        match error {
            CustodyError::NoPassphrase { .. } => {
                self.not_check("sealed private keys: MCP_PROXY_DB_ENCRYPTION_KEY is not set here");
            }
            error => self.find(Kind::CaKey, error.to_string()),
        }
    }
}

/// How often it looks again when the CAs changed meanwhile.
const LOOKS: u32 = 3;

/// Looks at everything. `progress` hears how many agents of how many were looked at.
///
/// # Errors
/// When the database cannot be read, or a row is so bad that the server could not read it either: the error names it.
pub fn examine(patient: &Patient<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<Diagnosis, ReadError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let before = cas::standing(patient)?;
        let mut diagnosis = look(patient, progress)?;
        if cas::standing(patient)? == before {
            return Ok(diagnosis);
        }
        if looks == LOOKS {
            let why = "whether it all fits together: the CAs changed meanwhile, look again";
            diagnosis.not_checked.push(why.to_owned());
            return Ok(diagnosis);
        }
    }
}

fn look(patient: &Patient<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<Diagnosis, ReadError> {
    let mut notes = Notes::default();
    let registry = cas::examine(patient, &mut notes)?;
    let root_key = keys::examine(patient, &registry, &mut notes)?;
    updates::examine(patient, &registry, &mut notes)?;
    let served_chain = files::examine(patient, &registry, &mut notes);
    let fleet = agents::examine(patient, &registry, &mut notes, progress)?;
    let outlook = outlook::of(patient, &registry, &served_chain, &fleet, root_key, &mut notes)?;
    Ok(Diagnosis {
        org_id: patient.org.clone(),
        checked_at: patient.now,
        served: patient.served,
        findings: notes.findings.finish(),
        not_checked: notes.not_checked.into_iter().collect(),
        ends: notes.ends.finish(),
        agents: fleet,
        outlook,
    })
}
