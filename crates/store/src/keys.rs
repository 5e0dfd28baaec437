//! Key rows: `mastio_keys` (who signs tokens) and `pki_key_store` (sealed CA keys).

use mastio_core::{Kid, Stamp};
use secrecy::{ExposeSecret, SecretString};

use crate::{Query, ReadError, Row, RowError, Statement, sqlite::Database};

/// Where a key is in its life. Exactly one signing key is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Made, but not in use: a rotation was interrupted.
    Staged,
    /// Signs.
    Active,
    /// Replaced; what it signed is accepted until then, for ever when `None`.
    Grace(Option<Stamp>),
}

impl KeyState {
    fn read(row: &Row) -> Result<Self, RowError> {
        let activated = row.stamp_or_null("activated_at")?;
        let deprecated = row.stamp_or_null("deprecated_at")?;
        Ok(match (activated, deprecated) {
            (None, _) => Self::Staged,
            (Some(_), None) => Self::Active,
            (Some(_), Some(_)) => Self::Grace(row.stamp_or_null("expires_at")?),
        })
    }
}

/// A row of `mastio_keys`.
#[derive(Debug)]
pub struct SigningKeyRow {
    /// Its name in tokens.
    pub kid: Kid,
    /// The public key.
    pub public_pem: String,
    /// The private key: PEM, or an envelope that custody opens.
    pub private: SecretString,
    /// Its certificate.
    pub certificate: Option<String>,
    /// Where it is in its life.
    pub state: KeyState,
}

/// All signing keys.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn signing_keys(database: &Database) -> Result<Vec<SigningKeyRow>, ReadError> {
    let sql = "SELECT kid, pubkey_pem, privkey_pem, cert_pem, activated_at, deprecated_at, expires_at FROM mastio_keys";
    let rows = database.rows_now(&Query::new("mastio_keys", sql, vec![]))?;
    let read = |row: &Row| {
        Ok(SigningKeyRow {
            kid: Kid::from_text(row.text("kid")?),
            public_pem: row.text("pubkey_pem")?.to_owned(),
            private: row.text("privkey_pem")?.into(),
            certificate: row.text_or_null("cert_pem")?.map(str::to_owned),
            state: KeyState::read(row)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// A new signing key, active at once.
#[must_use]
pub fn insert_signing_key(
    kid: &Kid,
    public_pem: &str,
    private: &SecretString,
    certificate: &str,
    at: Stamp,
) -> Statement {
    Statement::one(
        "INSERT INTO mastio_keys (kid, pubkey_pem, privkey_pem, cert_pem, created_at, activated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        vec![kid.into(), public_pem.into(), private.expose_secret().into(), certificate.into(), at.into()],
    )
}

/// Which CA a sealed key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaKind {
    /// The root.
    Root,
    /// What issues below it.
    Intermediate,
}

impl CaKind {
    /// The word in the column `key_type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "org_ca",
            Self::Intermediate => "intermediate_ca",
        }
    }
}

/// A row of `pki_key_store`.
#[derive(Debug)]
pub struct SealedCaRow {
    /// `enc:pki:v1:…`.
    pub envelope: SecretString,
    /// The certificate.
    pub certificate: String,
    /// Where it is in its life.
    pub state: KeyState,
}

