//! Making what is missing: root, intermediate, signing key.

use mastio_core::{Event, OrgId, event::catalogue};
use mastio_custody::CaKey;
use mastio_pki::{Issuer, KeyPair, profile};
use mastio_store::{
    Unit, config,
    keys::{self, CaKind},
};

use super::{
    Boot, BootError, mint,
    root::{FirstRoot, Root},
};
use crate::fresh::Maker;

impl Boot<'_> {
    /// Root, intermediate and signing key, as far as they are missing, in one unit.
    pub(super) fn missing(&self, org: &OrgId, root: Root) -> Result<Option<Unit>, BootError> {
        let mut unit = Unit::default();
        let root = match root {
            Root::Stored(root) => root,
            Root::First(first) => self.add_root(&mut unit, org, first)?,
        };
        if config::get(self.database, "org_id")?.is_none() {
            unit.statements.push(config::put_new("org_id", org.as_str()));
        }
        let stored_issuer = self.custody.load(CaKind::Intermediate)?;
        let has_signing_key = !keys::signing_keys(self.database)?.is_empty();
        if stored_issuer.is_none() || !has_signing_key {
            let issuer = match stored_issuer {
                Some(ca) => Issuer::new(ca.certificate, ca.key).map_err(mint)?,
                None => self.add_intermediate(&mut unit, org, root)?,
            };
            if !has_signing_key {
                self.add_signing_key(&mut unit, org, &issuer)?;
            }
        }
        Ok((!unit.statements.is_empty()).then_some(unit))
    }

    fn add_root(&self, unit: &mut Unit, org: &OrgId, first: FirstRoot) -> Result<CaKey, BootError> {
        let now = self.clock.now();
        let FirstRoot { key, imported } = first;
        let (certificate, event) = match imported {
            Some((certificate, source)) => {
                let event = Event::new(&catalogue::RootImported {
                    org_id: org.to_string(),
                    fingerprint_sha256: certificate.thumbprint(),
                    not_after: certificate.not_after(),
                    source: source.display().to_string(),
                });
                (certificate, event)
            }
            None => {
                let certificate = profile::root(org, &key, now, self.rng).map_err(mint)?;
                let event = Event::new(&catalogue::RootMinted {
                    org_id: org.to_string(),
                    fingerprint_sha256: certificate.thumbprint(),
                    not_after: certificate.not_after(),
                });
                (certificate, event)
            }
        };
        let root = CaKey { certificate, key };
        unit.statements.extend(self.custody.keep(CaKind::Root, &root, now)?);
        unit.events.push(event);
        Ok(root)
    }

    fn add_intermediate(
        &self,
        unit: &mut Unit,
        org: &OrgId,
        root: CaKey,
    ) -> Result<Issuer<KeyPair>, BootError> {
        let root = Issuer::new(root.certificate, root.key).map_err(mint)?;
        let (ca, event) = self.maker(org).intermediate(&root).map_err(mint)?;
        unit.statements.extend(self.custody.keep(CaKind::Intermediate, &ca, self.clock.now())?);
        unit.events.push(event);
        Issuer::new(ca.certificate, ca.key).map_err(mint)
    }

    fn add_signing_key(
        &self,
        unit: &mut Unit,
        org: &OrgId,
        issuer: &Issuer<KeyPair>,
    ) -> Result<(), BootError> {
        let fresh = self.maker(org).signing_key(issuer).map_err(mint)?;
        unit.statements.push(fresh.insert(self.clock.now()));
        unit.events.push(fresh.event());
        Ok(())
    }

    fn maker<'a>(&'a self, org: &'a OrgId) -> Maker<'a> {
        Maker {
            org,
            domain: &self.settings.trust_domain,
            custody: self.custody,
            now: self.clock.now(),
            rng: self.rng,
        }
    }
}
