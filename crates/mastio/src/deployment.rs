//! What commands work on beside a running server or a stopped one.

use std::sync::Arc;

use mastio_config::{Database as DatabaseSetting, Settings};
use mastio_core::{Clock, OrgId, Rng, SystemClock, SystemRng};
use mastio_custody::Local;
use mastio_store::{Store, config, sqlite::Database};

/// The deployment that settings describe. It has been started once.
pub(crate) struct Deployment {
    pub(crate) database: Arc<Database>,
    pub(crate) org: OrgId,
    pub(crate) custody: Local,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
}

impl Deployment {
    pub(crate) fn open(settings: &Settings) -> Result<Self, Box<dyn std::error::Error>> {
        let DatabaseSetting::Sqlite(path) = &settings.database;
        let database = Database::open_for_tool(path)?;
        let org = config::get(&database, "org_id")?
            .ok_or("the database names no organisation; start the Mastio once")?;
        let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) =
            (Arc::new(SystemClock::default()), Arc::new(SystemRng));
        let passphrase = settings.at_rest_passphrase.as_ref();
        let custody = Local::new(Arc::clone(&database), passphrase, Arc::clone(&clock), Arc::clone(&rng));
        Ok(Self { org: OrgId::parse(&org)?, database, custody, clock, rng })
    }

    /// A writer of our own. Close it: what is queued is committed then.
    pub(crate) fn store(&self) -> Result<Store, Box<dyn std::error::Error>> {
        let (database, clock) = (Arc::clone(&self.database), Arc::clone(&self.clock));
        Ok(Store::start(database, self.org.clone(), clock, self.rng.as_ref())?)
    }
}
