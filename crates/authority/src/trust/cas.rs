//! The CAs of the organisation at one moment: the registry, with everything parsed that certifying and believing need.

use std::{collections::HashSet, sync::Arc};

use mastio_core::{Stamp, Thumbprint};
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

/// The most superseded CAs of a kind that the trust file shows: its readers bound what they read
/// ([`mastio_pki::pem::MAX_CERTIFICATES`]).
const MOST_SHOWN: usize = 4;

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
    /// Since when we have it.
    pub created_at: Stamp,
    /// Since when it certified, if it ever did.
    pub activated_at: Option<Stamp>,
    /// Since when another does.
    pub superseded_at: Option<Stamp>,
    /// It with its key, if it is an intermediate whose key we hold.
    pub issuer: Option<Arc<Issuer<KeyPair>>>,
    /// Whether its key is stored and cannot be used. Of the active CAs that is an error instead.
    pub key_damaged: bool,
}

impl Ca {
    fn read(
        row: &CaRow,
        active: Option<&Arc<Issuer<KeyPair>>>,
        custody: &dyn Custody,
    ) -> Result<Self, TrustError> {
        let what = format!("pki_cas, certificate {}", row.thumbprint);
        let certificate = Certificate::from_pem(&row.certificate).map_err(|error| unusable(&what, error))?;
        let link = row.link.as_deref().map(Certificate::from_pem).transpose().unwrap_or_else(|error| {
            tracing::error!(%error, "{what}: its link cannot be read, and leads nowhere");
            None
        });
        let issuer = match (row.kind, row.state) {
            (CaKind::Root, _) => Ok(None),
            (CaKind::Intermediate, CaState::Active) => Ok(active.cloned()),
            // A damaged one must not keep what was cut off in use: without it the others can still be read.
            (CaKind::Intermediate, _) => Self::stored_issuer(row, &certificate, custody)
                .inspect_err(|error| tracing::error!(%error, "the key of an intermediate cannot be used")),
        };
        Ok(Self {
            link,
            kind: row.kind,
            state: row.state,
            cut: row.cut,
            compromised: row.compromised,
            created_at: row.created_at,
            activated_at: row.activated_at,
            superseded_at: row.superseded_at,
            certificate,
            key_damaged: issuer.is_err(),
            issuer: issuer.unwrap_or_default(),
        })
    }

    /// The intermediate of a row with its key, if the row has one.
    fn stored_issuer(
        row: &CaRow,
        certificate: &Certificate,
        custody: &dyn Custody,
    ) -> Result<Option<Arc<Issuer<KeyPair>>>, TrustError> {
        let what = format!("pki_cas, certificate {}", row.thumbprint);
        let Some(stored) = &row.private else { return Ok(None) };
        let pem = custody.unwrap(&what, stored)?;
        let key = KeyPair::from_pem(pem.expose_secret()).map_err(|error| unusable(&what, error))?;
        let issuer = Issuer::new(certificate.clone(), key).map_err(|error| unusable(&what, error))?;
        Ok(Some(Arc::new(issuer)))
    }

    fn is(&self, kind: CaKind, state: CaState) -> bool {
        (self.kind, self.state) == (kind, state)
    }

    /// Whether it ever certified: a staged one whose rotation was given up did not.
    #[must_use]
    pub fn was_in_use(&self) -> bool {
        self.activated_at.is_some() || matches!(self.state, CaState::Active | CaState::Superseded)
    }

    /// Whether another took its place before it was the active one: then both are noted at once.
    fn was_given_up(&self) -> bool {
        self.superseded_at.is_some() && self.activated_at == self.superseded_at
    }

    /// Whether it is past its end.
    pub(crate) fn has_ended(&self, now: Stamp) -> bool {
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
    /// Believed intermediates under another root than the one that certifies agents.
    outgoing: HashSet<Thumbprint>,
    /// The root that a rotation with overlap brings, and what hangs under it.
    incoming: HashSet<Thumbprint>,
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
        Self::from_rows(&cas::all(database)?, custody, active, rotation, now)
    }

