//! Rotating the key that signs tokens (contract `pki.md` §6).
//!
//! One unit puts the new key in the place of the old one. Tokens of the old key verify until its grace is over, and it
//! stays published as long. What another implementation left half done, a staged key, halts signing until an operator
//! puts it in place or throws it away.

mod error;

use std::{sync::Arc, time::Duration};

use mastio_core::{Event, Kid, Stamp, event::catalogue};
use mastio_jose::{ContinuityProof, token};
use mastio_pki::Certificate;
use mastio_store::{
    ReadError, Touch, Unit, config,
    keys::{self, KeyState, SigningKeyRow},
    sqlite::Database,
    updates,
};

use crate::{
    Authority, Outage,
    admin::Operator,
    fresh::Succession,
    trust::{Halt, signer},
};

pub use error::SigningKeyError;

const GRACE_DAYS: &str = "rotation_grace_days";
/// The trigger of a rotation that somebody asked for.
pub(crate) const OPERATOR: &str = "operator";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// For how many days a replaced key verifies tokens: 1 to 90.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct GraceDays(u32);

impl GraceDays {
    /// What applies unless an operator set another number.
    pub const DEFAULT: Self = Self(7);
    /// What applies to the rotation of an intermediate unless somebody asks otherwise.
    pub const FORTNIGHT: Self = Self(14);

    /// `None` when it is not within bounds.
    #[must_use]
    pub fn new(days: u32) -> Option<Self> {
        (1..=90).contains(&days).then_some(Self(days))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// As `proxy_config` has it; whatever is no such number there counts as none.
    pub(crate) fn stored(database: &Database) -> Result<Self, ReadError> {
        let text = config::get(database, GRACE_DAYS)?;
        Ok(text.and_then(|text| Self::new(text.trim().parse().ok()?)).unwrap_or(Self::DEFAULT))
    }
}

/// What a rotation of the signing key brought.
#[derive(Debug)]
pub struct RotatedKey {
    /// The key of before.
    pub old_kid: Kid,
    /// The key that signs now.
    pub new_kid: Kid,
    /// When the certificate of the new key ends.
    pub not_after: Stamp,
    /// Until when tokens of the old key are accepted.
    pub grace_until: Stamp,
    /// The word of the old key for the new one.
    pub proof: ContinuityProof,
}

/// What becomes of a staged key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It signs from now on.
    Activate,
    /// It is thrown away.
    Drop,
}

impl Decision {
    /// `activate` or `drop`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Drop => "drop",
        }
    }

    /// The decision behind a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Activate, Self::Drop].into_iter().find(|decision| decision.as_str() == word)
    }
}

/// The keys that there are, and what applies to them.
#[derive(Debug)]
pub struct SigningKeys {
    /// All of them, the newest first.
    pub keys: Vec<SigningKeyRow>,
    /// How long the next replaced key verifies.
    pub grace: GraceDays,
}

impl SigningKeys {
    /// The key that signs.
    #[must_use]
    pub fn active(&self) -> Option<&SigningKeyRow> {
        self.keys.iter().find(|key| key.state == KeyState::Active)
    }

    /// The newest key that was never put in place.
    #[must_use]
    pub fn staged(&self) -> Option<&SigningKeyRow> {
        self.keys.iter().find(|key| key.state == KeyState::Staged)
    }
}

