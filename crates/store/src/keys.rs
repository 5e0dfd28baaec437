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
    /// Since when we have it.
    pub created_at: Stamp,
    /// Since when it signs, or signed.
    pub activated_at: Option<Stamp>,
    /// Since when another does.
    pub deprecated_at: Option<Stamp>,
}

/// All signing keys, the newest first.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn signing_keys(database: &Database) -> Result<Vec<SigningKeyRow>, ReadError> {
    let sql = "SELECT kid, pubkey_pem, privkey_pem, cert_pem, created_at, activated_at, deprecated_at, expires_at \
        FROM mastio_keys ORDER BY created_at DESC, kid";
    let rows = database.rows_now(&Query::new("mastio_keys", sql, vec![]))?;
    let read = |row: &Row| {
        Ok(SigningKeyRow {
            kid: Kid::from_text(row.text("kid")?),
            public_pem: row.text("pubkey_pem")?.to_owned(),
            private: row.text("privkey_pem")?.into(),
            certificate: row.text_or_null("cert_pem")?.map(str::to_owned),
            state: KeyState::read(row)?,
            created_at: row.stamp("created_at")?,
            activated_at: row.stamp_or_null("activated_at")?,
            deprecated_at: row.stamp_or_null("deprecated_at")?,
        })
    };
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// The active signing key leaves its place: what it signed is accepted until `until`, and it signs nothing more, so its
/// private key is wiped.
#[must_use]
pub fn deprecate_signing_key(kid: &Kid, at: Stamp, until: Stamp) -> Statement {
    Statement::one(
        "UPDATE mastio_keys SET deprecated_at = ?2, expires_at = ?3, privkey_pem = '' \
         WHERE kid = ?1 AND activated_at IS NOT NULL AND deprecated_at IS NULL",
        vec![kid.into(), at.into(), until.into()],
    )
}

/// A guard: rejects its unit while a signing key is active or staged. [`deprecate_signing_key`] first.
#[must_use]
pub fn no_signing_key_in_place() -> Statement {
    Statement::none("UPDATE mastio_keys SET kid = kid WHERE deprecated_at IS NULL", vec![])
}

/// The staged signing key becomes the active one. [`deprecate_signing_key`] first.
#[must_use]
pub fn activate_signing_key(kid: &Kid, at: Stamp) -> Statement {
    Statement::one(
        "UPDATE mastio_keys SET activated_at = ?2 WHERE kid = ?1 AND activated_at IS NULL AND NOT EXISTS \
         (SELECT 1 FROM mastio_keys WHERE activated_at IS NOT NULL AND deprecated_at IS NULL)",
        vec![kid.into(), at.into()],
    )
}

/// A staged signing key never was one.
#[must_use]
pub fn drop_signing_key(kid: &Kid) -> Statement {
    Statement::one("DELETE FROM mastio_keys WHERE kid = ?1 AND activated_at IS NULL", vec![kid.into()])
}

/// No staged key is left: after a compromise none of them is to be put in place.
#[must_use]
pub fn drop_staged_signing_keys() -> Statement {
    Statement::any("DELETE FROM mastio_keys WHERE activated_at IS NULL", vec![])
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

/// Nothing that replaced keys signed is accepted after `at`.
#[must_use]
pub fn end_grace(at: Stamp) -> Statement {
    Statement::any(
        "UPDATE mastio_keys SET expires_at = ?1 \
         WHERE deprecated_at IS NOT NULL AND (expires_at IS NULL OR expires_at > ?1)",
        vec![at.into()],
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

    pub(crate) fn parse(word: &str) -> Result<Self, &'static str> {
        [Self::Root, Self::Intermediate]
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or("is no kind of CA")
    }
}

/// The active sealed key of `kind` is replaced: it is wiped, its certificate stays.
#[must_use]
pub fn deprecate_sealed_ca(kind: CaKind, at: Stamp) -> Statement {
    Statement::any(
        "UPDATE pki_key_store SET deprecated_at = ?2, expires_at = ?2, ciphertext = '' \
         WHERE key_type = ?1 AND activated_at IS NOT NULL AND deprecated_at IS NULL",
        vec![kind.as_str().into(), at.into()],
    )
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

/// A sealed CA key, active at once: a new one, or one that was here before.
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
         VALUES (?1, ?2, ?3, ?4, ?5, ?5) \
         ON CONFLICT (key_id) DO UPDATE SET ciphertext = excluded.ciphertext, cert_pem = excluded.cert_pem, \
             activated_at = excluded.activated_at, deprecated_at = NULL, expires_at = NULL \
             WHERE pki_key_store.deprecated_at IS NOT NULL",
        vec![
            key_id.into(),
            kind.as_str().into(),
            envelope.expose_secret().into(),
            certificate.into(),
            at.into(),
        ],
    )
}