    /// The CAs in these rows of the registry.
    pub(crate) fn from_rows(
        rows: &[CaRow],
        custody: &dyn Custody,
        active: Option<&Arc<Issuer<KeyPair>>>,
        rotation: Option<&Rotation>,
        now: Stamp,
    ) -> Result<Self, TrustError> {
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            match Ca::read(row, active, custody) {
                // Nobody is let in by it: it must not keep those out who are.
                Err(error) if row.state == CaState::Retired || row.cut => {
                    tracing::error!(%error, "a CA that is believed no more is left out");
                }
                read => all.push(read?),
            }
        }
        let overlap = rotation.filter(|rotation| rotation.transition == Transition::Overlap);
        let mut cas = Self {
            all,
            shows_staged: overlap.is_some_and(|rotation| rotation.phase >= Phase::Distribute),
            issues_staged: overlap.is_some_and(|rotation| rotation.phase == Phase::Reissue),
            outgoing: HashSet::new(),
            incoming: HashSet::new(),
            now,
        };
        cas.outgoing = cas.find_outgoing();
        cas.incoming = overlap.map(|rotation| cas.find_incoming(rotation)).unwrap_or_default();
        Ok(cas)
    }

    fn find_outgoing(&self) -> HashSet<Thumbprint> {
        let Some(issuing) = self.issuing() else { return HashSet::new() };
        let mut roots = self.all.iter().filter(|ca| ca.kind == CaKind::Root);
        let Some(root) = roots.find(|root| issuing.certificate().is_signed_by(&root.certificate)) else {
            return HashSet::new();
        };
        let believed = self.all.iter().filter(|ca| ca.kind == CaKind::Intermediate && self.believes(ca));
        let elsewhere = believed.filter(|ca| !ca.certificate.is_signed_by(&root.certificate));
        elsewhere.map(|ca| ca.certificate.thumbprint()).collect()
    }

    fn find_incoming(&self, rotation: &Rotation) -> HashSet<Thumbprint> {
        let Some(root) = self.all.iter().find(|ca| ca.certificate.thumbprint() == rotation.new_root) else {
            return HashSet::new();
        };
        let below = self.all.iter().filter(|ca| ca.certificate.is_signed_by(&root.certificate));
        below.map(|ca| ca.certificate.thumbprint()).collect()
    }

    /// This intermediate, if agents with its certificates should move: it is believed, and what certifies agents now
    /// hangs under another root.
    pub(crate) fn outgoing(&self, intermediate: &Thumbprint) -> Option<&Ca> {
        let is_it = |ca: &&Ca| ca.certificate.thumbprint() == *intermediate;
        self.outgoing.contains(intermediate).then(|| self.all.iter().find(is_it)).flatten()
    }

    /// Whether this is a CA that the rotation with overlap brings, to which agents are to move.
    pub(crate) fn is_incoming(&self, ca: &Thumbprint) -> bool {
        self.incoming.contains(ca)
    }

    /// The root above this CA of ours, which is itself if it is one.
    pub(crate) fn root_above(&self, ca: &Thumbprint) -> Option<Thumbprint> {
        let below = &self.all.iter().find(|known| known.certificate.thumbprint() == *ca)?.certificate;
        let mut roots = self.all.iter().filter(|ca| ca.kind == CaKind::Root).map(|ca| &ca.certificate);
        roots.find(|root| *root == below || below.is_signed_by(root)).map(Certificate::thumbprint)
    }

    /// Whether there is such an intermediate at all.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the key of an intermediate that is not the active one is stored and cannot be used.
    #[must_use]
    pub fn has_damaged_key(&self) -> bool {
        self.all.iter().any(|ca| ca.key_damaged)
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
        self.all.iter().filter(|ca| self.believes(ca)).map(|ca| &ca.certificate)
    }

    fn believes(&self, ca: &Ca) -> bool {
        match ca.state {
            CaState::Active => true,
            CaState::Staged => self.shows_staged,
            CaState::Superseded => !ca.cut && self.is_worth_showing(ca),
            CaState::Retired => false,
        }
    }

    /// Whose certificates do not log in any more, although they once did.
    pub(super) fn cut(&self) -> impl Iterator<Item = &Certificate> {
        let cut = |ca: &&Ca| match ca.state {
            CaState::Active | CaState::Staged => false,
            CaState::Superseded => ca.cut || ca.compromised,
            CaState::Retired => ca.was_in_use(),
        };
        self.all.iter().filter(cut).map(|ca| &ca.certificate)
    }

    /// What the trust file holds beside the active root and in this order: intermediates, since the clients' check of
    /// senders goes one level deep, then roots (contract `pki.md` §4).
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Certificate> {
        use CaState::{Active, Staged, Superseded};
        let order = [CaKind::Intermediate, CaKind::Root]
            .into_iter()
            .flat_map(|kind| [Active, Staged, Superseded].map(|state| (kind, state)));
        let shown = |ca: &&Ca| match ca.state {
            Staged => self.shows_staged,
            Superseded => self.is_worth_showing(ca),
            _ => true,
        };
        // Those whose certificates still log in come before those that were given up, of which there are few, and those
        // before what was cut.
        let newest = move |(kind, state)| {
            let mut cas: Vec<_> = self.of(kind, state).filter(shown).collect();
            cas.sort_by_key(|ca| (ca.cut, !ca.cut && ca.was_given_up()));
            cas.into_iter().take(MOST_SHOWN)
        };
        order.flat_map(newest).map(|ca| &ca.certificate)
    }

    /// The way from superseded roots to the active one, the newest first: who knows only an old root believes the server
    /// by these (design decision 3). Links of roots that were given up come last: of two links to the same root OpenSSL
    /// tries the first alone, and fewer know a root that was given up than the one before.
    pub fn links(&self) -> impl Iterator<Item = &Certificate> {
        let leading = |back| {
            let superseded = self.of(CaKind::Root, CaState::Superseded);
            superseded.filter(move |root| self.leads_here(root) && self.leads_back(root) == back)
        };
        leading(false).chain(leading(true)).filter_map(|root| root.link.as_ref()).take(MOST_LINKS)
    }

    /// Whether the root before it took its place again.
    fn leads_back(&self, root: &Ca) -> bool {
        let is_older = |link| self.roots_with_key(link).all(|to| to.created_at < root.created_at);
        root.link.as_ref().is_some_and(is_older)
    }

    fn roots_with_key(&self, link: &Certificate) -> impl Iterator<Item = &Ca> {
        self.all.iter().filter(|ca| {
            ca.kind == CaKind::Root
                && ca.certificate.spki_der() == link.spki_der()
                && ca.certificate.subject_raw() == link.subject_raw()
        })
    }

    /// Whether links lead from `root` to the active one: another root on the way may have vouched for none.
    pub(crate) fn leads_here(&self, root: &Ca) -> bool {
        let mut next = self.link_of(root);
        // As many steps as there are CAs: a circle leads nowhere.
        for _ in &self.all {
            let Some(to) = next else { return false };
            if self.roots_with_key(to).any(|ca| ca.state == CaState::Active) {
                return true;
            }
            next = self.roots_with_key(to).find_map(|ca| self.link_of(ca));
        }
        false
    }

    fn link_of<'a>(&self, root: &'a Ca) -> Option<&'a Certificate> {
        root.link.as_ref().filter(|_| !root.compromised && !root.has_ended(self.now))
    }

    /// Every intermediate whose key we hold: each signs the revocation list of its leaves.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &Issuer<KeyPair>> {
        self.all.iter().filter_map(|ca| ca.issuer.as_deref())
    }

    /// Every CA that there was and that signed `certificate`, the newest first.
    pub(super) fn above(&self, certificate: &Certificate) -> Vec<&Certificate> {
        self.all.iter().map(|ca| &ca.certificate).filter(|ca| certificate.is_signed_by(ca)).collect()
    }

    /// All that are not history.
    pub(super) fn known(&self) -> impl Iterator<Item = &Certificate> {
        self.all.iter().filter(|ca| ca.state != CaState::Retired).map(|ca| &ca.certificate)
    }
}
