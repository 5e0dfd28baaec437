//! CAs that another took the place of are retired when nothing that they certified is left: then nobody believes them any
//! more, and the key that signed their revocation list is wiped.

use std::{sync::Arc, time::Duration};

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_pki::{Certificate, pem};
use mastio_store::{
    ReadError, Touch, Unit,
    cas::{
        self, CaState,
        leaves::{self, Living},
    },
    keys::CaKind,
    rotations,
    sqlite::Database,
};

use crate::{Authority, Outage, trust::Ca};

/// How long a CA is kept after another took its place, whatever it certified: what was being issued meanwhile is stored,
/// and revocation lists that somebody keeps have been replaced.
const SETTLE: Duration = Duration::from_secs(24 * 3600);
/// How many agents are looked at at once.
const PORTION: u32 = 1000;

/// Why a CA has nothing to do any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// It is past its end.
    Ended,
    /// Everything that it certified is.
    NothingLeft,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::NothingLeft => "nothing_left",
        }
    }
}

impl Authority {
    /// Retires the superseded CAs that are past their end, and the intermediates among them whose last certificate has
    /// ended. None is while a rotation is under way: until its last step it may want them back.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn retire_cas(self: &Arc<Self>) -> Result<(), Outage> {
        let (trust, now) = (self.trust(), self.clock.now());
        let superseded: Vec<Ca> =
            trust.cas.iter().filter(|ca| ca.state == CaState::Superseded).cloned().collect();
        if superseded.is_empty() || trust.rotation.is_some() {
            return Ok(());
        }
        let database = Arc::clone(self.store.database());
        let look = move || idle(&database, superseded, now);
        let idle = tokio::task::spawn_blocking(look).await.map_err(Outage::internal)??;
        for (ca, reason) in &idle {
            let unit = retired(ca, *reason, now);
            // Rejected: somebody rotated meanwhile. What is left is looked at again in the next round.
            self.applied(unit).await?;
        }
        if !idle.is_empty() {
            self.reload_now().await;
        }
        Ok(())
    }
}

fn retired(ca: &Ca, reason: Reason, now: Stamp) -> Unit {
    let thumbprint = ca.certificate.thumbprint();
    let event = catalogue::CaRetired {
        kind: ca.kind.as_str(),
        fingerprint_sha256: thumbprint,
        subject: ca.certificate.subject().to_owned(),
        reason: reason.as_str(),
    };
    Unit::of(Event::new(&event))
        .write(rotations::none_is_open())
        .write(cas::retire(thumbprint, now))
        .touch(Touch::Trust)
}

/// Those of `superseded` that have nothing to do any more.
fn idle(database: &Database, superseded: Vec<Ca>, now: Stamp) -> Result<Vec<(Ca, Reason)>, ReadError> {
    let (ended, mut rest): (Vec<_>, Vec<_>) = superseded.into_iter().partition(|ca| ca.has_ended(now));
    rest.retain(|ca| {
        ca.kind == CaKind::Intermediate && ca.superseded_at.is_some_and(|at| at.plus(SETTLE) <= now)
    });
    let mut unlisted = Vec::new();
    for ca in rest {
        let key_id = hex::encode(ca.certificate.key_id().unwrap_or_default());
        if !leaves::has_revoked(database, &key_id, now)? {
            unlisted.push(ca);
        }
    }
    let left = without_leaves(database, unlisted, now)?.into_iter().map(|ca| (ca, Reason::NothingLeft));
    Ok(ended.into_iter().map(|ca| (ca, Reason::Ended)).chain(left).collect())
}

/// Those of `cas` of which no agent has a certificate that has not ended.
fn without_leaves(database: &Database, mut cas: Vec<Ca>, now: Stamp) -> Result<Vec<Ca>, ReadError> {
    let mut behind: Option<Living> = None;
    while !cas.is_empty() {
        let portion = leaves::living(database, now, behind.as_ref(), PORTION)?;
        for leaf in portion.iter().flat_map(certificates).filter(|leaf| leaf.not_after() > now) {
            cas.retain(|ca| !may_have_certified(&ca.certificate, &leaf));
        }
        match portion.into_iter().last() {
            Some(last) => behind = Some(last),
            None => break,
        }
    }
    Ok(cas)
}

fn certificates(living: &Living) -> impl Iterator<Item = Certificate> {
    let texts = std::iter::once(living.pinned.as_str()).chain(living.graced.as_deref());
    texts.filter_map(|text| pem::first_certificate(text).ok()).collect::<Vec<_>>().into_iter()
}

/// By the key that the leaf names. The existing system named none, and called all intermediates the same: then each of
/// that name may be the one.
fn may_have_certified(ca: &Certificate, leaf: &Certificate) -> bool {
    leaf.issuer_raw() == ca.subject_raw()
        && leaf.authority_key_id().is_none_or(|key_id| Some(key_id) == ca.key_id())
}
