//! Rotations of the Org CA, table `pki_rotations`: sagas whose row says which phase they are in. One is open at a time.

pub mod following;

use mastio_core::{Stamp, Thumbprint};

use crate::{Query, ReadError, Row, RowError, Statement, sqlite::Database};

const TABLE: &str = "pki_rotations";

/// Where the new root comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is made here.
    Mint,
    /// The operator brings it.
    Upload,
}

impl Mode {
    /// The word in the column `mode`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::Upload => "upload",
        }
    }

    /// The mode behind a word.
    ///
    /// # Errors
    /// When it is another word.
    pub fn parse(word: &str) -> Result<Self, &'static str> {
        match word {
            "mint" => Ok(Self::Mint),
            "upload" => Ok(Self::Upload),
            _ => Err("is neither mint nor upload"),
        }
    }
}

/// How agents get from the old root to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Transition {
    /// All at once: every certificate of before ends.
    Cut,
    /// One after the other, both roots being believed meanwhile.
    Overlap,
}

impl Transition {
    /// The word in the column `transition`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Overlap => "overlap",
        }
    }

    /// The transition behind a word.
    ///
    /// # Errors
    /// When it is another word.
    pub fn parse(word: &str) -> Result<Self, &'static str> {
        match word {
            "cut" => Ok(Self::Cut),
            "overlap" => Ok(Self::Overlap),
            _ => Err("is neither cut nor overlap"),
        }
    }
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The new CAs are stored, and nothing else happened.
    Staged,
    /// Overlap: both roots are believed, and agents fetch the trust file that says so.
    Distribute,
    /// Overlap: agents are certified under the new root, the server still shows the old one.
    Reissue,
    /// Overlap: the new root is the active one, the old one is still believed.
    Activated,
    /// Over.
    Done,
    /// Given up; what was before is again.
    Aborted,
}

impl Phase {
    /// The word in the column `phase`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Distribute => "distribute",
            Self::Reissue => "reissue",
            Self::Activated => "activated",
            Self::Done => "done",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the rotation is over.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Aborted)
    }

    /// The phase behind a word.
    ///
    /// # Errors
    /// When it is another word.
    pub fn parse(word: &str) -> Result<Self, &'static str> {
        [Self::Staged, Self::Distribute, Self::Reissue, Self::Activated, Self::Done, Self::Aborted]
            .into_iter()
            .find(|phase| phase.as_str() == word)
            .ok_or("is no phase of a rotation")
    }
}

/// A rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its name: a UUID.
    pub id: String,
    /// Where the new root comes from.
    pub mode: Mode,
    /// How agents get to it.
    pub transition: Transition,
    /// How far it is.
    pub phase: Phase,
    /// Whether it goes on by itself.
    pub paused: bool,
    /// Whether the old key may be known to others.
    pub compromise: bool,
    /// The root of before.
    pub old_root: Thumbprint,
    /// The root that it brings.
    pub new_root: Thumbprint,
    /// Who began it.
    pub started_by: String,
    /// When.
    pub started_at: Stamp,
    /// When its phase changed last.
    pub changed_at: Stamp,
    /// When it was over.
    pub ended_at: Option<Stamp>,
    /// Why it was given up, or does not go on.
    pub error: Option<String>,
}

