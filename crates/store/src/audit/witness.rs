//! What a witness keeps of the logs it watches, and what was seen that cannot all be true.

use std::time::Duration;

use mastio_audit::{checkpoint::SignedCheckpoint, note::Name, tree::TreeHead};
use mastio_core::{Stamp, hash_from_hex};

use crate::{Query, ReadError, Row, RowError, Statement, Store, sqlite::Database};

const LOGS: &str = "witnessed_logs";
const SPLIT_VIEWS: &str = "audit_split_views";

/// What is kept of one log in a day, proved and suspected apart: its log key alone can make more, and the database is
/// ours. The first that is proved while none is open is always kept.
const DAILY_SPLIT_VIEWS: i64 = 16;
const DAY: Duration = Duration::from_hours(24);

/// The checkpoint of a log that was cosigned last.
#[derive(Debug, Clone)]
pub struct Witnessed {
    /// Which log.
    pub origin: Name,
    /// Its tree.
    pub head: TreeHead,
    /// The note, with the log's own signature.
    pub note: SignedCheckpoint,
    /// When it was cosigned.
    pub seen_at: Stamp,
}

impl Witnessed {
    fn read(row: &Row) -> Result<Self, RowError> {
        let size = u64::try_from(row.int("tree_size")?).map_err(|error| row.bad("tree_size", error))?;
        Ok(Self {
            origin: row.parse("origin", Name::parse)?,
            head: TreeHead { size, root: row.parse("root_hash", hash_from_hex)? },
            note: row.parse("note", SignedCheckpoint::parse)?,
            seen_at: row.stamp("seen_at")?,
        })
    }
}

/// What was cosigned last of the log `origin`.
///
/// # Errors
/// When the database cannot be read.
pub async fn last(store: &Store, origin: &Name) -> Result<Option<Witnessed>, ReadError> {
    let sql = "SELECT origin, tree_size, root_hash, note, seen_at FROM witnessed_logs WHERE origin = ?1";
    let rows = store.rows(Query::new(LOGS, sql, vec![origin.as_str().into()])).await?;
    Ok(rows.first().map(Witnessed::read).transpose()?)
}

