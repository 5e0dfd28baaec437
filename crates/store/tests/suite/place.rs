//! A folder with a database in it, and what tests put there.

use std::{path::PathBuf, sync::Arc};

use mastio_core::{
    AgentId, Event, OrgId, PrincipalKind, Stamp, SystemClock, SystemRng, Thumbprint, event::catalogue,
};
use mastio_store::{
    OpenError, OpenOptions, Statement, Store,
    agents::{Method, NewAgent, PinnedLeaf},
    sqlite::Database,
};

pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("data/mcp_proxy.db")
    }

    pub(crate) fn with_fixture(name: &str) -> Self {
        let place = Self::new();
        std::fs::create_dir_all(place.path().parent().unwrap()).unwrap();
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/");
        std::fs::write(place.path(), std::fs::read(format!("{fixture}{name}")).unwrap()).unwrap();
        place
    }

    pub(crate) fn open(&self) -> Result<(Arc<Database>, mastio_store::Adoption), OpenError> {
        let backups = self.dir.path().join("backups");
        Database::open(&OpenOptions {
            path: &self.path(),
            backups: &backups,
            now: Stamp::from_unix(1_790_000_000),
        })
    }

    pub(crate) fn store(&self) -> Store {
        let org = OrgId::parse("acme").unwrap();
        Store::start(self.open().unwrap().0, org, Arc::new(SystemClock::default()), &SystemRng).unwrap()
    }

    pub(crate) fn count(&self, table: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn sql(&self, sql: &str) -> rusqlite::Result<()> {
        rusqlite::Connection::open(self.path())?.execute_batch(sql)
    }

    /// Every table, index and trigger with the text that made it.
    pub(crate) fn schema(&self) -> Vec<(String, Option<String>)> {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        let mut statement = connection.prepare("SELECT name, sql FROM sqlite_master ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }
}

pub(crate) fn told(by: &str) -> Event {
    Event::new(&catalogue::AgentDeactivated { by: by.to_owned() })
}

pub(crate) fn alice() -> AgentId {
    AgentId::parse("acme::alice").unwrap()
}

pub(crate) fn new_agent(id: &AgentId) -> [Statement; 2] {
    let leaf = PinnedLeaf {
        thumbprint: Thumbprint::of(b"leaf"),
        spki_sha256: Thumbprint::of(id.as_str().as_bytes()).to_string(),
        not_after: Stamp::from_unix(2),
        issuer: None,
    };
    NewAgent {
        id,
        display_name: "Alice",
        capabilities: &["order.read".to_owned()],
        certificates: "PEM",
        leaf: &leaf,
        method: Method::Admin,
        dpop_jkt: None,
        spiffe_id: None,
        federated: false,
        device_info: None,
        kind: PrincipalKind::Agent,
        reuse: false,
        at: Stamp::from_unix(1),
    }
    .insert()
}
