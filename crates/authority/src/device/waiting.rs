//! Requests that wait for an operator's decision, and the sessions that are known to be real.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mastio_core::EnrollmentId;
use tokio::sync::{Notify, watch};

use super::SESSION_LIFETIME;

/// Most requests that wait at once; one more is answered without waiting.
const MAX_WAITERS: usize = 1024;
/// Most sessions that are remembered to be real. One that is forgotten is looked up again.
const KNOWN: u64 = 20_000;

/// What enrolment keeps in memory.
#[derive(Debug)]
pub(crate) struct Devices {
    waiters: Mutex<HashMap<EnrollmentId, Arc<Notify>>>,
    leaving: watch::Sender<bool>,
    /// Sessions that are real, and whether their devices showed that they hold the key.
    known: moka::sync::Cache<EnrollmentId, bool>,
}

impl Default for Devices {
    fn default() -> Self {
        let known = moka::sync::Cache::builder().max_capacity(KNOWN).time_to_live(2 * SESSION_LIFETIME);
        Self { waiters: Mutex::default(), leaving: watch::Sender::new(false), known: known.build() }
    }
}

impl Devices {
    /// Remembers that there is such a session; once its device `proved` to hold the key, that stays so.
    pub(super) fn know(&self, id: &EnrollmentId, proved: bool) {
        let entry = self.known.entry_by_ref(id);
        entry.and_upsert_with(|known| proved || known.is_some_and(moka::Entry::into_value));
    }

    /// Whether the device of the session showed that it holds the key, since this process began.
    pub(super) fn has_proved(&self, id: &EnrollmentId) -> bool {
        self.known.get(id).unwrap_or(false)
    }

    pub(super) fn knows(&self, id: &EnrollmentId) -> bool {
        self.known.contains_key(id)
    }

    /// A place to wait for the decision on `id`. There is one for each session.
    pub(super) fn enter(&self, id: &EnrollmentId) -> Option<Waiter<'_>> {
        let mut waiters = self.waiters();
        if waiters.len() >= MAX_WAITERS || waiters.contains_key(id) {
            return None;
        }
        let decided = Arc::new(Notify::new());
        waiters.insert(id.clone(), Arc::clone(&decided));
        Some(Waiter { devices: self, id: id.clone(), decided })
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiters().len()
    }

    /// Wakes whoever waits for the decision on `id`.
    pub(super) fn wake(&self, id: &EnrollmentId) {
        if let Some(decided) = self.waiters().get(id) {
            decided.notify_one();
        }
    }

    /// From now on nobody waits.
    pub(super) fn leave(&self) {
        self.leaving.send_replace(true);
    }

    fn waiters(&self) -> MutexGuard<'_, HashMap<EnrollmentId, Arc<Notify>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits; the place is free again when it is dropped.
pub(super) struct Waiter<'a> {
    devices: &'a Devices,
    id: EnrollmentId,
    decided: Arc<Notify>,
}

impl Waiter<'_> {
    /// Waits for a decision that was made since the place was taken, at most `time`, and not when the server stops.
    pub(super) async fn wait(&self, time: Duration) {
        let mut leaving = self.devices.leaving.subscribe();
        tokio::select! {
            () = self.decided.notified() => {}
            () = tokio::time::sleep(time) => {}
            _ = leaving.wait_for(|leaving| *leaving) => {}
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.devices.waiters().remove(&self.id);
    }
}