impl Rotation {
    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            id: row.text("id")?.to_owned(),
            mode: row.parse("mode", Mode::parse)?,
            transition: row.parse("transition", Transition::parse)?,
            phase: row.parse("phase", Phase::parse)?,
            paused: row.int("paused")? != 0,
            compromise: row.int("compromise")? != 0,
            old_root: row.parse("old_root", Thumbprint::parse)?,
            new_root: row.parse("new_root", Thumbprint::parse)?,
            started_by: row.text("started_by")?.to_owned(),
            started_at: row.stamp("started_at")?,
            changed_at: row.stamp("changed_at")?,
            ended_at: row.stamp_or_null("ended_at")?,
            error: row.text_or_null("error")?.map(str::to_owned),
        })
    }

    /// Begins it, rejected by a constraint while another is open.
    #[must_use]
    pub fn begin(&self) -> Statement {
        Statement::one(
            "INSERT INTO pki_rotations (id, mode, transition, phase, paused, compromise, old_root, new_root, started_by, \
                 started_at, changed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            vec![
                self.id.as_str().into(),
                self.mode.as_str().into(),
                self.transition.as_str().into(),
                self.phase.as_str().into(),
                self.paused.into(),
                self.compromise.into(),
                self.old_root.into(),
                self.new_root.into(),
                self.started_by.as_str().into(),
                self.started_at.into(),
                self.changed_at.into(),
            ],
        )
    }

    /// From its phase to another; touches no row when it has moved on since it was read.
    #[must_use]
    pub fn enter(&self, phase: Phase, at: Stamp) -> Statement {
        let ended = phase.is_end().then_some(at);
        Statement::one(
            "UPDATE pki_rotations SET phase = ?3, changed_at = ?4, ended_at = ?5, error = NULL \
             WHERE id = ?1 AND phase = ?2 AND ended_at IS NULL",
            vec![
                self.id.as_str().into(),
                self.phase.as_str().into(),
                phase.as_str().into(),
                at.into(),
                ended.into(),
            ],
        )
    }

    /// Says why it does not go on, or that it does; nothing happens when it is over.
    #[must_use]
    pub fn set_error(&self, error: Option<&str>) -> Statement {
        Statement::any(
            "UPDATE pki_rotations SET error = ?2 WHERE id = ?1 AND phase = ?3 AND ended_at IS NULL",
            vec![self.id.as_str().into(), error.map(str::to_owned).into(), self.phase.as_str().into()],
        )
    }

    /// Gives it up in the phase in which it is; touches no row when it has moved on since it was read.
    #[must_use]
    pub fn give_up(&self, error: &str, at: Stamp) -> Statement {
        Statement::one(
            "UPDATE pki_rotations SET phase = 'aborted', changed_at = ?3, ended_at = ?3, error = ?4 \
             WHERE id = ?1 AND phase = ?2 AND ended_at IS NULL",
            vec![self.id.as_str().into(), self.phase.as_str().into(), at.into(), error.into()],
        )
    }
}

/// A guard: rejects its unit while a rotation is under way.
#[must_use]
pub fn none_is_open() -> Statement {
    Statement::none("UPDATE pki_rotations SET changed_at = changed_at WHERE ended_at IS NULL", vec![])
}

/// A guard: rejects its unit while the CAs of a rotation are stored and nothing else of it happened.
#[must_use]
pub fn none_is_staged() -> Statement {
    Statement::none(
        "UPDATE pki_rotations SET changed_at = changed_at WHERE phase = 'staged' AND ended_at IS NULL",
        vec![],
    )
}

fn select(condition: &str) -> String {
    format!(
        "SELECT id, mode, transition, phase, paused, compromise, old_root, new_root, started_by, started_at, changed_at, \
         ended_at, error FROM pki_rotations {condition}"
    )
}

/// The rotation that is under way, if one is.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub fn open(database: &Database) -> Result<Option<Rotation>, ReadError> {
    first(database, select("WHERE ended_at IS NULL"), vec![])
}

/// The rotation of this name.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub fn find(database: &Database, id: &str) -> Result<Option<Rotation>, ReadError> {
    first(database, select("WHERE id = ?1"), vec![id.into()])
}

fn first(database: &Database, sql: String, values: Vec<crate::Value>) -> Result<Option<Rotation>, ReadError> {
    let rows = database.rows_now(&Query { table: TABLE, sql: sql.into(), values })?;
    Ok(rows.first().map(Rotation::read).transpose()?)
}

/// The roots of rotations that were given up, but for those that active agents have certificates of that were brought.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn aborted(database: &Database) -> Result<Vec<Thumbprint>, ReadError> {
    let sql = "SELECT id, new_root FROM pki_rotations r WHERE phase = 'aborted' AND NOT EXISTS ( \
        SELECT 1 FROM rotation_moves m JOIN internal_agents a ON a.agent_id = m.agent_id \
        JOIN agent_certs c ON c.agent_id = a.agent_id WHERE m.rotation_id = r.id AND c.issuer IS NULL \
        AND coalesce(a.enrollment_method, '') <> 'spiffe' AND a.is_active <> 0)";
    let rows = database.rows_now(&Query::new(TABLE, sql, vec![]))?;
    let root = |row: &Row| row.parse("new_root", Thumbprint::parse);
    rows.iter().map(root).collect::<Result<_, _>>().map_err(Into::into)
}

/// The newest rotations, at most `limit`.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn newest(database: &Database, limit: i64) -> Result<Vec<Rotation>, ReadError> {
    let sql = select("ORDER BY started_at DESC, rowid DESC LIMIT ?1").into();
    let rows = database.rows_now(&Query { table: TABLE, sql, values: vec![limit.into()] })?;
    rows.iter().map(Rotation::read).collect::<Result<_, _>>().map_err(Into::into)
}
