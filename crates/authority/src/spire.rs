//! SPIRE bundles: whom to believe about the workloads of a trust domain (design decision 1).
//!
//! A bundle is used for SPIFFE agents of its own trust domain and for nothing else. It is loaded with the
//! [trust state](crate::trust), so a change of it counts as soon as it is answered.

mod error;

use std::sync::Arc;

use mastio_core::{Event, Stamp, TrustDomain, event::catalogue};
use mastio_pki::{Anchors, Certificate, pem, spire_bundle, trust_domain_of};
use mastio_store::{
    ReadError, Rejection, Touch, Unit, WriteError,
    spiffe::{self, Bundle},
    sqlite::Database,
};

pub use self::error::BundleError;
use crate::{Authority, Outage, admin::Operator};

/// How often a change is decided again when others change the same bundle.
const ATTEMPTS: u32 = 8;

/// The CAs of a trust domain, as an operator sees them.
#[derive(Debug)]
pub struct SpireBundle {
    /// Whose they are.
    pub domain: TrustDomain,
    /// The CAs. Empty when what is stored cannot be read.
    pub certificates: Vec<Certificate>,
    /// Since when they are these.
    pub updated_at: Stamp,
}

impl From<Bundle> for SpireBundle {
    fn from(bundle: Bundle) -> Self {
        let certificates = pem::certificates(&bundle.pem).unwrap_or_default();
        Self { domain: bundle.domain, certificates, updated_at: bundle.updated_at }
    }
}

/// The bundles that are stored and fit; `own` are our own CAs. One that does not fit is left out and logged, because
/// everybody else must still be let in.
pub(crate) fn stored(
    database: &Database,
    own: &[Certificate],
) -> Result<Vec<(TrustDomain, Vec<Certificate>)>, ReadError> {
    let fitting = |bundle: Bundle| {
        let read = pem::certificates(&bundle.pem).map_err(|error| BundleError::Unreadable(error.into()));
        let checked = read.and_then(|certificates| {
            check(&bundle.domain, &certificates, own)?;
            Ok(certificates)
        });
        match checked {
            Ok(certificates) => Some((bundle.domain, certificates)),
            Err(error) => {
                tracing::error!(trust_domain = %bundle.domain, %error, "a SPIRE bundle is left out; set it again");
                None
            }
        }
    };
    Ok(spiffe::bundles(database)?.into_iter().filter_map(fitting).collect())
}

/// Whether `certificates` can be the bundle of `domain`. Dates are judged whenever a path is.
pub(crate) fn check(
    domain: &TrustDomain,
    certificates: &[Certificate],
    own: &[Certificate],
) -> Result<(), BundleError> {
    for ca in certificates {
        if let Some(named) = trust_domain_of(ca).filter(|named| named != domain) {
            let (subject, domain) = (ca.subject().to_owned(), domain.clone());
            return Err(BundleError::Foreign { subject, named, domain });
        }
        // Whatever we sign would speak for the whole trust domain.
        if own.iter().any(|own| own.spki_der() == ca.spki_der()) {
            return Err(BundleError::OwnCa(ca.subject().to_owned()));
        }
    }
    Anchors::builder().spire(domain.clone(), certificates.iter().cloned()).build()?;
    Ok(())
}

/// Writes a bundle in place of `before`; `source` says how it came, and who brought it.
pub(crate) fn writing(
    unit: Unit,
    domain: &TrustDomain,
    certificates: &[Certificate],
    before: Option<&str>,
    (source, by): (&'static str, String),
    at: Stamp,
) -> Unit {
    let pem = certificates.iter().map(Certificate::pem).collect();
    let bundle = Bundle { domain: domain.clone(), pem, updated_at: at };
    let event = catalogue::SpiffeBundleSet {
        trust_domain: domain.to_string(),
        certificates: certificates.iter().map(Certificate::thumbprint).collect(),
        source,
        by,
    };
    unit.tell(Event::new(&event)).write(spiffe::put_bundle(&bundle, before)).touch(Touch::Trust)
}

impl Authority {
    /// Every bundle, by trust domain.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn spire_bundles(&self) -> Result<Vec<SpireBundle>, BundleError> {
        Ok(self.stored_bundles().await?.into_iter().map(SpireBundle::from).collect())
    }

    /// The bundle of a trust domain.
    ///
    /// # Errors
    /// When there is none.
    pub async fn spire_bundle(&self, domain: &TrustDomain) -> Result<SpireBundle, BundleError> {
        let stored = self.stored_bundle(domain).await?;
        stored.map(SpireBundle::from).ok_or_else(|| BundleError::NotFound(domain.clone()))
    }

    /// Sets the bundle of a trust domain: PEM, or the JSON document of SPIFFE. It counts when this returns.
    ///
    /// # Errors
    /// What keeps it from being the bundle of this trust domain.
    pub async fn set_spire_bundle(
        self: &Arc<Self>,
        domain: &TrustDomain,
        text: &str,
        operator: &Operator,
    ) -> Result<SpireBundle, BundleError> {
        let certificates = spire_bundle(text)?;
        check(domain, &certificates, &self.trust().own_cas())?;
        let now = self.clock.now();
        if certificates.iter().all(|ca| ca.not_after() < now) {
            return Err(BundleError::Expired);
        }
        for _ in 0..ATTEMPTS {
            let stored = self.stored_bundle(domain).await?;
            let before = stored.as_ref().map(|bundle| bundle.pem.as_str());
            let by = ("operator", operator.fingerprint.clone());
            if self.applied(writing(Unit::default(), domain, &certificates, before, by, now)).await? {
                self.reload_cas().await;
                return Ok(SpireBundle { domain: domain.clone(), certificates, updated_at: now });
            }
        }
        Err(Outage::Contended.into())
    }

    /// Takes away the bundle of a trust domain: none of its SVIDs is accepted when this returns.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove_spire_bundle(
        self: &Arc<Self>,
        domain: &TrustDomain,
        operator: &Operator,
    ) -> Result<(), BundleError> {
        let event = catalogue::SpiffeBundleRemoved {
            trust_domain: domain.to_string(),
            by: operator.fingerprint.clone(),
        };
        let unit = Unit::of(Event::new(&event)).write(spiffe::drop_bundle(domain)).touch(Touch::Trust);
        match self.commit(unit).await {
            Ok(_) => self.reload_cas().await,
            Err(WriteError::Rejected(Rejection::Rows { .. })) => {
                return Err(BundleError::NotFound(domain.clone()));
            }
            Err(error) => return Err(Outage::from(error).into()),
        }
        Ok(())
    }

    /// The bundle of `domain` as it is stored.
    pub(crate) async fn stored_bundle(&self, domain: &TrustDomain) -> Result<Option<Bundle>, Outage> {
        Ok(self.stored_bundles().await?.into_iter().find(|bundle| bundle.domain == *domain))
    }

    async fn stored_bundles(&self) -> Result<Vec<Bundle>, Outage> {
        let database = Arc::clone(self.store.database());
        let read = tokio::task::spawn_blocking(move || spiffe::bundles(&database)).await;
        Ok(read.map_err(Outage::internal)??)
    }
}
