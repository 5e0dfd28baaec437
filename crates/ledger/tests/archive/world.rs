//! An organisation `acme` with a log that grows a day at a time, and a folder for its archives.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mastio_audit::ChainReport;
use mastio_authority::{Authority, boot};
use mastio_config::{Settings, Source};
use mastio_core::{Clock, Event, ManualClock, SeededRng, Stamp, event::catalogue};
use mastio_ledger::{
    Ledger,
    archive::{ArchiveError, Wanted},
};
use mastio_store::{
    Unit,
    audit::{
        archive::{Job, Mark},
        verify_file,
    },
};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ledger: Ledger,
}

impl World {
    /// A fresh one, at the beginning of its first day.
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same with these settings.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let clock = Arc::new(ManualClock::at(Stamp::parse("2026-01-01T00:00:00Z").unwrap()));
        Self::over(tempfile::tempdir().unwrap(), clock, settings).await
    }

    async fn over(dir: tempfile::TempDir, clock: Arc<ManualClock>, settings: &[(&str, &str)]) -> Self {
        let fixed =
            [("MCP_PROXY_ADMIN_SECRET", "4f1c0b6d9e2a4f1c0b6d9e2a4f1c0b6d"), ("MCP_PROXY_ORG_ID", "acme")];
        let environment =
            fixed.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Settings::load(&Source::new(environment, ""), dir.path()).unwrap().settings;
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let authority = boot::start(settings, shared, Arc::new(SeededRng::new(7))).await.unwrap();
        Self { ledger: Ledger::new(authority), clock, dir }
    }

    /// Lets go of the database, whatever was under way, and starts again.
    pub(crate) async fn restarted(self) -> Self {
        let Self { dir, clock, ledger } = self;
        let gone = Arc::downgrade(ledger.authority());
        drop(ledger);
        for _ in 0..2000 {
            if gone.strong_count() == 0 && !dir.path().join("data/mcp_proxy.db-wal").exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self::over(dir, clock, &[]).await
    }

    pub(crate) fn authority(&self) -> &Arc<Authority> {
        self.ledger.authority()
    }

    pub(crate) fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.dir.path().join("data/mcp_proxy.db")).unwrap()
    }

    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// How often the log tells of `event`.
    pub(crate) fn told(&self, event: &str) -> i64 {
        self.count(&format!("SELECT count(*) FROM local_audit WHERE event_type = '{event}'"))
    }

    /// What somebody does who can write the file and cares for no trigger.
    pub(crate) fn tamper(&self, sql: &str) {
        let database = self.database();
        database
            .execute_batch("DROP TRIGGER local_audit_no_update; DROP TRIGGER local_audit_no_delete;")
            .unwrap();
        database.execute_batch(sql).unwrap();
    }

    /// A day on which so many things happen.
    pub(crate) async fn day(&self, entries: u32) {
        let event = |entry| {
            Event::new(&catalogue::OneshotDelivered {
                msg_id: format!("m-{entry}"),
                correlation_id: "c".into(),
                sender_agent_id: "acme::alice".into(),
            })
            .about("acme::bob")
        };
        let unit = (0..entries).fold(Unit::default(), |unit, entry| unit.tell(event(entry)));
        self.authority().commit(unit).await.unwrap();
        self.clock.advance(DAY);
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("cold/archive")
    }

    pub(crate) fn wanted(&self, before: &str) -> Wanted {
        let before = Stamp::parse_or_day(before).unwrap();
        Wanted { before, out: self.out(), by: "operator:test".into() }
    }

    /// Everything before this day goes.
    pub(crate) async fn archive(&self, before: &str) -> Result<Job, ArchiveError> {
        self.ledger.begin_archive(self.wanted(before)).await?;
        self.ledger.run_archive().await.map(Option::unwrap)
    }

    pub(crate) async fn marks(&self) -> Vec<Mark> {
        self.ledger.archives().await.unwrap().1
    }

    /// The log holds, from the newest mark on.
    pub(crate) fn verifies(&self) -> ChainReport {
        let findings = verify_file(&self.dir.path().join("data/mcp_proxy.db"), &mut |_| {}).unwrap();
        let [acme] = findings.try_into().unwrap();
        acme.result.unwrap()
    }

    /// The names of all entries from `first` on.
    pub(crate) fn events_from(&self, first: i64) -> Vec<String> {
        let database = self.database();
        let mut statement = database
            .prepare("SELECT event_type FROM local_audit WHERE chain_seq >= ?1 ORDER BY chain_seq")
            .unwrap();
        statement.query_map([first], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }
}
