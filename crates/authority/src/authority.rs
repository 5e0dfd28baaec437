//! The authority: what all use cases share.

mod reload;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use mastio_config::Settings;
use mastio_core::{Clock, Event, Rng, event::Outcome};
use mastio_custody::Custody;
use mastio_store::{Committed, Notice, Store, Touch, Unit, WriteError};

use self::reload::Reloading;
pub use self::reload::Stale;
use crate::{
    admin::AdminSecret,
    authenticate::KnownToken,
    crl::Crl,
    dashboard::Dashboard,
    denials::Denials,
    device::Devices,
    files::TlsFiles,
    limits::Limits,
    login::Challenges,
    metrics::Metrics,
    moves::Moves,
    once,
    paths::PathCache,
    peer::ClientChain,
    proofs::Proofs,
    registry::Registry,
    rotation::Rotations,
    trust::Trust,
    updates::{self, Updating},
    upkeep::{Rounds, TIDY_EVERY},
};

/// Tokens whose signature was verified. A token is about 600 bytes of claims.
const TOKENS: u64 = 65_536;

/// Chains of `x5c` that were parsed. A chain is about 3 KB.
const CHAINS: u64 = 4096;

pub(crate) type ChainCache = moka::sync::Cache<[u8; 32], Arc<ClientChain>>;
pub(crate) type TokenCache = moka::sync::Cache<[u8; 32], KnownToken>;

/// The trust authority of one organisation. Made by [`crate::boot::start`].
pub struct Authority {
    /// What the operator set.
    pub settings: Settings,
    /// What is counted.
    pub metrics: Metrics,
    /// Who may do how much.
    pub limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) store: Arc<Store>,
    pub(crate) custody: Arc<dyn Custody>,
    pub(crate) registry: Registry,
    pub(crate) proofs: Proofs,
    pub(crate) paths: PathCache,
    pub(crate) tokens: TokenCache,
    pub(crate) chains: ChainCache,
    pub(crate) challenges: Challenges,
    pub(crate) admin_secret: AdminSecret,
    pub(crate) dashboard: Dashboard,
    pub(crate) denials: Denials,
    pub(crate) devices: Devices,
    pub(crate) tls_files: TlsFiles,
    pub(crate) crl: Crl,
    pub(crate) rounds: Rounds,
    pub(crate) updating: Updating,
    pub(crate) moves: Moves,
    pub(crate) rotations: Rotations,
    chain_broken: AtomicBool,
    trust: ArcSwap<Trust>,
    reloading: Reloading,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("org", &self.trust().org).finish_non_exhaustive()
    }
}

/// What [`Authority::assemble`] puts together.
pub(crate) struct Parts {
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) store: Arc<Store>,
    pub(crate) custody: Arc<dyn Custody>,
    pub(crate) registry: Registry,
    pub(crate) proofs: Proofs,
    pub(crate) admin_secret: AdminSecret,
    pub(crate) dashboard: Dashboard,
    pub(crate) tls_files: TlsFiles,
    pub(crate) chain_broken: bool,
    pub(crate) trust: Trust,
}

impl Authority {
    pub(crate) fn assemble(parts: Parts) -> Arc<Self> {
        let authority = Arc::new(Self {
            limits: Limits::new(&parts.settings, Arc::clone(&parts.clock)),
            settings: parts.settings,
            metrics: parts.metrics,
            clock: parts.clock,
            rng: parts.rng,
            store: parts.store,
            custody: parts.custody,
            registry: parts.registry,
            proofs: parts.proofs,
            paths: PathCache::new(),
            tokens: TokenCache::new(TOKENS),
            chains: ChainCache::new(CHAINS),
            challenges: Challenges::default(),
            admin_secret: parts.admin_secret,
            dashboard: parts.dashboard,
            denials: Denials::default(),
            devices: Devices::default(),
            tls_files: parts.tls_files,
            chain_broken: AtomicBool::new(parts.chain_broken),
            rounds: Rounds::default(),
            updating: Updating::default(),
            moves: Moves::default(),
            rotations: Rotations::default(),
            crl: Crl::default(),
            reloading: Reloading::from(parts.trust.generation),
            trust: ArcSwap::from_pointee(parts.trust),
        });
        let listener = Arc::downgrade(&authority);
        authority.store.on_commit(move |notice| {
            if let Some(authority) = listener.upgrade() {
                authority.notice(notice);
            }
        });
        authority.show_trust();
        authority
    }

    /// What we believe at this moment.
    #[must_use]
    pub fn trust(&self) -> Arc<Trust> {
        self.trust.load_full()
    }

    /// The store, for the use cases of other crates.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where private keys live.
    #[must_use]
    pub fn custody(&self) -> &Arc<dyn Custody> {
        &self.custody
    }

    /// The source of randomness.
    #[must_use]
    pub fn rng(&self) -> &Arc<dyn Rng> {
        &self.rng
    }