/// Every log that was cosigned, by origin.
///
/// # Errors
/// When the database cannot be read.
pub async fn all(store: &Store) -> Result<Vec<Witnessed>, ReadError> {
    let sql = "SELECT origin, tree_size, root_hash, note, seen_at FROM witnessed_logs ORDER BY origin";
    let rows = store.rows(Query::new(LOGS, sql, vec![])).await?;
    rows.iter().map(Witnessed::read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// Goes on from `known` to `next` and touches no row when another checkpoint was cosigned since. `known` is
/// [`TreeHead::empty`] for a log that was never cosigned.
#[must_use]
pub fn advance(known: &TreeHead, next: &Witnessed) -> Statement {
    Statement::one(
        "INSERT INTO witnessed_logs (origin, tree_size, root_hash, note, seen_at) SELECT ?1, ?2, ?3, ?4, ?5 \
         WHERE coalesce((SELECT tree_size FROM witnessed_logs WHERE origin = ?1), 0) = ?6 \
         AND coalesce((SELECT root_hash FROM witnessed_logs WHERE origin = ?1), ?8) = ?7 \
         ON CONFLICT (origin) DO UPDATE SET tree_size = excluded.tree_size, root_hash = excluded.root_hash, \
         note = excluded.note, seen_at = excluded.seen_at",
        vec![
            next.origin.as_str().into(),
            next.head.size.cast_signed().into(),
            hex::encode(next.head.root).into(),
            next.note.as_str().into(),
            next.seen_at.into(),
            known.size.cast_signed().into(),
            hex::encode(known.root).into(),
            hex::encode(TreeHead::empty().root).into(),
        ],
    )
}

/// Two things that a log said of which at most one can be true. Nobody has acknowledged it yet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SplitView {
    /// Which log.
    pub origin: String,
    /// The note that was there first.
    pub known: String,
    /// The note that contradicts it, or what a witness of ours answered.
    pub other: String,
    /// When.
    pub seen_at: Stamp,
    /// How many entries `other` has, if no more is known than that the log does not prove it; then it ends when the log
    /// proves a checkpoint of at least that size.
    pub suspected_size: Option<u64>,
}

impl SplitView {
    fn read(row: &Row) -> Result<Self, RowError> {
        let owned = |column| row.text(column).map(str::to_owned);
        Ok(Self {
            origin: owned("origin")?,
            known: owned("known")?,
            other: owned("other")?,
            seen_at: row.stamp("seen_at")?,
            suspected_size: row.int_or_null("suspected_size")?.map(i64::unsigned_abs),
        })
    }
}

/// Keeps a split view. It touches no row when the pair or the contradiction is known, when enough is known of this log
/// today, or when another suspicion of it is open.
#[must_use]
pub fn keep(split: &SplitView) -> Statement {
    Statement::one(
        "INSERT OR IGNORE INTO audit_split_views (origin, known, other, seen_at, suspected_size) \
         SELECT ?1, ?2, ?3, ?4, ?5 FROM (SELECT count(*) FILTER (WHERE seen_at > ?7) AS today, \
            count(*) FILTER (WHERE acknowledged_at IS NULL) AS open \
            FROM audit_split_views WHERE origin = ?1 AND (suspected_size IS NULL) = (?5 IS NULL)) \
         WHERE CASE WHEN ?5 IS NULL THEN open = 0 OR today < ?6 ELSE open = 0 AND today < ?6 END \
         AND NOT EXISTS (SELECT 1 FROM audit_split_views WHERE origin = ?1 AND other = ?3 \
            AND acknowledged_at IS NULL AND (suspected_size IS NULL) >= (?5 IS NULL))",
        vec![
            split.origin.as_str().into(),
            split.known.as_str().into(),
            split.other.as_str().into(),
            split.seen_at.into(),
            split.suspected_size.map(u64::cast_signed).into(),
            DAILY_SPLIT_VIEWS.into(),
            split.seen_at.minus(DAY).into(),
        ],
    )
}

/// What nobody has acknowledged yet, oldest first.
///
/// # Errors
/// When the database cannot be read.
pub async fn open(store: &Store) -> Result<Vec<SplitView>, ReadError> {
    let sql = "SELECT origin, known, other, seen_at, suspected_size FROM audit_split_views WHERE acknowledged_at IS NULL ORDER BY id";
    let rows = store.rows(Query::new(SPLIT_VIEWS, sql, vec![])).await?;
    rows.iter().map(SplitView::read).collect::<Result<_, RowError>>().map_err(Into::into)
}

/// How many split views nobody has acknowledged.
///
/// # Errors
/// When the database cannot be read.
pub fn count_open(database: &Database) -> Result<i64, ReadError> {
    let sql =
        "SELECT 'open' AS what, count(*) AS number FROM audit_split_views WHERE acknowledged_at IS NULL";
    let rows = database.rows_now(&Query::new(SPLIT_VIEWS, sql, vec![]))?;
    rows.first().map_or(Ok(0), |row| row.int("number").map_err(Into::into))
}

/// An operator has seen the `count` open split views of a log, and no others.
#[must_use]
pub fn acknowledge(origin: &str, count: usize, now: Stamp) -> Statement {
    let sql =
        "UPDATE audit_split_views SET acknowledged_at = ?2 WHERE origin = ?1 AND acknowledged_at IS NULL";
    Statement { sql: sql.into(), values: vec![origin.into(), now.into()], rows: Some(count) }
}

/// The log proved a checkpoint of `size` entries: what was only suspected up to there ends. What is proved stays.
#[must_use]
pub fn clear(origin: &Name, size: u64, now: Stamp) -> Statement {
    Statement::any(
        "UPDATE audit_split_views SET acknowledged_at = ?3 \
         WHERE origin = ?1 AND suspected_size <= ?2 AND acknowledged_at IS NULL",
        vec![origin.as_str().into(), size.cast_signed().into(), now.into()],
    )
}
