//! What a rotation of the Org CA would do, before anybody does it.

use std::time::Duration;

use mastio_core::{Stamp, Thumbprint};
use mastio_custody::CaKey;
use mastio_pki::{Certificate, IssueError, Issuer, lineage, profile};
use mastio_store::rotations::{Mode, following};

use super::{Candidate, Plan, RotationError, overlap::OverlapError};
use crate::{Authority, Outage, trust::Trust};

/// What a rotation would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// Where the new root comes from.
    pub mode: Mode,
    /// How agents get to it.
    pub plan: Plan,
    /// SHA-256 of the new root.
    pub fingerprint: Thumbprint,
    /// Its subject.
    pub subject: String,
    /// When it ends.
    pub not_after: Stamp,
    /// SHA-256 of the root that it takes the place of.
    pub previous: Thumbprint,
    /// Whether clients that know only the old root believe this server afterwards, or why they do not.
    pub continuity: Result<(), NoContinuity>,
    /// Active agents by what the rotation means for them.
    pub agents: Affected,
    /// What happens, in sentences.
    pub consequences: Vec<String>,
}

/// Active agents by what a new root means for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Affected {
    /// Their certificates are made here.
    pub managed: u64,
    /// The organisation's own CA makes them, below the root.
    pub byoca: u64,
    /// SPIRE makes them: the root means nothing to them.
    pub spiffe_unaffected: u64,
}

impl Affected {
    /// Those that need another certificate.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.managed + self.byoca
    }
}

/// Why the old root cannot vouch for the new one in TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoContinuity {
    /// It must not.
    #[error("the old root's key may be known to others, so nothing that it signs counts")]
    Compromise,
    /// It has ended.
    #[error("the old root expired at {0}")]
    Expired(Stamp),
    /// Its path length leaves no room for another root below it.
    #[error("the old root's path length leaves no room for a link certificate")]
    PathLength,
    /// Anything else.
    #[error("the old root cannot sign a link certificate: {0}")]
    Unable(String),
}

/// What the old root says of the new one.
#[derive(Debug)]
pub(crate) struct Vouched {
    /// Its certificate for the new root's key, in which TLS clients believe.
    pub(crate) link: Result<Certificate, NoContinuity>,
    /// Its signed statement; `None` after a compromise, where the break is recorded.
    pub(crate) lineage: Option<String>,
}

impl Vouched {
    /// After a compromise.
    pub(crate) fn of_nothing() -> Self {
        Self { link: Err(NoContinuity::Compromise), lineage: None }
    }
}

impl Authority {
    /// What rotating to `candidate` as planned would do now.
    ///
    /// # Errors
    /// When a rotation is open that this one would not end, something has come to speak against it, or the old root or
    /// the agents cannot be read.
    pub async fn preflight(&self, candidate: &Candidate, plan: Plan) -> Result<Preflight, RotationError> {
        self.no_update_runs::<RotationError>()?;
        let (trust, now) = (self.trust(), self.clock.now());
        if trust.followed().is_some() && !plan.compromise() {
            return Err(RotationError::InProgress);
        }
        candidate.still_good(&trust, now)?;
        let old_root = self.active_root()?;
        let vouched = match plan.compromise() {
            true => Vouched::of_nothing(),
            false => self.vouched(&old_root, candidate.certificate())?,
        };
        let continuity = vouched.link.map(drop);
        let agents = self.affected().await?;
        let root = candidate.certificate();
        let mut consequences = consequences(plan, &trust, &continuity, &agents);
        if root.not_after() < now.plus(profile::LEAF_LIFETIME) {
            consequences.push(format!(
                "The new root ends at {}: whatever it certifies ends by then, so another one must take its place before",
                root.not_after()
            ));
        }
        Ok(Preflight {
            mode: candidate.mode(),
            plan,
            fingerprint: root.thumbprint(),
            subject: root.subject().to_owned(),
            not_after: root.not_after(),
            previous: trust.root.thumbprint(),
            consequences,
            continuity,
            agents,
        })
    }

    /// Whether `candidate` lives longer than the old root is believed in an overlap that begins now.
    ///
    /// # Errors
    /// When it does not.
    pub fn outlives_grace(&self, candidate: &Candidate, grace_days: u32) -> Result<(), OverlapError> {
        let (end, day) = (candidate.certificate().not_after(), Duration::from_secs(24 * 3600));
        let long_enough = end > self.clock.now().plus(day * (grace_days + 1));
        if long_enough { Ok(()) } else { Err(OverlapError::EndsTooSoon(end)) }
    }

    /// Active agents by what a new root means for them.
    pub(crate) async fn affected(&self) -> Result<Affected, Outage> {
        let [managed, byoca, spiffe_unaffected] = following::by_issuer(&self.store).await?;
        Ok(Affected { managed, byoca, spiffe_unaffected })
    }

    /// What `old` says of `new`: the way on for who knows only the old root.
    ///
    /// # Errors
    /// When its key does not sign at all.
    pub(crate) fn vouched(&self, old: &CaKey, new: &Certificate) -> Result<Vouched, Outage> {
        let now = self.clock.now();
        let issuer = match Issuer::new(old.certificate.clone(), &old.key) {
            Ok(issuer) => issuer,
            Err(error) => {
                return Ok(Vouched { link: Err(NoContinuity::Unable(error.to_string())), lineage: None });
            }
        };
        let link = profile::link(&issuer, new, now, self.rng.as_ref()).map_err(|error| match error {
            IssueError::IssuerExpired(at) => NoContinuity::Expired(at),
            IssueError::PathLength => NoContinuity::PathLength,
            other => NoContinuity::Unable(other.to_string()),
        });
        let lineage = lineage::vouch(&issuer, new, now).map_err(Outage::internal)?;
        Ok(Vouched { link, lineage: Some(lineage) })
    }
}

fn consequences(
    plan: Plan,
    trust: &Trust,
    continuity: &Result<(), NoContinuity>,
    agents: &Affected,
) -> Vec<String> {
    let mut told = vec![match plan {
        Plan::Cut(_) => format!(
            "{} agents with certificates of this Mastio and {} with certificates of the organisation's own CA get \
             401 ca_rotated, and their tokens end, until each has a new certificate (rotate-cert, or another enrolment)",
            agents.managed, agents.byoca
        ),
        Plan::Overlap => format!(
            "{} agents move to new certificates one after the other and {} must bring one of their own CA; nobody is \
             refused meanwhile",
            agents.managed, agents.byoca
        ),
    }];
    told.push(format!(
        "{} SPIFFE agents go on: their certificates come from SPIRE",
        agents.spiffe_unaffected
    ));
    told.push(match continuity {
        Ok(()) => "Clients that know only the old root go on to believe this server by a link certificate, except \
                   those that check paths as Go's crypto/x509 does: give these the new trust file"
            .to_owned(),
        Err(why) => format!(
            "Clients that know only the old root do not believe this server any more and need the new trust file first: {why}"
        ),
    });
    if let Some(open) = trust.followed().filter(|_| plan.compromise()) {
        told.push(format!(
            "The rotation with overlap {} ends in its phase {}: the root that it brings is believed no more either, because \
             its key lay beside the one that others may know",
            open.id,
            open.phase.as_str()
        ));
    }
    if let Some(halt) = &trust.halt {
        told.push(format!("Signing is halted now ({halt})"));
    }
    told
}
