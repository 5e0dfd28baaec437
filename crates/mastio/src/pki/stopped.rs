//! A Mastio that is stopped: a command does on its database what the server would.

use std::{path::Path, sync::Arc};

use mastio_authority::{
    Authority,
    admin::Operator,
    boot::{self, BootError},
};
use mastio_config::{Database as DatabaseSetting, Settings, Source};
use mastio_core::{SystemClock, SystemRng};
use mastio_store::{Unit, sqlite::Database};

use super::Failure;
use crate::{audit::who, serve::runtime};

/// The settings of the folder `dir`, if there is a database and no server on it. `instead` is what to do when there is.
pub(super) fn settings(dir: &Path, instead: &str) -> Result<Settings, Failure> {
    let settings = Settings::load(&Source::from_process(dir), dir)?.settings;
    let DatabaseSetting::Sqlite(path) = &settings.database;
    if !path.exists() {
        return Err(format!("there is no database at {}; start the Mastio once", path.display()).into());
    }
    if Database::is_served(path)? {
        return Err(format!("a Mastio is running on this database: {instead}, or stop it first").into());
    }
    Ok(settings)
}

/// The authority, as the server makes it.
pub(super) async fn start(settings: Settings) -> Result<Arc<Authority>, BootError> {
    boot::start(settings, Arc::new(SystemClock::default()), Arc::new(SystemRng)).await
}

/// Whoever gives the command.
pub(super) fn operator() -> Operator {
    Operator { fingerprint: who() }
}

/// Gives up the rotation `id`, or the one that is open. What to print.
pub(super) fn abort(dir: &Path, id: Option<&str>) -> Result<String, Failure> {
    let settings = settings(dir, "leave out --offline")?;
    runtime(&settings)?.block_on(async {
        let authority = start(settings).await?;
        let newest = authority.rotations(1).await?.into_iter().map(|status| status.rotation);
        let open = newest.filter(|rotation| !rotation.phase.is_end()).map(|rotation| rotation.id).next();
        let id = id.map(str::to_owned).or(open).ok_or("no rotation is open")?;
        let aborted = authority.abort_rotation(&id, &operator()).await?;
        authority.store().submit(Unit::default()).await?;
        Ok(format!(
            "rotation {} is {}: {} is the Org CA",
            aborted.id,
            aborted.phase.as_str(),
            aborted.old_root
        ))
    })
}
