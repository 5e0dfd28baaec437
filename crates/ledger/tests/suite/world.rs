//! A real authority and its log, in a folder of its own, with a clock that stands still.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mastio_authority::{Authority, boot};
use mastio_config::{Settings, Source};
use mastio_core::{Clock, Event, ManualClock, Stamp, SystemRng, event::catalogue};
use mastio_ledger::Ledger;
use mastio_store::Unit;

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Stamp::from_unix(1_790_000_000)));
        Self { dir: tempfile::tempdir().unwrap(), clock }
    }

    pub(crate) async fn boot(&self, more: &[(&str, &str)]) -> Ledger {
        let fixed = [
            ("MCP_PROXY_ADMIN_SECRET", "0123456789abcdef0123456789abcdef"),
            ("MCP_PROXY_PROXY_PUBLIC_URL", "https://mastio.test:9443"),
        ];
        let all = fixed.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::load(&Source::new(all, ""), self.dir.path()).unwrap().settings;
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        Ledger::new(boot::start(settings, clock, Arc::new(SystemRng)).await.unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path("mcp_proxy.db")).unwrap()
    }

    /// What somebody does behind the server's back.
    pub(crate) fn sql(&self, sql: &str) {
        self.database().execute_batch(sql).unwrap();
    }

    /// The number that `sql` asks the database for.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// The text that `sql` asks the database for.
    pub(crate) fn text(&self, sql: &str) -> String {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// How often the audit log tells of `event`.
    pub(crate) fn events(&self, event: &str) -> i64 {
        self.count(&format!("SELECT count(*) FROM local_audit WHERE event_type = '{event}'"))
    }

    /// A copy of the database as it is now, as `VACUUM INTO` makes it for a backup.
    pub(crate) fn backup(&self) -> PathBuf {
        let copy = self.dir.path().join("backup.db");
        self.sql(&format!("VACUUM INTO '{}'", copy.display()));
        copy
    }

    /// Puts a copy in the place of the database of a stopped server.
    pub(crate) fn restore(&self, copy: &PathBuf) {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(self.path(&format!("mcp_proxy.db{suffix}")));
        }
        std::fs::copy(copy, self.path("mcp_proxy.db")).unwrap();
    }
}

/// Writes `count` entries, many to a unit.
pub(crate) async fn write(ledger: &Ledger, count: usize) {
    let event = |number: usize| Event::new(&catalogue::AgentDeactivated { by: format!("test {number}") });
    for first in (0..count).step_by(5000) {
        let events = (first..count.min(first + 5000)).map(event).collect();
        ledger.authority().store().submit(Unit { events, ..Unit::default() }).await.unwrap();
    }
}

/// Lets go of the database and waits until the last connection is closed.
pub(crate) fn leave(ledger: Ledger) {
    let authority: Arc<Authority> = Arc::clone(ledger.authority());
    let wal = authority.store().database().path().with_file_name("mcp_proxy.db-wal");
    let weak = Arc::downgrade(&authority);
    drop((ledger, authority));
    for _ in 0..2000 {
        if weak.strong_count() == 0 && !wal.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("somebody still holds the authority or its database");
}
