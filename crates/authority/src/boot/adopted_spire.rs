//! The SPIRE bundle of the Python implementation: one text in `proxy_config` for every trust domain
//! (contract `enrollment.md` §5).

use mastio_core::{TrustDomain, sha256};
use mastio_pki::{Certificate, pem, trust_domain_of};
use mastio_store::{Unit, config, keys::CaKind, spiffe};

use super::{Boot, BootError};
use crate::spire;

/// Where the Python implementation keeps it.
const ADOPTED: &str = "spire_trust_bundle";
/// Ours: SHA-256 of the text that was taken over, so that a bundle that was removed since does not come back.
const TAKEN_OVER: &str = "spire_trust_bundle_sha256";

impl Boot<'_> {
    /// Makes bundles of trust domains out of it. A CA goes to the domain that it names. One that names none, as those
    /// of an upstream authority do, goes to every domain that the others name; without any, to those of the agents that
    /// were enrolled with SVIDs; and without those, to our own.
    pub(super) fn adopted_spire_bundle(&self) -> Result<Option<Unit>, BootError> {
        let Some(text) = config::get(self.database, ADOPTED)? else { return Ok(None) };
        let hash = hex::encode(sha256(text.as_bytes()));
        if config::own(self.database, TAKEN_OVER)?.is_some_and(|taken| taken == hash) {
            return Ok(None);
        }
        let certificates = match pem::certificates(&text) {
            Ok(certificates) => certificates,
            Err(error) => {
                tracing::error!(%error, "proxy_config.{ADOPTED} is not taken over; PUT the bundle to /v1/admin/spiffe/bundles");
                return Ok(None);
            }
        };
        let stored = spiffe::bundles(self.database)?;
        let own = self.own_cas()?;
        let mut unit = Unit::default().write(config::put_own(TAKEN_OVER, &hash));
        for domain in self.domains_of(&certificates)? {
            let of_domain = |ca: &&Certificate| trust_domain_of(ca).is_none_or(|named| named == domain);
            let bundle: Vec<_> = certificates.iter().filter(of_domain).cloned().collect();
            if stored.iter().any(|known| known.domain == domain) {
                continue;
            }
            if let Err(error) = spire::check(&domain, &bundle, &own) {
                tracing::error!(%error, trust_domain = %domain, "proxy_config.{ADOPTED} is not taken over for this trust domain");
                continue;
            }
            let by = ("adopted", "boot".to_owned());
            unit = spire::writing(unit, &domain, &bundle, None, by, self.clock.now());
        }
        Ok(Some(unit))
    }

    pub(super) fn own_cas(&self) -> Result<Vec<Certificate>, BootError> {
        let load = |kind| Ok::<_, BootError>(self.custody.load(kind)?.map(|ca| ca.certificate));
        Ok([load(CaKind::Root)?, load(CaKind::Intermediate)?].into_iter().flatten().collect())
    }

    fn domains_of(&self, certificates: &[Certificate]) -> Result<Vec<TrustDomain>, BootError> {
        let mut named: Vec<TrustDomain> = certificates.iter().filter_map(trust_domain_of).collect();
        named.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        named.dedup();
        if named.is_empty() {
            named = spiffe::bound_domains(self.database)?;
        }
        if named.is_empty() {
            named.push(self.settings.trust_domain.clone());
        }
        Ok(named)
    }
}
