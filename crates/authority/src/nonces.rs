//! The keys that make DPoP nonces: stored sealed, so that nonces outlive a restart, and replaced once a day
//! (design decision 12).

use mastio_core::{Rng, Stamp};
use mastio_custody::{Custody, CustodyError};
use mastio_jose::{NonceKey, NonceRing};
use mastio_store::{ReadError, Unit, config, sqlite::Database};
use secrecy::{ExposeSecret, SecretString};

use crate::{Authority, Outage};

/// Why the stored keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NonceError {
    /// The database.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They do not open.
    #[error(transparent)]
    Custody(#[from] CustodyError),
}

/// The nonce keys as they are stored, and what must be written for them to be.
pub(crate) struct LoadedRing {
    pub(crate) ring: NonceRing,
    pub(crate) made_at: Stamp,
    pub(crate) write: Option<Unit>,
}

/// Under which of our own names the nonce keys lie.
const RING_NAME: &str = "dpop_nonce_keys";

/// The stored form, before sealing.
#[derive(serde::Serialize, serde::Deserialize)]
struct StoredRing {
    current: String,
    previous: Option<String>,
    /// Seconds since the epoch.
    made_at: i64,
}

impl StoredRing {
    fn open(&self) -> Option<NonceRing> {
        let key = |text: &String| {
            let mut raw = [0; 32];
            hex::decode_to_slice(text, &mut raw).ok()?;
            Some(NonceKey::from_bytes(raw))
        };
        let previous = self.previous.as_ref().map(key);
        Some(NonceRing { current: key(&self.current)?, previous: previous.flatten() })
    }

    fn of(ring: &NonceRing, made_at: Stamp) -> Self {
        Self {
            current: hex::encode(ring.current.expose()),
            previous: ring.previous.as_ref().map(|key| hex::encode(key.expose())),
            made_at: made_at.unix(),
        }
    }

    fn write(&self, custody: &dyn Custody) -> Result<Unit, CustodyError> {
        let text: SecretString = serde_json::to_string(self).unwrap_or_default().into();
        let sealed = custody.wrap(RING_NAME, &text)?;
        Ok(Unit::default().write(config::put_own(RING_NAME, sealed.expose_secret())))
    }
}

pub(crate) fn fresh_key(rng: &dyn Rng) -> NonceKey {
    let mut raw = [0; 32];
    rng.fill(&mut raw);
    NonceKey::from_bytes(raw)
}

/// The nonce keys: stored ones, so that nonces outlive a restart, or fresh ones.
pub(crate) fn load_ring(
    database: &Database,
    custody: &dyn Custody,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<LoadedRing, NonceError> {
    if let Some(stored) = stored_ring(database, custody)?
        && let Some(ring) = stored.open()
    {
        return Ok(LoadedRing { ring, made_at: Stamp::from_unix(stored.made_at), write: None });
    }
    let ring = NonceRing { current: fresh_key(rng), previous: None };
    let write = StoredRing::of(&ring, now).write(custody)?;
    Ok(LoadedRing { ring, made_at: now, write: Some(write) })
}

fn stored_ring(database: &Database, custody: &dyn Custody) -> Result<Option<StoredRing>, NonceError> {
    let Some(sealed) = config::own(database, RING_NAME)? else { return Ok(None) };
    let text = custody.unwrap(RING_NAME, &sealed.into())?;
    Ok(serde_json::from_str(text.expose_secret()).ok())
}

impl Authority {
    /// Once a day new nonces are made with a new key; the old one is accepted for another day.
    pub(crate) async fn rotate_nonce_key(&self) -> Result<(), Outage> {
        if !self.proofs.rotation_due(Self::NONCE_KEY_LIFE) {
            return Ok(());
        }
        let next = (*self.proofs.ring()).clone().rotated(fresh_key(self.rng.as_ref()));
        let unit =
            StoredRing::of(&next, self.clock.now()).write(self.custody.as_ref()).map_err(Outage::internal)?;
        self.commit(unit).await?;
        self.proofs.set_ring(next);
        Ok(())
    }
}
