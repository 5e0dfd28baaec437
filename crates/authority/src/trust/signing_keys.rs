//! The keys that sign tokens, and those whose tokens are still accepted.

use std::{collections::HashMap, sync::Arc};

use mastio_core::{Kid, Stamp};
use mastio_custody::Custody;
use mastio_jose::{Jwk, SigningKey, VerifyingKey};
use mastio_pki::{Certificate, KeyPair};
use mastio_store::{
    keys::{self, KeyState, SigningKeyRow},
    sqlite::Database,
};
use secrecy::ExposeSecret;

use super::{Signer, TrustError, unusable};

#[derive(Default)]
pub(super) struct SigningKeys {
    pub(super) active: Option<Arc<Signer>>,
    pub(super) leaf: Option<Certificate>,
    pub(super) staged: Option<Kid>,
    pub(super) verifiers: HashMap<String, (VerifyingKey, Option<Stamp>)>,
    pub(super) published: Vec<(Kid, Jwk)>,
}

impl SigningKeys {
    pub(super) fn load(database: &Database, custody: &dyn Custody, now: Stamp) -> Result<Self, TrustError> {
        let mut keys = Self::default();
        let mut active = 0;
        for row in keys::signing_keys(database)? {
            match row.state {
                KeyState::Staged => keys.staged = Some(row.kid),
                KeyState::Active => {
                    active += 1;
                    keys.accept(&row, None)?;
                    keys.leaf = row.certificate.as_deref().and_then(|pem| Certificate::from_pem(pem).ok());
                    keys.active = Some(Arc::new(signer(custody, row)?));
                }
                KeyState::Grace(Some(until)) if until > now => keys.accept(&row, Some(until))?,
                KeyState::Grace(Some(_)) => {}
                KeyState::Grace(None) => keys.accept(&row, None)?,
            }
        }
        if active > 1 {
            return Err(TrustError::SigningKeys(active));
        }
        Ok(keys)
    }

    fn accept(&mut self, row: &SigningKeyRow, until: Option<Stamp>) -> Result<(), TrustError> {
        let what = || format!("signing key {}", row.kid);
        let public =
            mastio_pki::PublicKey::from_pem(&row.public_pem).map_err(|error| unusable(&what(), error))?;
        let jwk = Jwk::from_spki_der(public.spki_der()).map_err(|error| unusable(&what(), error))?;
        self.verifiers.insert(row.kid.as_str().to_owned(), (jwk.verifying_key(), until));
        self.published.push((row.kid.clone(), jwk));
        Ok(())
    }
}

/// The key of a row with its private half.
pub(crate) fn signer(custody: &dyn Custody, row: SigningKeyRow) -> Result<Signer, TrustError> {
    let what = format!("signing key {}", row.kid);
    let pem = custody.unwrap(&what, &row.private)?;
    let pair = KeyPair::from_pem(pem.expose_secret()).map_err(|error| unusable(&what, error))?;
    let key = SigningKey::from_pkcs8_der(&pair.to_pkcs8_der()).map_err(|error| unusable(&what, error))?;
    if key.kid() != row.kid {
        return Err(unusable(&what, "its private key has another kid"));
    }
    Ok(Signer { kid: row.kid, key })
}