/// Wipes the CA keys that the existing system parked readable when it began to seal them, if it did: they are of CAs
/// that are replaced.
///
/// # Errors
/// When the database cannot be read.
pub fn wipe_parked(database: &Database) -> Result<Option<Statement>, ReadError> {
    const TABLE: &str = "legacy_pki_archive";
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    let found = database.rows_now(&Query::new(TABLE, sql, vec![TABLE.into()]))?;
    let wipe = "UPDATE legacy_pki_archive SET legacy_pem = '' WHERE legacy_pem <> ''";
    Ok((!found.is_empty()).then(|| Statement::any(wipe, vec![])))
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
    /// A row of `pki_cas`.
    Ca {
        /// The thumbprint.
        thumbprint: String,
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
            Self::Ca { thumbprint, .. } => thumbprint,
            Self::Log { origin, .. } => origin,
        }
    }

    /// The PEM.
    #[must_use]
    pub fn pem(&self) -> &SecretString {
        match self {
            Self::Config { pem, .. }
            | Self::Signing { pem, .. }
            | Self::Ca { pem, .. }
            | Self::Log { pem, .. } => pem,
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
            Self::Ca { .. } => Statement::one(
                "UPDATE pki_cas SET private_key = ?2 WHERE thumbprint = ?1 AND private_key = ?3",
                values,
            ),
            Self::Log { .. } => Statement::one(
                "UPDATE audit_origins SET log_key = ?2 WHERE origin = ?1 AND log_key = ?3",
                values,
            ),
        }
    }
}

/// Every private key that lies readable in the database.
///
/// # Errors
/// When the database cannot be read.
pub fn bare(database: &Database) -> Result<Vec<BareKey>, ReadError> {
    const READABLE: &str = "LIKE '-----BEGIN%'";
    let in_config = format!(
        "SELECT \"key\" AS name, value AS pem FROM proxy_config \
         WHERE (\"key\" IN ('org_ca_key', 'mastio_ca_key') OR \"key\" LIKE 'agent_key:%') AND value {READABLE}"
    );
    let column =
        |table, name, pem| format!("SELECT {name} AS name, {pem} AS pem FROM {table} WHERE {pem} {READABLE}");
    let mut found = Vec::new();
    let mut look = |table, sql: String, bare: fn(String, SecretString) -> BareKey| {
        for row in database.rows_now(&Query { table, sql: sql.into(), values: vec![] })? {
            found.push(bare(row.text("name")?.to_owned(), row.text("pem")?.into()));
        }
        Ok::<_, ReadError>(())
    };
    look("proxy_config", in_config, |key, pem| BareKey::Config { key, pem })?;
    look("mastio_keys", column("mastio_keys", "kid", "privkey_pem"), |kid, pem| BareKey::Signing {
        kid,
        pem,
    })?;
    look("pki_cas", column("pki_cas", "thumbprint", "private_key"), |thumbprint, pem| BareKey::Ca {
        thumbprint,
        pem,
    })?;
    look("audit_origins", column("audit_origins", "origin", "log_key"), |origin, pem| BareKey::Log {
        origin,
        pem,
    })?;
    Ok(found)
}
