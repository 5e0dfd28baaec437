//! What to do with the file that is there: create, open, adopt or refuse.

use std::{
    io,
    path::{Path, PathBuf},
};

use mastio_core::Stamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Database,
    adopt::{self, Adoption},
    lock::{self, LockRefused, ServerLock, WatchedFile, beside},
    readers::Readers,
    schema,
    session::open_for_writing,
};

/// What is locked by whoever serves a database, after its name.
const LOCK: &str = ".mastio.lock";

/// Where the database is and what surrounds it.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions<'a> {
    /// The database file.
    pub path: &'a Path,
    /// Where a copy goes before the first write to a database of the Python implementation.
    pub backups: &'a Path,
    /// Now, for the names and stamps of what is made.
    pub now: Stamp,
}

/// Why the database was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another Mastio serves this database.
    #[error("another Mastio{} is serving {path}; stop it first", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Served {
        /// The database.
        path: PathBuf,
        /// Its process, if it says so.
        pid: Option<u32>,
    },
    /// The Python implementation runs on this database.
    #[error("the Python implementation still runs on this database (it holds {lock}); stop it first")]
    PythonRuns {
        /// The lock file that is held.
        lock: PathBuf,
    },
    /// There is no database of ours yet.
    #[error("{path} has not been served by this Mastio yet; start it once with: mastio serve")]
    NotServedYet {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by something we do not know.
    #[error(
        "{path} is an SQLite database of something else; point MCP_PROXY_DATABASE_URL at the Mastio's own"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is from a newer Mastio.
    #[error(
        "the database has schema version {found}, this Mastio knows up to {known}; run the newer Mastio, or restore the backup made before the upgrade"
    )]
    Newer {
        /// What it has.
        found: i64,
        /// What we know.
        known: i64,
    },
    /// A revision of the Python implementation that cannot be adopted.
    #[error("the database is at revision {revision:?} of the Python implementation; bring it to {known} with its newest release, then start this Mastio", known = adopt::REVISION)]
    Revision {
        /// What `alembic_version` holds.
        revision: String,
    },
    /// SQLite finds the file damaged.
    #[error("the database is damaged ({finding}); restore the newest backup")]
    Damaged {
        /// The first finding.
        finding: String,
    },
    /// A write-ahead log that seems to belong to another copy of the database.
    #[error(
        "{wal} is older than the database beside it, as after restoring a copy over a running system; if the database was restored, delete that file and its -shm, else open the database once with sqlite3 and run PRAGMA wal_checkpoint(TRUNCATE)"
    )]
    StaleWal {
        /// The file.
        wal: PathBuf,
    },
    /// The file system.
    #[error("unable to open database file {path}: {source}")]
    Io {
        /// What was opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite.
    #[error("unable to open database file {path}: {source}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

pub(super) fn open(options: &OpenOptions<'_>) -> Result<(Database, Adoption), OpenError> {
    let path = options.path;
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io)?;
    }
    let lock = take_lock(path)?;
    let adoption = match contents(path).map_err(sqlite)? {
        Contents::Nothing => create(path, options.now).map(|()| Adoption::none()).map_err(sqlite)?,
        Contents::Ours { version } if version > schema::VERSION => {
            return Err(OpenError::Newer { found: version, known: schema::VERSION });
        }
        Contents::Ours { version } => {
            upgrade(path, version).map_err(sqlite)?;
            adopt::unsealed(path).map_err(sqlite)?
        }
        Contents::Python => adopt::adopt(options)?,
        Contents::Foreign => return Err(OpenError::Foreign { path: path.to_owned() }),
    };
    let file = WatchedFile::at(path).map_err(io)?;
    Ok((Database { file, readers: Readers::of(path), lock: Some(lock) }, adoption))
}

fn take_lock(path: &Path) -> Result<ServerLock, OpenError> {
    ServerLock::take(&beside(path, LOCK)).map_err(|refused| match refused {
        LockRefused::Held(pid) => OpenError::Served { path: path.to_owned(), pid },
        LockRefused::Io(source) => OpenError::Io { path: path.to_owned(), source },
    })
}

pub(super) fn is_served(path: &Path) -> io::Result<bool> {
    lock::is_held(&beside(path, LOCK))
}

pub(super) fn copy(path: &Path, target: &Path) -> rusqlite::Result<()> {
    super::readers::open(path)?.execute("VACUUM INTO ?1", [target.to_string_lossy()]).map(drop)
}

pub(super) fn open_for_tool(path: &Path) -> Result<Database, OpenError> {
    match contents(path).map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })? {
        Contents::Ours { version } if version > schema::VERSION => {
            Err(OpenError::Newer { found: version, known: schema::VERSION })
        }
        Contents::Ours { version } if version < schema::VERSION => {
            Err(OpenError::NotServedYet { path: path.to_owned() })
        }
        Contents::Ours { .. } => {
            let file =
                WatchedFile::at(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
            Ok(Database { file, readers: Readers::of(path), lock: None })
        }
        Contents::Nothing | Contents::Python => Err(OpenError::NotServedYet { path: path.to_owned() }),
        Contents::Foreign => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

pub(super) fn open_alone(path: &Path) -> Result<Database, OpenError> {
    let database = open_for_tool(path)?;
    Ok(Database { lock: Some(take_lock(path)?), ..database })
}

/// Makes the file if need be, readable and writable by its owner only.
fn restrict(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = std::fs::File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// What a database file holds.
enum Contents {
    Nothing,
    Ours { version: i64 },
    Python,
    Foreign,
}

fn contents(path: &Path) -> rusqlite::Result<Contents> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0) || !path.exists() {
        return Ok(Contents::Nothing);
    }
    let connection = super::readers::open(path)?;
    if has_table(&connection, "cullis_schema")? {
        let version = connection
            .query_row("SELECT version FROM cullis_schema WHERE id = 1", [], |row| row.get(0))
            .optional()?;
        return Ok(Contents::Ours { version: version.unwrap_or(schema::VERSION) });
    }
    for table in ["alembic_version", "internal_agents", "audit_log", "proxy_config"] {
        if has_table(&connection, table)? {
            return Ok(Contents::Python);
        }
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    Ok(if tables == 0 { Contents::Nothing } else { Contents::Foreign })
}

pub(crate) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection
        .query_row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1", [name], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

/// Takes the steps that a database of an older Mastio lacks, all or none.
fn upgrade(path: &Path, version: i64) -> rusqlite::Result<()> {
    let taken = usize::try_from(version).unwrap_or(0);
    if taken >= schema::STEPS.len() {
        return Ok(());
    }
    let mut connection = open_for_writing(path)?;
    let transaction = connection.transaction()?;
    for step in &schema::STEPS[taken..] {
        transaction.execute_batch(step)?;
    }
    transaction.execute("UPDATE cullis_schema SET version = ?1 WHERE id = 1", [schema::VERSION])?;
    transaction.commit()
}

/// A fresh database, whole or not at all, for its owner's eyes: it may hold keys.
fn create(path: &Path, now: Stamp) -> rusqlite::Result<()> {
    restrict(path).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let mut connection = open_for_writing(path)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(schema::SHARED_TABLES)?;
    for step in schema::STEPS {
        transaction.execute_batch(step)?;
    }
    transaction.execute_batch(schema::AUDIT_GUARDS)?;
    transaction.execute(
        "INSERT INTO cullis_schema (id, version, created_at, adopted_from, adoption_sealed) VALUES (1, ?1, ?2, NULL, 1)",
        params![schema::VERSION, now.to_string()],
    )?;
    transaction.commit()
}
