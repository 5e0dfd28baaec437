//! Entering into the registry what it does not know: the first CAs, and those of an adopted database.

use mastio_core::Thumbprint;
use mastio_pki::Certificate;
use mastio_store::{
    Unit,
    cas::{self, CaRow, CaState, NewCa},
    keys::{self, CaKind, KeyState},
};

use super::{Boot, BootError};

impl Boot<'_> {
    /// The active CAs, and those that an adopted database keeps as deprecated.
    ///
    /// # Errors
    /// When custody has another active CA than the registry: somebody changed one of the two by hand.
    pub(super) fn unregistered(&self) -> Result<Option<Unit>, BootError> {
        let registry = cas::all(self.database)?;
        let mut unit = Unit::default();
        for kind in [CaKind::Root, CaKind::Intermediate] {
            let Some(active) = self.custody.load(kind)? else { continue };
            self.enter(&mut unit, &registry, kind, CaState::Active, &active.certificate)?;
            for row in keys::sealed_cas(self.database, kind)? {
                match (row.state, Certificate::from_pem(&row.certificate)) {
                    (KeyState::Grace(_), Ok(old)) if old != active.certificate => {
                        self.enter(&mut unit, &registry, kind, CaState::Superseded, &old)?;
                    }
                    _ => {}
                }
            }
        }
        Ok((!unit.statements.is_empty()).then_some(unit))
    }

    fn enter(
        &self,
        unit: &mut Unit,
        registry: &[CaRow],
        kind: CaKind,
        state: CaState,
        certificate: &Certificate,
    ) -> Result<(), BootError> {
        let thumbprint = certificate.thumbprint();
        let active = |row: &&CaRow| (row.kind, row.state) == (kind, CaState::Active);
        if state == CaState::Active
            && let Some(known) = registry.iter().find(active)
            && known.thumbprint != thumbprint
        {
            return Err(BootError::OtherCa {
                kind: kind.as_str(),
                registry: known.thumbprint,
                custody: thumbprint,
            });
        }
        if registry.iter().any(|row| row.thumbprint == thumbprint) {
            return Ok(());
        }
        let ca = NewCa {
            thumbprint,
            spki: Thumbprint::of(certificate.spki_der()),
            kind,
            certificate: &certificate.pem(),
            private: None,
        };
        unit.statements.push(ca.enter(state, self.clock.now()));
        Ok(())
    }
}
