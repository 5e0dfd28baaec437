//! Who stands behind which SPIFFE id, in a bounded cache.

use std::sync::atomic::{AtomicU64, Ordering};

use mastio_core::SpiffeId;
use mastio_store::{
    ReadError, Store,
    spiffe::{self, Binding},
};

/// How many ids are kept, bound or not. Strangers of a trusted domain must not cost a query each time.
const CAPACITY: u64 = 16_384;

#[derive(Debug)]
pub(super) struct Bindings {
    known: moka::sync::Cache<SpiffeId, Option<Binding>>,
    /// Raised with each change, so that what was read before it is not kept after it.
    changes: AtomicU64,
}

impl Bindings {
    pub(super) fn new() -> Self {
        Self { known: moka::sync::Cache::new(CAPACITY), changes: AtomicU64::new(0) }
    }

    pub(super) async fn find(&self, store: &Store, id: &SpiffeId) -> Result<Option<Binding>, ReadError> {
        if let Some(known) = self.known.get(id) {
            return Ok(known);
        }
        let before = self.changes.load(Ordering::Acquire);
        let binding = spiffe::binding(store, id).await?;
        self.known.insert(id.clone(), binding.clone());
        if self.changes.load(Ordering::Acquire) != before {
            self.known.invalidate(id);
        }
        Ok(binding)
    }

    pub(super) fn forget(&self, id: &SpiffeId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.known.invalidate(id);
    }

    pub(super) fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.known.invalidate_all();
    }
}
