//! The CAs of the organisation at one moment: the registry, with everything parsed that certifying and believing need.

use std::sync::Arc;

use mastio_core::Stamp;
use mastio_custody::Custody;
use mastio_pki::{Certificate, Issuer, KeyPair};
use mastio_store::{
    cas::{self, CaRow, CaState},
    keys::CaKind,
    rotations::{Phase, Rotation, Transition},
    sqlite::Database,
};
use secrecy::ExposeSecret;

use super::{TrustError, unusable};

/// The most links that the server sends along: a client that is further behind fetches the trust file.
const MOST_LINKS: usize = 3;

/// A CA of the organisation.
#[derive(Debug, Clone)]
pub struct Ca {
    /// Its certificate.
    pub certificate: Certificate,
    /// Root or intermediate.
    pub kind: CaKind,
    /// Where it is in its life.
    pub state: CaState,
    /// What it certified does not log in any more.
    pub cut: bool,
    /// Its key may be known to others.
    pub compromised: bool,
    /// A superseded root's certificate for its successor.
    pub link: Option<Certificate>,
    /// It with its key, if it is an intermediate whose key we hold.
    pub issuer: Option<Arc<Issuer<KeyPair>>>,
}

impl Ca {
    fn read(
        row: &CaRow,
        active: Option<&Arc<Issuer<KeyPair>>>,
        custody: &dyn Custody,
    ) -> Result<Self, TrustError> {
        let what = format!("pki_cas, certificate {}", row.thumbprint);
        let certificate = Certificate::from_pem(&row.certificate).map_err(|error| unusable(&what, error))?;
        let link = row.link.as_deref().map(Certificate::from_pem).transpose();
        let issuer = match (row.kind, &row.private) {
            (CaKind::Root, _) => None,
            (CaKind::Intermediate, _) if row.state == CaState::Active => active.cloned(),
            (CaKind::Intermediate, None) => None,
            (CaKind::Intermediate, Some(stored)) => {
                let pem = custody.unwrap(&what, stored)?;
                let key = KeyPair::from_pem(pem.expose_secret()).map_err(|error| unusable(&what, error))?;
                let issuer = Issuer::new(certificate.clone(), key).map_err(|error| unusable(&what, error))?;
                Some(Arc::new(issuer))
            }
        };
        Ok(Self {
            link: link.map_err(|error| unusable(&what, error))?,
            kind: row.kind,
            state: row.state,
            cut: row.cut,
            compromised: row.compromised,
            certificate,
            issuer,
        })
    }

    fn is(&self, kind: CaKind, state: CaState) -> bool {
        (self.kind, self.state) == (kind, state)
    }

    fn has_ended(&self, now: Stamp) -> bool {
        self.certificate.not_after() <= now
    }
}

/// All of them, the newest first.
#[derive(Debug, Clone)]
pub struct Cas {
    all: Vec<Ca>,
    /// Whether staged CAs are shown and believed already.
    shows_staged: bool,
    /// Whether the staged intermediate certifies agents already.
    issues_staged: bool,
    now: Stamp,
}

impl Cas {
    /// Reads the registry. `active` is the active intermediate, which custody has opened.
    pub(super) fn load(
        database: &Database,
        custody: &dyn Custody,
        active: Option<&Arc<Issuer<KeyPair>>>,
        rotation: Option<&Rotation>,
        now: Stamp,
    ) -> Result<Self, TrustError> {
        let rows = cas::all(database)?;
        let all = rows.iter().map(|row| Ca::read(row, active, custody)).collect::<Result<_, _>>()?;
        let overlap = rotation.filter(|rotation| rotation.transition == Transition::Overlap);
        Ok(Self {
            all,
            shows_staged: overlap.is_some_and(|rotation| rotation.phase >= Phase::Distribute),
            issues_staged: overlap.is_some_and(|rotation| rotation.phase == Phase::Reissue),
            now,
        })
    }

    /// Every CA of the registry, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Ca> {
        self.all.iter()
    }

    fn of(&self, kind: CaKind, state: CaState) -> impl Iterator<Item = &Ca> {
        self.all.iter().filter(move |ca| ca.is(kind, state))
    }

    /// The intermediate that certifies agents.
    pub(super) fn issuing(&self) -> Option<Arc<Issuer<KeyPair>>> {
        let state = if self.issues_staged { CaState::Staged } else { CaState::Active };
        self.of(CaKind::Intermediate, state).find_map(|ca| ca.issuer.clone())
    }

    /// Whether a superseded CA says something that no active one says. An older certificate of an active CA's own key does
    /// not: all that it vouches for the active one vouches for, and its path length may be the flaw that was repaired.
    fn is_worth_showing(&self, ca: &Ca) -> bool {
        let is_older_form = |other: &Ca| {
            other.state == CaState::Active
                && other.certificate.spki_der() == ca.certificate.spki_der()
                && other.certificate.subject_raw() == ca.certificate.subject_raw()
        };
        !ca.compromised && !ca.has_ended(self.now) && !self.all.iter().any(is_older_form)
    }

    /// Whose certificates log in: what is in use, and what another took the place of without ending it.
    pub fn believed(&self) -> impl Iterator<Item = &Certificate> {
        let believed = |ca: &&Ca| match ca.state {
            CaState::Active => true,
            CaState::Staged => self.shows_staged,
            CaState::Superseded => !ca.cut && self.is_worth_showing(ca),
            CaState::Retired => false,
        };
        self.all.iter().filter(believed).map(|ca| &ca.certificate)
    }

    /// What the trust file holds beside the active root and in this order: intermediates, since the clients' check of
    /// senders goes one level deep, then roots (contract `pki.md` §4).
    pub(super) fn shown(&self) -> impl Iterator<Item = &Certificate> {
        use CaState::{Active, Staged, Superseded};
        let order = [CaKind::Intermediate, CaKind::Root]
            .into_iter()
            .flat_map(|kind| [Active, Staged, Superseded].map(|state| (kind, state)));
        let shown = |ca: &&Ca| match ca.state {
            Staged => self.shows_staged,
            Superseded => self.is_worth_showing(ca),
            _ => true,
        };
        order.flat_map(|(kind, state)| self.of(kind, state)).filter(shown).map(|ca| &ca.certificate)
    }

    /// The way from superseded roots to the active one, the newest first: who knows only an old root believes the server
    /// by these (design decision 3).
    pub fn links(&self) -> impl Iterator<Item = &Certificate> {
        let vouches = |ca: &&Ca| !ca.compromised && !ca.has_ended(self.now);
        let superseded = self.of(CaKind::Root, CaState::Superseded).filter(vouches);
        superseded.filter_map(|ca| ca.link.as_ref()).take(MOST_LINKS)
    }

    /// Every intermediate whose key we hold: each signs the revocation list of its leaves.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &Issuer<KeyPair>> {
        self.all.iter().filter_map(|ca| ca.issuer.as_deref())
    }

    /// All that are not history.
    pub(super) fn known(&self) -> impl Iterator<Item = &Certificate> {
        self.all.iter().filter(|ca| ca.state != CaState::Retired).map(|ca| &ca.certificate)
    }
}
