//! The second pass: one thread reads and writes [`Portions`].

use std::{io::Write, ops::ControlFlow, sync::Arc};

use mastio_authority::Outage;
use mastio_bundle::{Plan, WriteError, Writer};
use mastio_store::{
    Unavailable,
    audit::{Filter, Range, View},
};
use tokio::sync::OwnedSemaphorePermit;

use super::BundleError;
use crate::{
    Ledger,
    portions::{Feed, Portions, Stalled},
};

impl Ledger {
    pub(super) fn stream(
        &self,
        range: Range,
        plan: Plan,
        permit: OwnedSemaphorePermit,
    ) -> Portions<BundleError> {
        let database = Arc::clone(self.authority.store().database());
        let (mut feed, portions) = Feed::new();
        tokio::task::spawn_blocking(move || {
            let written = database.audit(|view| Ok(write(view, &range, plan, &mut feed)?.map(drop)));
            // Given back before the client can see the end and ask for the next one.
            drop(permit);
            let outcome = written.map_err(BundleError::from);
            feed.end(outcome.and_then(|written| written.map_err(broken_off)));
        });
        portions
    }
}

/// Writes the bundle into `out` and gives that back. The inner error is about the bundle, the outer one about the
/// database.
pub(super) fn write<W: Write>(
    view: &View<'_>,
    range: &Range,
    plan: Plan,
    out: W,
) -> Result<Result<W, WriteError>, Unavailable> {
    let mut writer = match Writer::begin(out, plan) {
        Ok(writer) => writer,
        Err(error) => return Ok(Err(error)),
    };
    let mut failed = None;
    view.walk(range, &Filter::default(), &mut |row| match writer.push(row) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    Ok(match failed {
        Some(error) => Err(error),
        None => writer.finish(),
    })
}

fn broken_off(error: WriteError) -> BundleError {
    match error {
        WriteError::Changed => Outage::internal(error).into(),
        WriteError::Io(_) => Stalled.into(),
    }
}
