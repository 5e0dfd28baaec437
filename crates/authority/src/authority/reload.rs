//! The trust state in memory follows what is stored.
//!
//! When it cannot be read, what is in memory stays, since a slip of the pen in one row must not stop all agents; it is tried
//! again every second, and `/readyz` says so meanwhile. After CAs have changed places that would be wrong: what the old
//! ones certified may be what the change was against. Then nobody is let in until it has been read.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use arc_swap::ArcSwapOption;

use crate::{
    Authority, Outage,
    trust::{Halt, Trust, TrustError},
};

/// That what is in memory is older than what is stored.
#[derive(Debug, Clone)]
pub struct Stale {
    /// Why it could not be read.
    pub why: String,
    /// Whether CAs have changed places since.
    pub cas_changed: bool,
}

/// How far reading is.
#[derive(Debug)]
pub(super) struct Reloading {
    one_at_a_time: Mutex<()>,
    generation: AtomicU64,
    stale: ArcSwapOption<Stale>,
}

impl Reloading {
    pub(super) fn from(generation: u64) -> Self {
        Self {
            one_at_a_time: Mutex::default(),
            generation: AtomicU64::new(generation),
            stale: ArcSwapOption::empty(),
        }
    }

    fn failed(&self, why: &str) {
        tracing::error!(
            error = why,
            "the trust state could not be reloaded; the one in memory stays, and it is tried again"
        );
        self.stale.rcu(|before| {
            let cas_changed = before.as_deref().is_some_and(|before| before.cas_changed);
            Some(Arc::new(Stale { why: why.to_owned(), cas_changed }))
        });
    }

    fn cas_changed(&self) {
        self.stale.rcu(|stale| {
            let stale = stale.as_deref()?;
            Some(Arc::new(Stale { cas_changed: true, ..stale.clone() }))
        });
    }
}

impl Authority {
    /// Why what is in memory is older than what is stored, if it is.
    #[must_use]
    pub fn stale(&self) -> Option<Arc<Stale>> {
        self.reloading.stale.load_full()
    }

    /// Refuses while it is not known who is believed.
    pub(crate) fn knows_whom_to_believe(&self) -> Result<(), Outage> {
        match self.reloading.stale.load().as_deref() {
            Some(Stale { cas_changed: true, .. }) => Err(Outage::Stale),
            _ => Ok(()),
        }
    }

    /// Reading takes a while, and the writer must go on.
    pub(super) fn reload_in_background(self: &Arc<Self>) {
        let authority = Arc::clone(self);
        let reload = move || authority.reload_or_try_later();
        if let Err(error) = thread::Builder::new().name("reload".into()).spawn(reload) {
            self.reloading.failed(&format!("there is no thread for it: {error}"));
        }
    }

    /// Reads everything again and returns when it counts: for changes whose caller may rely on them at once.
    pub(crate) async fn reload_now(self: &Arc<Self>) {
        let authority = Arc::clone(self);
        if let Err(error) = tokio::task::spawn_blocking(move || authority.reload_or_try_later()).await {
            self.reloading.failed(&format!("it ended early: {error}"));
        }
    }

    /// The same after CAs have changed places: nobody is let in until it has been read.
    pub(crate) async fn reload_cas(self: &Arc<Self>) {
        self.reload_now().await;
        self.reloading.cas_changed();
    }

    /// Reads the trust state again. What is in memory stays if that fails, and it is tried again.
    pub(crate) fn reload_or_try_later(&self) {
        // Told where it failed.
        let _ = self.reload();
    }

    /// Reads the agents and the trust state again.
    ///
    /// # Errors
    /// When something stored cannot be used; what is in memory stays.
    pub fn reload(&self) -> Result<(), TrustError> {
        let _one_at_a_time = self.reloading.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.read_again();
        match &read {
            Ok(()) => self.reloading.stale.store(None),
            Err(error) => self.reloading.failed(&error.to_string()),
        }
        self.show_trust();
        read
    }

    fn read_again(&self) -> Result<(), TrustError> {
        let database = self.store.database();
        self.registry.reload(database, self.clock.now())?;
        let before = self.trust();
        let generation = self.reloading.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let fresh = Trust::load(
            database,
            self.custody.as_ref(),
            &before.org,
            &before.domain,
            generation,
            self.clock.now(),
        )?;
        if let Some(fresh) = fresh {
            self.trust.store(Arc::new(fresh));
        }
        self.crl.is_due(self.clock.elapsed());
        Ok(())
    }

    pub(super) fn show_trust(&self) {
        let (trust, metrics) = (self.trust(), &self.metrics);
        metrics.trust_stale.set(i64::from(self.stale().is_some()));
        metrics.sign_halted.set(i64::from(trust.halt.is_some()));
        metrics.rotation_staged.set(i64::from(matches!(trust.halt, Some(Halt::StagedRotation(_)))));
        metrics.legacy_pathlen_zero.set(i64::from(trust.root.path_len() == Some(0)));
        for (status, count) in trust.updates.counts {
            metrics.updates.with_label_values(&[status.as_str()]).set(count);
        }
        metrics.keys_in_plaintext.set(i64::from(!self.custody.is_sealed()));
    }
}
