//! SQLite: opening, adopting, reading, and the session that the writer drives.

mod adopt;
mod fault;
mod lock;
mod open;
mod readers;
mod schema;
mod session;

use std::{path::Path, sync::Arc};

use mastio_core::{Clock, OrgId, Rng};

pub use adopt::Adoption;
pub(crate) use fault::fault;
pub(crate) use open::has_table;
pub use open::{OpenError, OpenOptions};

use crate::{
    Committed, Query, ReadError, Row, Unit, WriteError,
    audit::View,
    writer::{self, Notice, Queue, Unavailable},
};

/// An open database that can be read. Become a [`Store`] to write.
#[derive(Debug)]
pub struct Database {
    file: lock::WatchedFile,
    readers: readers::Readers,
    lock: Option<lock::ServerLock>,
}

impl Database {
    /// Opens, creates or adopts the database at `options.path`, and keeps every other server out of it.
    ///
    /// # Errors
    /// With what to do about it. Nothing was changed.
    pub fn open(options: &OpenOptions<'_>) -> Result<(Arc<Self>, Adoption), OpenError> {
        let (database, adoption) = open::open(options)?;
        Ok((Arc::new(database), adoption))
    }

    /// Opens a database that a server may be serving, for a command-line tool. It must be one of ours.
    ///
    /// # Errors
    /// When there is none, or it is another Mastio's version.
    pub fn open_for_tool(path: &Path) -> Result<Arc<Self>, OpenError> {
        open::open_for_tool(path).map(Arc::new)
    }

    /// Opens a database that no server is serving, for a command-line tool, and keeps servers out of it.
    ///
    /// # Errors
    /// As [`Database::open_for_tool`], and when a server is serving it.
    pub fn open_alone(path: &Path) -> Result<Arc<Self>, OpenError> {
        open::open_alone(path).map(Arc::new)
    }

    /// Makes a consistent copy of the database at `path`, of whatever version, in the new file `target`. It holds what
    /// the database holds: the folder must be its owner's alone.
    ///
    /// # Errors
    /// When it cannot be read, or the copy not be written.
    pub fn copy(path: &Path, target: &Path) -> Result<(), OpenError> {
        open::copy(path, target).map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })
    }

    /// Whether a server holds the database at `path` now.
    ///
    /// # Errors
    /// When its lock cannot be looked at.
    pub fn is_served(path: &Path) -> std::io::Result<bool> {
        open::is_served(path)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// All rows of the answer to `query`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn rows(self: &Arc<Self>, query: Query) -> Result<Vec<Row>, ReadError> {
        let database = Arc::clone(self);
        let answered = tokio::task::spawn_blocking(move || database.rows_now(&query)).await;
        answered.unwrap_or_else(|join| Err(Unavailable::Broken(join.to_string()).into()))
    }

    /// The same on the calling thread, for start-up and command-line tools.
    ///
    /// # Errors
    /// As [`Database::rows`].
    pub fn rows_now(&self, query: &Query) -> Result<Vec<Row>, ReadError> {
        self.file.check()?;
        Ok(self.readers.with(|connection| readers::run(connection, query))?)
    }

    /// Reads rows in place, without a copy.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Unavailable> {
        self.file.check()?;
        self.readers.with(read)
    }

    /// The audit log as it is at this moment, for as long as `read` runs, on the calling thread. Entries that are
    /// committed meanwhile are not in it.
    ///
    /// The database cannot shorten its write-ahead log until `read` returns: do not wait for anybody in it without a
    /// limit.
    ///
    /// # Errors
    /// When the database cannot be read, or what `read` returns.
    pub fn audit<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, Unavailable>) -> Result<T, Unavailable> {
        self.file.check()?;
        self.readers.lend(|connection| read(&View::of(connection)?))
    }
}

/// A connection to a database that is not held as a server's: for tools.
pub(crate) fn open_read_only(path: &Path) -> Result<rusqlite::Connection, Unavailable> {
    readers::open(path).map_err(|error| fault(&error))
}

/// A database with its writer.
#[derive(Debug)]
pub struct Store {
    database: Arc<Database>,
    queue: Queue,
    thread: Option<writer::Thread>,
}

impl Store {
    /// Starts the writer for the chain of `org`.
    ///
    /// # Errors
    /// When the database cannot be opened for writing, or no thread can be started.
    pub fn start(
        database: Arc<Database>,
        org: OrgId,
        clock: Arc<dyn Clock>,
        rng: &dyn Rng,
    ) -> Result<Self, Unavailable> {
        let mut connect =
            session::SqliteConnect::new(database.file.clone(), if database.lock.is_some() { 1 } else { 2 });
        let session = writer::Connect::connect(&mut connect)?;
        let (queue, thread) = writer::start(Box::new(connect), session, org, clock, rng)
            .map_err(|error| Unavailable::Broken(format!("no thread for the writer: {error}")))?;
        Ok(Self { database, queue, thread: Some(thread) })
    }

    /// The reading side.
    #[must_use]
    pub fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// All rows of the answer to `query`.
    ///
    /// # Errors
    /// As [`Database::rows`].
    pub async fn rows(&self, query: Query) -> Result<Vec<Row>, ReadError> {
        self.database.rows(query).await
    }

    /// Writes `unit` and waits until it is durable.
    ///
    /// # Errors
    /// When it was refused; then nothing of it is written.
    pub async fn submit(&self, unit: Unit) -> Result<Committed, WriteError> {
        self.queue.submit(unit).await
    }

    /// Hands `unit` to the writer without waiting.
    ///
    /// # Errors
    /// When the queue does not take it.
    pub fn post(&self, unit: Unit) -> Result<(), WriteError> {
        self.queue.post(unit)
    }

    /// Sets who hears of commits.
    pub fn on_commit(&self, hook: impl Fn(&Notice<'_>) + Send + Sync + 'static) {
        self.queue.on_commit(hook);
    }

    /// Moves what is committed into the database file and empties the write-ahead log, where pages of before may be
    /// read still. What was deleted is overwritten in the file when it is (`secure_delete`).
    ///
    /// # Errors
    /// When somebody reads all the while.
    pub async fn forget_deleted(&self) -> Result<(), Unavailable> {
        let file = self.database.file.clone();
        let emptied = tokio::task::spawn_blocking(move || session::empty_log(&file)).await;
        emptied.unwrap_or_else(|join| Err(Unavailable::Broken(join.to_string())))
    }

    /// Why writing fails now, if it does.
    #[must_use]
    pub fn trouble(&self) -> Option<Arc<Unavailable>> {
        self.queue.trouble()
    }

    /// How many units wait for the writer.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.queue.depth()
    }

    /// Commits what is queued, ends the writer and closes the file.
    pub fn close(self) {
        let Self { database, queue, thread } = self;
        drop(queue);
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the writer's thread panicked");
        }
        drop(database);
    }
}
