//! Witnesses (C2SP tlog-witness, tlog-cosignature): a second party that signs each checkpoint of a log only when it
//! continues the one before, so that a log cannot tell two stories without somebody having both in writing.
//!
//! A Mastio can be such a witness for others ([`serve`], with the key of [`key`]) and have its own checkpoints cosigned
//! by others. What cannot all be true is a split view: it is kept, told once, and warned of until an operator has
//! acknowledged it.
//!
//! Cosigning is not written into the audit log: two Mastios that are each other's witness would keep each other's logs
//! growing for ever.

mod doubts;
pub mod key;
pub mod push;
pub mod serve;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use mastio_audit::note::{Name, NoteSigner};
use mastio_authority::{Outage, Refusal, admin::Operator};
use mastio_core::{Event, event::catalogue};
use mastio_store::{
    Unit, WriteError,
    audit::witness::{self, SplitView},
};
use tokio::sync::OnceCell;

use self::doubts::Doubts;
use crate::Ledger;

/// What witnessing keeps in memory.
#[derive(Debug, Default)]
pub(crate) struct State {
    key: OnceCell<Arc<NoteSigner>>,
    doubts: Mutex<BTreeMap<Name, Doubts>>,
}

/// Why nothing was acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AcknowledgeError {
    /// There is nothing to acknowledge.
    #[error("no split view of this log waits for an acknowledgement: see GET /v1/admin/audit/witness")]
    Nothing,
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for AcknowledgeError {
    fn status(&self) -> u16 {
        match self {
            Self::Nothing => 404,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Nothing => "no_split_view",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

impl Ledger {
    /// Whether a log was seen to tell two stories and nobody has acknowledged it: ours or one that we watch.
    #[must_use]
    pub fn sees_split_view(&self) -> bool {
        self.authority.metrics.witness.split_views.get() > 0
    }

    /// Keeps a split view and tells it, unless it is known.
    pub(crate) async fn keep_split_view(&self, split: SplitView) -> Result<(), Outage> {
        let SplitView { origin, known, other, .. } = split.clone();
        let event = Event::new(&catalogue::SplitViewSeen { origin, known, other });
        match self.authority.commit(Unit::of(event).write(witness::keep(&split))).await {
            Ok(_) => self.count_split_views(),
            Err(WriteError::Rejected(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// An operator has seen what `origin` did; the evidence stays.
    ///
    /// # Errors
    /// When there is nothing to acknowledge, or more came while it was.
    pub async fn acknowledge_split_view(&self, origin: &str, by: &Operator) -> Result<u64, AcknowledgeError> {
        let open = witness::open(self.authority.store()).await.map_err(Outage::from)?;
        let count = open.iter().filter(|split| split.origin == origin).count();
        if count == 0 {
            return Err(AcknowledgeError::Nothing);
        }
        let event = catalogue::SplitViewAcknowledged {
            origin: origin.to_owned(),
            count: count as u64,
            by: by.fingerprint.clone(),
        };
        let now = self.authority.clock().now();
        let unit = Unit::of(Event::new(&event)).write(witness::acknowledge(origin, count, now));
        self.authority.commit(unit).await.map_err(Outage::from)?;
        self.count_split_views()?;
        Ok(count as u64)
    }

    /// Counts what the health warning stands on.
    pub(crate) fn count_split_views(&self) -> Result<(), Outage> {
        let open = witness::count_open(self.authority.store().database())?;
        self.authority.metrics.witness.split_views.set(open);
        Ok(())
    }
}
