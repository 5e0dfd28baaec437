//! Taking over a database of the Python implementation (contract `audit-and-database.md` §2.6).
//!
//! Its tables stay as they are, except for the guards of the audit log and the alias column `ts`; ours are added.
//! `alembic_version` stays. A copy is made before the first write: that is the way back.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    lock::{LockRefused, ServerLock, beside, is_held},
    open::{OpenError, OpenOptions, has_table},
    readers, schema,
    session::open_for_writing,
};
use crate::{Statement, Touch};

/// The revision of the Python implementation's schema that we adopt.
pub(super) const REVISION: &str = "0042_audit_log_v2";

/// Its background tasks; each holds `<database>.<task>.lock` while it runs.
const TASKS: [&str; 13] = [
    "mastio_ca_rotation_watcher",
    "cert_expiry_watcher",
    "agent_cert_grace_cleanup",
    "nginx_cert_watcher",
    "local_sweeper",
    "mdm_intune_poller",
    "attestation_stale_watcher",
    "federation_subscriber",
    "federation_publisher",
    "federation_stats_publisher",
    "federation_audit_publisher",
    "anomaly_evaluator",
    "quarantine_expiry",
];

/// Its times of enrollments have several forms. Those of a row that has not the one of `Stamp` are written so, because
/// statements compare them as text; what is no time stays.
const SAME_TIMES: &str = "UPDATE pending_enrollments SET \
    created_at = strftime('%Y-%m-%dT%H:%M:%f', created_at) || '000+00:00', \
    expires_at = strftime('%Y-%m-%dT%H:%M:%f', expires_at) || '000+00:00' \
    WHERE strftime('%s', created_at) IS NOT NULL AND strftime('%s', expires_at) IS NOT NULL \
    AND NOT (created_at GLOB '*T*.??????+00:00' AND expires_at GLOB '*T*.??????+00:00')";

/// How much newer than its write-ahead log a database may be: a checkpoint follows its commit at once.
const WAL_TOLERANCE: Duration = Duration::from_secs(5);

/// Whether this database was written by the Python implementation and our audit log does not say so yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The revision found and where the copy lies; `None` when there is nothing to tell.
    pub unsealed: Option<Adopted>,
}

/// An adoption that the audit log must tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// What `alembic_version` held.
    pub revision: String,
    /// The copy made before the first write.
    pub backup: PathBuf,
}

impl Adoption {
    pub(super) fn none() -> Self {
        Self { unsealed: None }
    }

    /// The statement that goes with the events that tell the adoption.
    #[must_use]
    pub fn sealed() -> (Statement, Touch) {
        let sql = "UPDATE cullis_schema SET adoption_sealed = 1 WHERE id = 1 AND adoption_sealed = 0";
        (Statement::one(sql, vec![]), Touch::Trust)
    }
}

/// What an earlier adoption has still to tell: its events go with the first unit after it.
pub(super) fn unsealed(path: &Path) -> rusqlite::Result<Adoption> {
    let row = readers::open(path)?
        .query_row("SELECT adopted_from FROM cullis_schema WHERE id = 1 AND adoption_sealed = 0", [], |row| {
            row.get::<_, Option<String>>(0)
        })
        .optional()?
        .flatten();
    let unsealed = row.and_then(|text| {
        let (revision, backup) = text.split_once(' ')?;
        Some(Adopted { revision: revision.to_owned(), backup: backup.into() })
    });
    Ok(Adoption { unsealed })
}

pub(super) fn adopt(options: &OpenOptions<'_>) -> Result<Adoption, OpenError> {
    let path = options.path;
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let _migrations = refuse_running(path)?;
    refuse_stale_wal(path)?;
    let connection = open_for_writing(path).map_err(sqlite)?;
    let revision = revision(&connection).map_err(sqlite)?;
    if revision != REVISION {
        return Err(OpenError::Revision { revision });
    }
    let finding: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
    if finding != "ok" {
        return Err(OpenError::Damaged { finding });
    }
    let backup = copy(&connection, options)?;
    extend(connection, options, &revision, &backup).map_err(sqlite)?;
    Ok(Adoption { unsealed: Some(Adopted { revision, backup }) })
}

