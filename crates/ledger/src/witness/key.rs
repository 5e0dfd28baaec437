//! The key with which this Mastio cosigns other logs' checkpoints: its own, so that a witness is not mistaken for a log.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_audit::note::{KeyKind, Name, NoteError, NoteSigner};
use mastio_authority::Outage;
use mastio_config::Settings;
use mastio_core::{Event, OrgId, Rng, event::catalogue};
use mastio_custody::{Custody, CustodyError};
use mastio_store::{ReadError, Unit, WriteError, config, sqlite::Database};
use secrecy::{ExposeSecret, SecretString};

use crate::Ledger;

/// Under which of our own names the key lies.
const KEY_NAME: &str = "audit_witness_key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be stored.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// It does not open.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// It is none.
    #[error(
        "the witness key in cullis_config.{KEY_NAME} cannot be used: {0}; restore the database from a backup"
    )]
    Unusable(String),
}

impl From<NoteError> for KeyError {
    fn from(error: NoteError) -> Self {
        Self::Unusable(error.to_string())
    }
}

impl From<KeyError> for Outage {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Read(error) => error.into(),
            KeyError::Write(error) => error.into(),
            KeyError::Custody(_) | KeyError::Unusable(_) => Self::internal(error),
        }
    }
}

/// The stored form, before sealing.
#[derive(serde::Serialize, serde::Deserialize)]
struct StoredKey {
    name: String,
    /// PKCS#8 DER in base64.
    key: String,
}

/// The stored key, if there is one. A name in the settings wins over the one that it was made under.
///
/// # Errors
/// When it cannot be read. One that does not open is never replaced.
pub fn find(
    database: &Database,
    custody: &dyn Custody,
    settings: &Settings,
) -> Result<Option<NoteSigner>, KeyError> {
    let Some(sealed) = config::own(database, KEY_NAME)? else { return Ok(None) };
    let text = custody.unwrap(KEY_NAME, &sealed.into())?;
    let unusable = |error: &dyn std::fmt::Display| KeyError::Unusable(error.to_string());
    let stored: StoredKey = serde_json::from_str(text.expose_secret()).map_err(|error| unusable(&error))?;
    let der = zeroize::Zeroizing::new(STANDARD.decode(&stored.key).map_err(|error| unusable(&error))?);
    let name = settings.audit.witnessing.name.clone().map_or_else(|| Name::parse(&stored.name), Ok)?;
    Ok(Some(NoteSigner::from_pkcs8(KeyKind::Witness, name, &der)?))
}

/// A new key, and the unit that keeps it. It is rejected when there is one: [`find`] it then.
///
/// # Errors
/// When it cannot be made or sealed.
pub fn fresh(
    custody: &dyn Custody,
    rng: &dyn Rng,
    settings: &Settings,
    org: &OrgId,
) -> Result<(NoteSigner, Unit), KeyError> {
    let signer = NoteSigner::generate(KeyKind::Witness, name(settings, org)?, rng)?;
    let key = StoredKey {
        name: signer.key().name().to_string(),
        key: STANDARD.encode(signer.to_pkcs8()?.as_slice()),
    };
    let text: SecretString = serde_json::to_string(&key).unwrap_or_default().into();
    let sealed = custody.wrap(KEY_NAME, &text)?;
    let event = Event::new(&catalogue::WitnessKeyMinted { vkey: signer.key().to_string() });
    let unit = Unit::of(event).write(config::put_own_new(KEY_NAME, sealed.expose_secret()));
    Ok((signer, unit))
}

/// The name that a new key gets.
fn name(settings: &Settings, org: &OrgId) -> Result<Name, NoteError> {
    if let Some(name) = &settings.audit.witnessing.name {
        return Ok(name.clone());
    }
    let at = settings.public_url.as_ref().and_then(|url| {
        let host = url.host_str()?;
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    });
    Name::parse(&format!("{}/witness", at.unwrap_or_else(|| org.to_string())))
}

impl Ledger {
    /// The key with which we cosign, made when it is needed first.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub async fn witness_key(&self) -> Result<Arc<NoteSigner>, Outage> {
        Ok(Arc::clone(self.log.witness.key.get_or_try_init(|| self.load_witness_key()).await?))
    }

    async fn load_witness_key(&self) -> Result<Arc<NoteSigner>, KeyError> {
        let authority = &self.authority;
        let (database, settings) = (authority.store().database(), &authority.settings);
        let find = || find(database, authority.custody().as_ref(), settings);
        if let Some(signer) = find()? {
            return Ok(Arc::new(signer));
        }
        let org = authority.trust().org.clone();
        let (signer, unit) = fresh(authority.custody().as_ref(), authority.rng().as_ref(), settings, &org)?;
        match authority.commit(unit).await {
            Ok(_) => Ok(Arc::new(signer)),
            // A tool beside us was faster.
            Err(error @ WriteError::Rejected(_)) => find()?.map(Arc::new).ok_or(error.into()),
            Err(error) => Err(error.into()),
        }
    }
}