impl Authority {
    /// The keys that sign tokens, signed them, or were meant to.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn signing_keys(&self) -> Result<SigningKeys, Outage> {
        let database = Arc::clone(self.store.database());
        let read = move || {
            Ok::<_, ReadError>(SigningKeys {
                keys: keys::signing_keys(&database)?,
                grace: GraceDays::stored(&database)?,
            })
        };
        Ok(tokio::task::spawn_blocking(read).await.map_err(Outage::internal)??)
    }

    /// Sets for how long keys that are replaced from now on verify tokens.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn set_grace_days(&self, grace: GraceDays, by: &Operator) -> Result<(), Outage> {
        let days = grace.get();
        let event = catalogue::SigningKeyGraceSet { grace_days: u64::from(days), by: by.fingerprint.clone() };
        let unit = Unit::of(Event::new(&event)).write(config::put(GRACE_DAYS, &days.to_string()));
        self.commit(unit).await?;
        Ok(())
    }

    /// Has another key sign tokens. When this returns it does, and tokens of the one of before go on to verify.
    ///
    /// # Errors
    /// [`SigningKeyError`]; nothing was changed.
    pub async fn rotate_signing_key(self: &Arc<Self>, by: &Operator) -> Result<RotatedKey, SigningKeyError> {
        self.rotate_signing_key_for(OPERATOR, &by.fingerprint).await
    }

    pub(crate) async fn rotate_signing_key_for(
        self: &Arc<Self>,
        trigger: &'static str,
        by: &str,
    ) -> Result<RotatedKey, SigningKeyError> {
        let rotated = self.try_rotate_signing_key(trigger, by).await;
        rotated.inspect_err(|error| {
            tracing::warn!(%error, trigger, "pki.rotate: the signing key was not rotated");
        })
    }

    async fn try_rotate_signing_key(
        self: &Arc<Self>,
        trigger: &'static str,
        by: &str,
    ) -> Result<RotatedKey, SigningKeyError> {
        let (trust, now) = (self.trust(), self.clock.now());
        self.no_update_runs::<SigningKeyError>()?;
        match &trust.halt {
            Some(Halt::StagedRotation(kid)) => return Err(SigningKeyError::Staged(kid.clone())),
            Some(halt) => return Err(SigningKeyError::Halted(halt.clone())),
            None => {}
        }
        let (old, issuer) =
            trust.signer.as_deref().zip(trust.server_issuer.as_ref()).ok_or(SigningKeyError::NotLoaded)?;
        if issuer.certificate().not_after() <= now {
            return Err(SigningKeyError::IntermediateEnded(issuer.certificate().not_after()));
        }
        let stored = self.signing_keys().await?;
        if trigger == OPERATOR
            && let Some(wait) = self.too_soon(&stored, now)
        {
            return Err(SigningKeyError::TooSoon(wait));
        }
        let fresh = self.maker(&trust).signing_key(issuer)?;
        let grace_until = self.signing_grace_until(stored.grace, now);
        let how = Succession { old, grace_until, trigger, by, now };
        let (unit, proof) = fresh.succeed(&how)?;
        self.commit_beside_updates(unit).await?;
        Ok(RotatedKey {
            old_kid: old.kid.clone(),
            new_kid: fresh.kid,
            not_after: fresh.leaf.not_after(),
            grace_until,
            proof,
        })
    }

    /// How long an operator has to wait until the active key is old enough to be rotated.
    fn too_soon(&self, stored: &SigningKeys, now: Stamp) -> Option<Duration> {
        let due = stored.active()?.activated_at?.plus(self.settings.key_rotation.min_interval);
        (due > now).then(|| due.since(now))
    }

    /// Until when tokens of a key that is replaced now verify: never less than any of them lives.
    pub(crate) fn signing_grace_until(&self, grace: GraceDays, now: Stamp) -> Stamp {
        now.plus((DAY * grace.get()).max(self.settings.token_ttl + token::LEEWAY))
    }

    /// Ends a rotation that was interrupted between staging its key and activating it; signing goes on without restart.
    /// Of several staged keys it is the newest one.
    ///
    /// # Errors
    /// [`SigningKeyError`]; nothing was changed.
    pub async fn complete_staged(
        self: &Arc<Self>,
        decision: Decision,
        by: &Operator,
    ) -> Result<Kid, SigningKeyError> {
        let mut stored = self.signing_keys().await?;
        let place = stored.keys.iter().position(|key| key.state == KeyState::Staged);
        let staged = stored.keys.remove(place.ok_or(SigningKeyError::NothingStaged)?);
        let kid = staged.kid.clone();
        let unit = match decision {
            Decision::Drop => Unit::default().write(keys::drop_signing_key(&kid)),
            Decision::Activate => self.activate(staged, stored.grace, &by.fingerprint)?,
        };
        let by = by.fingerprint.clone();
        let event = catalogue::StagedKeyCompleted { kid: kid.clone(), decision: decision.as_str(), by };
        self.commit_beside_updates(unit.tell(Event::new(&event))).await?;
        Ok(kid)
    }

    /// Makes `unit` count, unless an update is being applied.
    async fn commit_beside_updates(self: &Arc<Self>, unit: Unit) -> Result<(), SigningKeyError> {
        let unit = unit.write(updates::none_is_under_way()).touch(Touch::Trust);
        let _no_cut = self.rotations.keys().await;
        if let Err(error) = self.commit(unit).await {
            self.no_update_runs::<SigningKeyError>()?;
            return Err(error.into());
        }
        self.reload_now().await;
        Ok(())
    }

    fn activate(&self, staged: SigningKeyRow, grace: GraceDays, by: &str) -> Result<Unit, SigningKeyError> {
        let (trust, now) = (self.trust(), self.clock.now());
        let (kid, public_pem) = (staged.kid.clone(), staged.public_pem.clone());
        let leaf = staged.certificate.as_deref().and_then(|pem| Certificate::from_pem(pem).ok());
        let mut cut = trust.cas.iter().filter(|ca| ca.cut || ca.compromised);
        if leaf.is_some_and(|leaf| cut.any(|ca| leaf.is_signed_by(&ca.certificate))) {
            let why = format!("{kid} is certified by a CA that a rotation cut off");
            return Err(SigningKeyError::StagedUnusable(why));
        }
        // A key that does not open would leave nobody to sign.
        let opened = signer(self.custody.as_ref(), staged)
            .map_err(|error| SigningKeyError::StagedUnusable(error.to_string()))?;
        if opened.key.spki_pem() != public_pem {
            return Err(SigningKeyError::StagedUnusable(format!("{kid} is stored with another public key")));
        }
        let unit = match trust.signer.as_deref() {
            None => Unit::default(),
            Some(old) => {
                let grace_until = self.signing_grace_until(grace, now);
                Succession { old, grace_until, trigger: "staged", by, now }.unit(&kid, &public_pem)?.0
            }
        };
        Ok(unit.write(keys::activate_signing_key(&kid, now)))
    }
}