/// Refuses while the Python implementation holds its migration lock or a task's lock. Ours while it is held: the
/// migration lock.
fn refuse_running(path: &Path) -> Result<ServerLock, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        |source| OpenError::Io { path, source }
    };
    let migration = beside(path, ".alembic.lock");
    let held = ServerLock::take(&migration).map_err(|refused| match refused {
        LockRefused::Held(_) => OpenError::PythonRuns { lock: migration.clone() },
        LockRefused::Io(source) => io(&migration)(source),
    })?;
    for task in TASKS {
        let lock = beside(path, &format!(".{task}.lock"));
        if is_held(&lock).map_err(io(&lock))? {
            return Err(OpenError::PythonRuns { lock });
        }
    }
    Ok(held)
}

fn refuse_stale_wal(path: &Path) -> Result<(), OpenError> {
    let wal = beside(path, "-wal");
    let modified = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified());
    let pending = std::fs::metadata(&wal).is_ok_and(|meta| meta.len() > 0);
    let stale = match (modified(path), modified(&wal)) {
        (Ok(main), Ok(log)) => main.duration_since(log).is_ok_and(|later| later > WAL_TOLERANCE),
        _ => false,
    };
    if pending && stale { Err(OpenError::StaleWal { wal }) } else { Ok(()) }
}

/// The revisions in `alembic_version`, joined; there is more than one after an interrupted merge.
fn revision(connection: &Connection) -> rusqlite::Result<String> {
    if !has_table(connection, "alembic_version")? {
        return Ok("none".to_owned());
    }
    let mut statement = connection.prepare("SELECT version_num FROM alembic_version ORDER BY version_num")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    Ok(rows.collect::<rusqlite::Result<Vec<_>>>()?.join(" "))
}

/// A consistent copy under `backups/pre-adopt-<time>/`.
fn copy(connection: &Connection, options: &OpenOptions<'_>) -> Result<PathBuf, OpenError> {
    let time: String = options.now.to_string().chars().take(19).filter(char::is_ascii_alphanumeric).collect();
    let folder = options.backups.join(format!("pre-adopt-{time}Z"));
    std::fs::create_dir_all(&folder).map_err(|source| OpenError::Io { path: folder.clone(), source })?;
    let name = options.path.file_name().unwrap_or_else(|| "mcp_proxy.db".as_ref());
    let (target, draft) = (folder.join(name), folder.join(".partial"));
    let io = |source| OpenError::Io { path: draft.clone(), source };
    empty_for_owner(&draft).map_err(io)?;
    connection
        .execute("VACUUM INTO ?1", [draft.to_string_lossy()])
        .map_err(|source| OpenError::Sqlite { path: draft.clone(), source })?;
    let settle = || {
        std::fs::File::open(&draft)?.sync_all()?;
        std::fs::rename(&draft, &target)?;
        std::fs::File::open(&folder)?.sync_all()
    };
    settle().map_err(io)?;
    Ok(target)
}

/// An empty file, which VACUUM INTO accepts. The copy may hold keys: only its owner reads it.
fn empty_for_owner(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

fn extend(
    mut connection: Connection,
    options: &OpenOptions<'_>,
    revision: &str,
    backup: &Path,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for step in schema::STEPS {
        transaction.execute_batch(step)?;
    }
    transaction.execute_batch(schema::AUDIT_GUARDS)?;
    transaction.execute_batch(SAME_TIMES)?;
    transaction.execute(
        "INSERT INTO cullis_schema (id, version, created_at, adopted_from, adoption_sealed) VALUES (1, ?1, ?2, ?3, 0)",
        params![schema::VERSION, options.now.to_string(), format!("{revision} {}", backup.display())],
    )?;
    transaction.commit()
}
