//! Keys in the database: readable PEM without a passphrase, envelopes with one.

use std::sync::Arc;

use mastio_core::{Clock, Rng, Stamp};
use mastio_pki::{Certificate, KeyPair, spki_short_id};
use mastio_store::{
    Statement, config,
    keys::{self, BareKey, CaKind, KeyState},
    sqlite::Database,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    CaKey, Custody, CustodyError,
    envelope::{self, EnvelopeKey},
};

/// The names in `proxy_config` under which a CA lies (contract `pki.md` §3).
const fn rows(kind: CaKind) -> (&'static str, &'static str) {
    match kind {
        CaKind::Root => ("org_ca_key", "org_ca_cert"),
        CaKind::Intermediate => ("mastio_ca_key", "mastio_ca_cert"),
    }
}

/// The provider `local`, also called `filesystem`.
pub struct Local {
    database: Arc<Database>,
    seal: Option<EnvelopeKey>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("sealed", &self.seal.is_some()).finish_non_exhaustive()
    }
}

impl Local {
    /// Keys of `database`; with a passphrase they are sealed. Deriving the key takes a few hundred milliseconds.
    #[must_use]
    pub fn new(
        database: Arc<Database>,
        passphrase: Option<&SecretString>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Self {
        Self { database, seal: passphrase.map(EnvelopeKey::derive), clock, rng }
    }

    /// Key PEM and certificate PEM out of what is stored: an envelope or PEM.
    fn open(
        &self,
        what: &str,
        stored: &SecretString,
    ) -> Result<(SecretString, Option<String>), CustodyError> {
        if !stored.expose_secret().starts_with(envelope::PREFIX) {
            return Ok((stored.clone(), None));
        }
        let seal = self.seal.as_ref().ok_or_else(|| CustodyError::NoPassphrase { what: what.to_owned() })?;
        let (key, certificate) =
            seal.open(stored).map_err(|_| CustodyError::WrongPassphrase { what: what.to_owned() })?;
        Ok((key, Some(certificate).filter(|certificate| !certificate.is_empty())))
    }

    fn seal(&self, what: &str, key: &SecretString, certificate: &str) -> Result<SecretString, CustodyError> {
        match &self.seal {
            None => Ok(key.clone()),
            Some(seal) => seal
                .seal(key, certificate, self.clock.now(), self.rng.as_ref())
                .map_err(|error| unusable(what, error)),
        }
    }

    /// What puts a CA where it is looked for.
    fn place(
        &self,
        kind: CaKind,
        ca: &CaKey,
        at: Stamp,
        put: fn(&str, &str) -> Statement,
    ) -> Result<Vec<Statement>, CustodyError> {
        let (key_row, certificate_row) = rows(kind);
        let certificate = ca.certificate.pem();
        let stored = self.seal(key_row, &ca.key.to_pkcs8_pem(), &certificate)?;
        let mut statements = vec![put(key_row, stored.expose_secret()), put(certificate_row, &certificate)];
        if self.is_sealed() {
            let id = key_id(kind, &ca.certificate);
            statements.push(keys::insert_sealed_ca(&id, kind, &stored, &certificate, at));
        }
        Ok(statements)
    }

    /// The certificate that lies beside a CA key.
    fn certificate_beside(&self, key_row: &str) -> Result<Option<String>, CustodyError> {
        let kinds = [CaKind::Root, CaKind::Intermediate];
        let beside = kinds.into_iter().map(rows).find(|(key, _)| *key == key_row);
        Ok(beside.map(|(_, certificate)| config::get(&self.database, certificate)).transpose()?.flatten())
    }

    fn load_from_store(&self, kind: CaKind) -> Result<Option<CaKey>, CustodyError> {
        let mut active = keys::sealed_cas(&self.database, kind)?;
        active.retain(|row| row.state == KeyState::Active);
        match active.as_slice() {
            [] => Ok(None),
            [row] => {
                let what = format!("the {} in pki_key_store", kind.as_str());
                let (key, _) = self.open(&what, &row.envelope)?;
                pair(&what, &key, &row.certificate).map(Some)
            }
            several => Err(CustodyError::Ambiguous { kind: kind.as_str(), count: several.len() }),
        }
    }

    fn load_from_rows(&self, kind: CaKind) -> Result<Option<CaKey>, CustodyError> {
        let (key_row, certificate_row) = rows(kind);
        let what = format!("proxy_config.{key_row}");
        let certificate = config::get(&self.database, certificate_row)?;
        let Some(stored) = config::get(&self.database, key_row)?.map(SecretString::from) else {
            return match certificate {
                Some(_) => Err(CustodyError::Incomplete {
                    what: format!("proxy_config.{certificate_row}"),
                    missing: key_row,
                }),
                None => Ok(None),
            };
        };
        let (key, sealed_with) = self.open(&what, &stored)?;
        let certificate = certificate
            .or(sealed_with)
            .ok_or(CustodyError::Incomplete { what: what.clone(), missing: certificate_row })?;
        pair(&what, &key, &certificate).map(Some)
    }
}

impl Custody for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn is_sealed(&self) -> bool {
        self.seal.is_some()
    }

