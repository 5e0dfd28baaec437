//! Evidence bundles: a range of entries with what proves them (contract `audit-and-database.md` §1.8).
//!
//! Two passes over rows that never change: one for sizes and digests, one that writes [`Portions`].
//! Between them the evidence is collected, and the bundle is told to the log, which it is therefore not part of.

mod error;
mod proved;
mod stream;

use std::{io::Write, ops::ControlFlow};

use mastio_authority::{Outage, admin::Operator};
use mastio_bundle::{Occasion, Plan, Survey, Surveyed, WriteError};
use mastio_core::{Event, OrgId, Stamp, event::catalogue};
use mastio_store::{
    Unavailable, Unit,
    audit::{Filter, Range, View},
    sqlite::Database,
};

use crate::{Ledger, portions::Portions};

pub use error::BundleError;
pub use proved::AnnouncedKey;

/// Which entries are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Those from the first to the last that is of this time: from, and until, exclusive. In a log that was adopted
    /// times may go back, so that some between them may be of another time.
    Window(Stamp, Stamp),
    /// Those of these places, both ends included.
    Places(i64, i64),
}

/// Whether the last entry is to be stamped by a time stamping authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stamping {
    /// No bundle without.
    Require,
    /// If there is a stamp, or one can be had.
    #[default]
    IfPossible,
    /// Without.
    None,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Which entries.
    pub wanted: Wanted,
    /// Whether they are stamped.
    pub stamping: Stamping,
    /// The size of a checkpoint that somebody saved: a proof that the log continues it is put in.
    pub against_size: Option<u64>,
}

/// A bundle that is being written.
#[derive(Debug)]
pub struct Bundle {
    /// Whose entries.
    pub org: OrgId,
    /// The place of the first.
    pub first_seq: u64,
    /// The place of the last.
    pub last_seq: u64,
    /// The SHA-256 of the manifest: what the log says was handed out.
    pub manifest_sha256: [u8; 32],
    /// The archive.
    pub portions: Portions<BundleError>,
}

impl Ledger {
    /// Collects what proves the entries that are asked for, tells that `operator` was given them, and begins to write.
    /// One bundle at a time.
    ///
    /// # Errors
    /// [`BundleError`].
    pub async fn bundle(&self, question: Question, operator: &Operator) -> Result<Bundle, BundleError> {
        let permit = std::sync::Arc::clone(&self.bundling).try_acquire_owned();
        let permit = permit.map_err(|_| BundleError::Busy)?;
        let org = self.authority.trust().org.clone();
        let (range, surveyed) = self.survey(question.wanted, &org).await?;
        let evidence = self.proved(&surveyed, &question).await?;
        let window = match question.wanted {
            Wanted::Window(start, end) => Some((start, end)),
            Wanted::Places(..) => None,
        };
        let occasion = Occasion { org_id: org.as_str(), window, archived: false };
        let plan = Plan::new(occasion, &surveyed, &evidence).map_err(Outage::internal)?;
        let (first_seq, last_seq, manifest_sha256) =
            (surveyed.first_seq(), surveyed.last_seq(), plan.digest());
        let told = Event::new(&catalogue::BundleExported {
            first_seq,
            last_seq,
            manifest_sha256: hex::encode(manifest_sha256),
            by: operator.fingerprint.clone(),
        });
        self.authority.commit(Unit::of(told)).await.map_err(Outage::from)?;
        let portions = self.stream(range, plan, permit);
        Ok(Bundle { org, first_seq, last_seq, manifest_sha256, portions })
    }

    /// Writes the bundle of the entries from `first` to `last`, which leave the database for it, into `out`, and gives
    /// that back. The inner error is about writing.
    ///
    /// # Errors
    /// [`BundleError`].
    pub(crate) async fn archive_bundle<W: Write + Send + 'static>(
        &self,
        first: i64,
        last: i64,
        out: W,
    ) -> Result<Result<W, WriteError>, BundleError> {
        let org = self.authority.trust().org.clone();
        let wanted = Wanted::Places(first, last);
        let question = Question { wanted, stamping: Stamping::IfPossible, against_size: None };
        let (range, surveyed) = self.survey(wanted, &org).await?;
        let evidence = self.proved(&surveyed, &question).await?;
        let occasion = Occasion { org_id: org.as_str(), window: None, archived: true };
        let plan = Plan::new(occasion, &surveyed, &evidence).map_err(Outage::internal)?;
        let write = move |database: &Database| {
            database.audit(|view| stream::write(view, &range, plan, out)).map_err(BundleError::from)
        };
        self.reading(write).await
    }

    /// The first pass.
    async fn survey(&self, wanted: Wanted, org: &OrgId) -> Result<(Range, Surveyed), BundleError> {
        let (database, org) = (std::sync::Arc::clone(self.authority.store().database()), org.to_string());
        let read = move || database.audit(|view| survey(view, wanted, &org)).map_err(BundleError::from);
        tokio::task::spawn_blocking(read).await.map_err(Outage::internal)??
    }
}

/// The inner error is about the entries, the outer one about the database.
fn survey(
    view: &View<'_>,
    wanted: Wanted,
    org: &str,
) -> Result<Result<(Range, Surveyed), BundleError>, Unavailable> {
    let range = match wanted {
        Wanted::Window(from, until) => {
            let filter = Filter { from: Some(from), until: Some(until), ..Filter::default() };
            view.range(org, &filter)?
        }
        Wanted::Places(first, last) => Some(Range { org: org.to_owned(), first, last }),
    };
    let Some(range) = range else { return Ok(Err(BundleError::Empty)) };
    let (mut survey, mut broken) = (Survey::default(), None);
    view.walk(&range, &Filter::default(), &mut |row| match survey.push(row) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            broken = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = broken {
        return Ok(Err(error.into()));
    }
    Ok(survey.finish().map_err(BundleError::from).and_then(|surveyed| {
        let found = (surveyed.first_seq().cast_signed(), surveyed.last_seq().cast_signed());
        let whole = found == (range.first, range.last);
        if whole { Ok((range, surveyed)) } else { Err(BundleError::Missing(found.0, found.1)) }
    }))
}
