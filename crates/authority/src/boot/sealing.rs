//! Keys that lie readable although a passphrase is set: there were some before it was, or the existing system left them.

use mastio_core::{Event, event::catalogue};
use mastio_store::{Store, Unit};

use super::{Boot, BootError, write};
use crate::updates;

impl Boot<'_> {
    /// Seals them wherever they are, so that no file has them any more. Those in snapshots get an end if there is no
    /// passphrase.
    pub(super) async fn seal(&self, store: &Store, told: &mut Vec<Event>) -> Result<(), BootError> {
        let in_snapshots = updates::looked_after(self.database, self.custody, self.clock.now())?;
        let units = [self.bare_keys()?, in_snapshots];
        if units.iter().all(Option::is_none) {
            return Ok(());
        }
        for unit in units {
            write(store, told, unit).await?;
        }
        if let Err(error) = store.forget_deleted().await {
            tracing::warn!(%error, "keys that were sealed may be readable in the write-ahead log until the next stop");
        }
        Ok(())
    }

    fn bare_keys(&self) -> Result<Option<Unit>, BootError> {
        let statements = self.custody.seal_bare()?;
        if statements.is_empty() {
            return Ok(None);
        }
        let count = statements.len() as u64;
        Ok(Some(Unit::of(Event::new(&catalogue::KeysSealed { count })).write_all(statements)))
    }
}