/// The sealed keys of `kind`.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn sealed_cas(database: &Database, kind: CaKind) -> Result<Vec<SealedCaRow>, ReadError> {
    let sql = "SELECT key_id, ciphertext, cert_pem, activated_at, deprecated_at, expires_at \
               FROM pki_key_store WHERE key_type = ?1 ORDER BY created_at";
    let rows = database.rows_now(&Query::new("pki_key_store", sql, vec![kind.as_str().into()]))?;
    let read = |row: &Row| {
        Ok(SealedCaRow {
            envelope: row.text("ciphertext")?.into(),
            certificate: row.text("cert_pem")?.to_owned(),
            state: KeyState::read(row)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// A new sealed CA key, active at once.
#[must_use]
pub fn insert_sealed_ca(
    key_id: &str,
    kind: CaKind,
    envelope: &SecretString,
    certificate: &str,
    at: Stamp,
) -> Statement {
    Statement::one(
        "INSERT INTO pki_key_store (key_id, key_type, ciphertext, cert_pem, created_at, activated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        vec![
            key_id.into(),
            kind.as_str().into(),
            envelope.expose_secret().into(),
            certificate.into(),
            at.into(),
        ],
    )
}

/// A private key that lies readable in the database.
#[derive(Debug)]
pub enum BareKey {
    /// A row of `proxy_config`: a CA key or an escrowed agent key.
    Config {
        /// Its key.
        key: String,
        /// The PEM.
        pem: SecretString,
    },
    /// A row of `mastio_keys`.
    Signing {
        /// Its kid.
        kid: String,
        /// The PEM.
        pem: SecretString,
    },
    /// A row of `audit_origins`.
    Log {
        /// The origin.
        origin: String,
        /// The PEM.
        pem: SecretString,
    },
}

impl BareKey {
    /// Where it lies.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Config { key, .. } => key,
            Self::Signing { kid, .. } => kid,
            Self::Log { origin, .. } => origin,
        }
    }

    /// The PEM.
    #[must_use]
    pub fn pem(&self) -> &SecretString {
        match self {
            Self::Config { pem, .. } | Self::Signing { pem, .. } | Self::Log { pem, .. } => pem,
        }
    }

    /// Puts `sealed` in its place, if it is still there.
    #[must_use]
    pub fn replace(&self, sealed: &SecretString) -> Statement {
        let values =
            vec![self.name().into(), sealed.expose_secret().into(), self.pem().expose_secret().into()];
        match self {
            Self::Config { .. } => {
                Statement::one("UPDATE proxy_config SET value = ?2 WHERE \"key\" = ?1 AND value = ?3", values)
            }
            Self::Signing { .. } => Statement::one(
                "UPDATE mastio_keys SET privkey_pem = ?2 WHERE kid = ?1 AND privkey_pem = ?3",
                values,
            ),
            Self::Log { .. } => Statement::one(
                "UPDATE audit_origins SET log_key = ?2 WHERE origin = ?1 AND log_key = ?3",
                values,
            ),
        }
    }
}

/// Every private key that lies readable in `proxy_config`, `mastio_keys` or `audit_origins`.
///
/// # Errors
/// When the database cannot be read.
pub fn bare(database: &Database) -> Result<Vec<BareKey>, ReadError> {
    let in_config = "SELECT \"key\" AS name, value AS pem FROM proxy_config \
        WHERE (\"key\" IN ('org_ca_key', 'mastio_ca_key') OR \"key\" LIKE 'agent_key:%') AND value LIKE '-----BEGIN%'";
    let signing =
        "SELECT kid AS name, privkey_pem AS pem FROM mastio_keys WHERE privkey_pem LIKE '-----BEGIN%'";
    let log = "SELECT origin AS name, log_key AS pem FROM audit_origins WHERE log_key LIKE '-----BEGIN%'";
    let rows = |table, sql| database.rows_now(&Query::new(table, sql, vec![]));
    let read = |row: &Row| Ok((row.text("name")?.to_owned(), row.text("pem")?.into()));
    let mut found = Vec::new();
    for row in rows("proxy_config", in_config)? {
        let (key, pem) = read(&row).map_err(|error: RowError| error)?;
        found.push(BareKey::Config { key, pem });
    }
    for row in rows("mastio_keys", signing)? {
        let (kid, pem) = read(&row).map_err(|error: RowError| error)?;
        found.push(BareKey::Signing { kid, pem });
    }
    for row in rows("audit_origins", log)? {
        let (origin, pem) = read(&row).map_err(|error: RowError| error)?;
        found.push(BareKey::Log { origin, pem });
    }
    Ok(found)
}
