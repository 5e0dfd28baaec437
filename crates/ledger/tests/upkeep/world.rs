//! An organisation `acme` whose audit log is at hand, also behind the server's back.

use std::{sync::Arc, time::Duration};

use mastio_authority::{Authority, boot};
use mastio_config::{Settings, Source};
use mastio_core::{AgentId, Clock, Event, ManualClock, SeededRng, Stamp, event::catalogue};
use mastio_ledger::Ledger;
use mastio_store::Unit;

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) ledger: Ledger,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap()).await
    }

    /// Starts anew in the folder of another one, which has let go of it.
    pub(crate) async fn over(dir: tempfile::TempDir) -> Self {
        let environment =
            [("MCP_PROXY_ADMIN_SECRET", "4f1c0b6d9e2a4f1c0b6d9e2a4f1c0b6d"), ("MCP_PROXY_ORG_ID", "acme")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = Settings::load(&Source::new(environment, ""), dir.path()).unwrap().settings;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Stamp::from_unix(1_790_000_000)));
        let authority = boot::start(settings, clock, Arc::new(SeededRng::new(7))).await.unwrap();
        Self { ledger: Ledger::new(Arc::clone(&authority)), authority, dir }
    }

    /// Lets go of the database and starts again.
    pub(crate) async fn restarted(self) -> Self {
        let Self { dir, authority, ledger } = self;
        let gone = Arc::downgrade(&authority);
        drop((authority, ledger));
        let lock = dir.path().join("data/mcp_proxy.db-wal");
        for _ in 0..2000 {
            if gone.strong_count() == 0 && !lock.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self::over(dir).await
    }

    pub(crate) fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.dir.path().join("data/mcp_proxy.db")).unwrap()
    }

    /// What somebody does who can write the file and cares for no trigger.
    pub(crate) fn tamper(&self, sql: &str) {
        let drop = "DROP TRIGGER local_audit_no_update; DROP TRIGGER local_audit_no_delete;
            DROP TRIGGER local_audit_guard;";
        let database = self.database();
        // A second time they are gone.
        let _ = database.execute_batch(drop);
        database.execute_batch(sql).unwrap();
    }

    /// Appends so many entries.
    pub(crate) async fn append(&self, entries: u32) {
        for entry in 0..entries {
            let event = catalogue::OneshotDelivered {
                msg_id: format!("m-{entry}"),
                correlation_id: "c".into(),
                sender_agent_id: "acme::alice".into(),
            };
            self.tell(Event::new(&event).about("acme::bob").within("c")).await;
        }
    }

    pub(crate) async fn tell(&self, event: Event) {
        self.authority.commit(Unit::of(event)).await.unwrap();
    }

    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// How often the log tells of `event`.
    pub(crate) fn told(&self, event: &str) -> i64 {
        self.count(&format!("SELECT count(*) FROM local_audit WHERE event_type = '{event}'"))
    }

    pub(crate) fn chain_ok(&self, chain: &str) -> i64 {
        self.authority.metrics.audit.chain_ok.with_label_values(&[chain]).get()
    }
}

pub(crate) fn agent(name: &str) -> AgentId {
    AgentId::parse(&format!("acme::{name}")).unwrap()
}