    fn load(&self, kind: CaKind) -> Result<Option<CaKey>, CustodyError> {
        match self.load_from_store(kind)? {
            Some(ca) => Ok(Some(ca)),
            None => self.load_from_rows(kind),
        }
    }

    fn keep(&self, kind: CaKind, ca: &CaKey, at: Stamp) -> Result<Vec<Statement>, CustodyError> {
        self.place(kind, ca, at, config::put_new)
    }

    fn replace(&self, kind: CaKind, next: &CaKey, at: Stamp) -> Result<Vec<Statement>, CustodyError> {
        let mut statements = vec![keys::deprecate_sealed_ca(kind, at)];
        statements.extend(self.place(kind, next, at, config::put)?);
        Ok(statements)
    }

    fn wrap(&self, what: &str, secret: &SecretString) -> Result<SecretString, CustodyError> {
        self.seal(what, secret, "")
    }

    fn unwrap(&self, what: &str, stored: &SecretString) -> Result<SecretString, CustodyError> {
        Ok(self.open(what, stored)?.0)
    }

    fn seal_bare(&self) -> Result<Vec<Statement>, CustodyError> {
        if !self.is_sealed() {
            return Ok(vec![]);
        }
        let mut statements = Vec::new();
        for bare in keys::bare(&self.database)? {
            let certificate = match &bare {
                BareKey::Config { key, .. } => self.certificate_beside(key)?,
                BareKey::Signing { .. } | BareKey::Ca { .. } | BareKey::Log { .. } => None,
            };
            let sealed = self.seal(bare.name(), bare.pem(), certificate.as_deref().unwrap_or_default())?;
            statements.push(bare.replace(&sealed));
        }
        Ok(statements)
    }
}

/// `pki_key_store.key_id` (contract `pki.md` §1).
fn key_id(kind: CaKind, certificate: &Certificate) -> String {
    let id = spki_short_id(certificate.spki_der());
    match kind {
        CaKind::Root => id,
        CaKind::Intermediate => format!("intermediate-{id}"),
    }
}

/// A certificate and a key that belong together.
fn pair(what: &str, key: &SecretString, certificate: &str) -> Result<CaKey, CustodyError> {
    let certificate = Certificate::from_pem(certificate).map_err(|error| unusable(what, error))?;
    let key = KeyPair::from_pem(key.expose_secret()).map_err(|error| unusable(what, error))?;
    if !key.matches(&certificate) {
        return Err(unusable(what, "its certificate belongs to another key"));
    }
    Ok(CaKey { certificate, key })
}

fn unusable(what: &str, problem: impl ToString) -> CustodyError {
    CustodyError::Unusable { what: what.to_owned(), problem: problem.to_string() }
}