    /// The agents.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Proofs and nonces.
    #[must_use]
    pub fn proofs(&self) -> &Proofs {
        &self.proofs
    }

    /// The denials of this minute.
    #[must_use]
    pub fn denials(&self) -> &Denials {
        &self.denials
    }

    /// The TLS server certificate and the files around it.
    #[must_use]
    pub fn tls_files(&self) -> &TlsFiles {
        &self.tls_files
    }

    /// Whether a chain of the audit log did not verify when it was looked at last.
    #[must_use]
    pub fn audit_chain_is_broken(&self) -> bool {
        self.chain_broken.load(Ordering::Relaxed)
    }

    /// Notes what looking at all chains has found.
    pub fn audit_chain_found(&self, broken: bool) {
        self.chain_broken.store(broken, Ordering::Relaxed);
    }

    /// The revocation lists.
    #[must_use]
    pub fn crl(&self) -> &Crl {
        &self.crl
    }

    /// Whether private keys are encrypted at rest.
    #[must_use]
    pub fn keys_are_sealed(&self) -> bool {
        self.custody.is_sealed()
    }

    /// Writes `unit`, waits until it is durable, and tells its events to log and metrics.
    ///
    /// # Errors
    /// When it was refused; then nothing of it is written.
    pub async fn commit(&self, unit: Unit) -> Result<Committed, WriteError> {
        let events = unit.events.clone();
        let committed = self.store.submit(unit).await?;
        events.iter().for_each(|event| self.tell(event));
        Ok(committed)
    }

    /// Hands `unit` to the writer without waiting.
    ///
    /// # Errors
    /// When the queue does not take it.
    pub fn post(&self, unit: Unit) -> Result<(), WriteError> {
        let events = unit.events.clone();
        self.store.post(unit)?;
        events.iter().for_each(|event| self.tell(event));
        Ok(())
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.metrics.events.with_label_values(&[event.kind.name]).inc();
        let (name, agent, details) = (event.kind.name, event.agent.as_deref(), event.details.as_deref());
        match event.kind.outcome {
            Outcome::Ok => tracing::info!(target: "mastio::event", event = name, agent, details),
            Outcome::Denied | Outcome::Error => {
                tracing::warn!(target: "mastio::event", event = name, agent, details, "{}", event.kind.meaning.trim());
            }
        }
    }

    /// Runs on the writer's thread, before the caller of the commit is answered.
    fn notice(self: &Arc<Self>, notice: &Notice<'_>) {
        match notice {
            Notice::Committed(touches) => {
                self.registry.apply(touches);
                if touches.iter().any(|touch| matches!(touch, Touch::Revoked(_))) {
                    self.crl.is_due(self.clock.elapsed());
                }
                if touches.contains(&Touch::Trust) {
                    self.reload_in_background();
                }
            }
            Notice::Foreign => self.reload_in_background(),
        }
    }

    /// Work that comes round: denials of the minute, messages of the hour, files and keys that age. Call it every
    /// second or so.
    pub async fn tend(self: &Arc<Self>) {
        self.metrics.queue_depth.set(i64::try_from(self.store.queue_depth()).unwrap_or(i64::MAX));
        self.metrics.enrollment_waiters.set(i64::try_from(self.devices.waiting()).unwrap_or(i64::MAX));
        self.metrics.audit_writable.set(i64::from(self.store.trouble().is_none()));
        self.flush_denials(false);
        if self.stale().is_some() || self.trust().holds_ended_key(self.clock.now()) {
            self.reload_or_try_later();
        }
        self.limits.forget_idle();
        if let Err(error) = self.rotate_nonce_key().await {
            tracing::warn!(%error, "the nonce key could not be rotated; the current one stays");
        }
        let now = self.clock.elapsed();
        if self.rounds.used_keys.is_due(now, once::PURGE_EVERY)
            && let Err(error) = self.forget_keys().await
        {
            tracing::warn!(%error, "used idempotency keys could not be forgotten; it is tried again in an hour");
        }
        if self.rounds.enrollments.is_due(now, TIDY_EVERY)
            && let Err(error) = self.tidy_enrollments().await
        {
            tracing::warn!(%error, "enrolments that ran out could not be tidied up");
        }
        if self.rounds.updates.is_due(now, updates::TIDY_EVERY)
            && let Err(error) = self.tidy_updates().await
        {
            tracing::warn!(%error, "snapshots of framework updates could not be tidied up");
        }
        if let Some(period) = self.settings.grace_sweep_every
            && self.rounds.grace.is_due(now, period)
            && let Err(error) = self.sweep_grace().await
        {
            tracing::warn!(%error, "grace periods that are over could not be swept");
        }
    }

    /// How old the key that makes DPoP nonces may get.
    pub(crate) const NONCE_KEY_LIFE: Duration = Duration::from_secs(24 * 3600);
}
