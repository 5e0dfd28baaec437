//! The CA registry, table `pki_cas`: every root and intermediate that this organisation had, has, or is about to have.

pub mod leaves;

use mastio_core::{Stamp, Thumbprint};
use secrecy::{ExposeSecret, SecretString};

use crate::{Query, ReadError, Row, RowError, Statement, keys::CaKind, sqlite::Database};

const TABLE: &str = "pki_cas";

/// Where a CA is in its life. There is one active CA of each kind, and at most one staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CaState {
    /// Made or brought, and not in use yet.
    Staged,
    /// Certifies.
    Active,
    /// Another took its place. Whether what it certified still logs in says [`CaRow::cut`].
    Superseded,
    /// Believed by nobody any more; kept as history.
    Retired,
}

impl CaState {
    /// The word in the column `state`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Superseded => "superseded",
            Self::Retired => "retired",
        }
    }

    fn parse(word: &str) -> Result<Self, &'static str> {
        [Self::Staged, Self::Active, Self::Superseded, Self::Retired]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or("is no state of a CA")
    }
}

/// A row of the registry.
#[derive(Debug, Clone)]
pub struct CaRow {
    /// SHA-256 of the certificate.
    pub thumbprint: Thumbprint,
    /// Root or intermediate.
    pub kind: CaKind,
    /// Where it is in its life.
    pub state: CaState,
    /// The certificate in PEM.
    pub certificate: String,
    /// Its private key as custody wraps it; `None` when it is active (then custody has it), wiped, or elsewhere.
    pub private: Option<SecretString>,
    /// What it certified does not log in any more.
    pub cut: bool,
    /// Its key may be known to others: it vouches for nothing.
    pub compromised: bool,
    /// A superseded root's certificate for its successor, in PEM.
    pub link: Option<String>,
    /// The same as a signed statement (see `mastio_pki::lineage`).
    pub lineage: Option<String>,
    /// Since when we have it.
    pub created_at: Stamp,
    /// Since when it certified.
    pub activated_at: Option<Stamp>,
    /// Since when another does.
    pub superseded_at: Option<Stamp>,
    /// Since when it is believed no more.
    pub retired_at: Option<Stamp>,
}

impl CaRow {
    fn read(row: &Row) -> Result<Self, RowError> {
        Ok(Self {
            thumbprint: row.parse("thumbprint", Thumbprint::parse)?,
            kind: row.parse("kind", CaKind::parse)?,
            state: row.parse("state", CaState::parse)?,
            certificate: row.text("cert_pem")?.to_owned(),
            private: row.text_or_null("private_key")?.map(Into::into),
            cut: row.int("cut")? != 0,
            compromised: row.int("compromised")? != 0,
            link: row.text_or_null("link_pem")?.map(str::to_owned),
            lineage: row.text_or_null("lineage")?.map(str::to_owned),
            created_at: row.stamp("created_at")?,
            activated_at: row.stamp_or_null("activated_at")?,
            superseded_at: row.stamp_or_null("superseded_at")?,
            retired_at: row.stamp_or_null("retired_at")?,
        })
    }
}

/// The whole registry, the newest first.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub fn all(database: &Database) -> Result<Vec<CaRow>, ReadError> {
    let sql = "SELECT thumbprint, kind, state, cert_pem, private_key, cut, compromised, link_pem, lineage, \
        created_at, activated_at, superseded_at, retired_at FROM pki_cas ORDER BY created_at DESC, rowid DESC";
    let rows = database.rows_now(&Query::new(TABLE, sql, vec![]))?;
    rows.iter().map(CaRow::read).collect::<Result<_, _>>().map_err(Into::into)
}

/// A CA as it enters the registry.
#[derive(Debug, Clone, Copy)]
pub struct NewCa<'a> {
    /// SHA-256 of the certificate.
    pub thumbprint: Thumbprint,
    /// SHA-256 of its public key (SPKI DER).
    pub spki: Thumbprint,
    /// Root or intermediate.
    pub kind: CaKind,
    /// The certificate in PEM.
    pub certificate: &'a str,
    /// Its private key as custody wraps it, unless custody keeps it elsewhere.
    pub private: Option<&'a SecretString>,
}

impl NewCa<'_> {
    /// Enters it in `state`, rejected by a constraint when another of its kind is in that state. One that was staged
    /// before and never certified may come back.
    #[must_use]
    pub fn enter(&self, state: CaState, at: Stamp) -> Statement {
        let activated = (state != CaState::Staged).then_some(at);
        let superseded = (state == CaState::Superseded).then_some(at);
        Statement::one(
            "INSERT INTO pki_cas (thumbprint, spki_sha256, kind, state, cert_pem, private_key, created_at, \
                 activated_at, superseded_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (thumbprint) DO UPDATE SET state = excluded.state, private_key = excluded.private_key, \
                 created_at = excluded.created_at, activated_at = excluded.activated_at, \
                 superseded_at = excluded.superseded_at, retired_at = NULL \
                 WHERE pki_cas.state = 'retired' AND pki_cas.activated_at IS NULL",
            vec![
                self.thumbprint.into(),
                self.spki.into(),
                self.kind.as_str().into(),
                state.as_str().into(),
                self.certificate.into(),
                self.private.map(|key| key.expose_secret().to_owned()).into(),
                at.into(),
                activated.into(),
                superseded.into(),
            ],
        )
    }
}

/// Touches no row unless this CA is the active one: for changes that were decided while it was.
#[must_use]
pub fn is_active(thumbprint: Thumbprint) -> Statement {
    Statement::one(
        "UPDATE pki_cas SET state = 'active' WHERE thumbprint = ?1 AND state = 'active'",
        vec![thumbprint.into()],
    )
}

/// Touches no row when this CA was cut off: for what was judged by it before.
#[must_use]
pub fn is_believed(thumbprint: Thumbprint) -> Statement {
    Statement::one(
        "UPDATE pki_cas SET cut = 0 WHERE thumbprint = ?1 AND cut = 0 AND compromised = 0 AND state <> 'retired'",
        vec![thumbprint.into()],
    )
}

/// The staged CA becomes the active one. Its key goes to where custody keeps active keys
/// (`mastio_custody::Custody::replace`). [`supersede`] the active one first.
#[must_use]
pub fn activate(thumbprint: Thumbprint, at: Stamp) -> Statement {
    Statement::one(
        "UPDATE pki_cas SET state = 'active', activated_at = coalesce(activated_at, ?2), superseded_at = NULL, private_key = NULL, \
             link_pem = NULL, lineage = NULL \
         WHERE thumbprint = ?1 AND state IN ('staged', 'superseded')",
        vec![thumbprint.into(), at.into()],
    )
}

/// How a CA leaves its place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Superseded<'a> {
    /// Its private key as custody wraps it, if it still has work to do: revocation lists, or a way back.
    pub private: Option<&'a SecretString>,
    /// What it certified does not log in any more.
    pub cut: bool,
    /// Its key may be known to others.
    pub compromised: bool,
    /// Its certificate for the successor, in PEM.
    pub link: Option<&'a str>,
    /// Its statement for the successor.
    pub lineage: Option<&'a str>,
}

/// The active CA leaves its place.
#[must_use]
pub fn supersede(thumbprint: Thumbprint, how: &Superseded<'_>, at: Stamp) -> Statement {
    Statement::one(
        "UPDATE pki_cas SET state = 'superseded', superseded_at = ?2, private_key = ?3, cut = ?4, compromised = ?5, \
             link_pem = ?6, lineage = ?7 WHERE thumbprint = ?1 AND state = 'active'",
        vec![
            thumbprint.into(),
            at.into(),
            how.private.map(|key| key.expose_secret().to_owned()).into(),
            how.cut.into(),
            how.compromised.into(),
            how.link.map(str::to_owned).into(),
            how.lineage.map(str::to_owned).into(),
        ],
    )
}

/// Whatever any superseded CA certified does not log in any more; with `compromised` they vouch for nothing either,
/// because one of them has certified a key that others may know. The keys of roots are wiped.
#[must_use]
pub fn cut_superseded(compromised: bool) -> Statement {
    Statement::any(
        "UPDATE pki_cas SET cut = 1, compromised = max(compromised, ?1), \
             private_key = CASE WHEN kind = 'org_ca' THEN NULL ELSE private_key END WHERE state = 'superseded'",
        vec![compromised.into()],
    )
}

/// Every staged CA is believed no more, and its key is wiped: their rotation was given up.
#[must_use]
pub fn retire_staged(at: Stamp) -> Statement {
    Statement::any(
        "UPDATE pki_cas SET state = 'retired', retired_at = ?1, private_key = NULL WHERE state = 'staged'",
        vec![at.into()],
    )
}

/// Whatever a superseded CA certified does not log in any more. The key of a root is wiped; that of an intermediate still
/// signs its revocation list.
#[must_use]
pub fn cut(thumbprint: Thumbprint) -> Statement {
    Statement::one(
        "UPDATE pki_cas SET cut = 1, private_key = CASE WHEN kind = 'org_ca' THEN NULL ELSE private_key END \
         WHERE thumbprint = ?1 AND state = 'superseded'",
        vec![thumbprint.into()],
    )
}

/// Staged CAs, of which the intermediate has certified agents already, are given up: they are believed until these have
/// moved back, and the key of the root is wiped.
#[must_use]
pub fn supersede_staged(at: Stamp) -> Statement {
    Statement::any(
        "UPDATE pki_cas SET state = 'superseded', activated_at = ?1, superseded_at = ?1, \
             private_key = CASE WHEN kind = 'org_ca' THEN NULL ELSE private_key END WHERE state = 'staged'",
        vec![at.into()],
    )
}

/// A staged or superseded CA is believed no more, and its key is wiped.
#[must_use]
pub fn retire(thumbprint: Thumbprint, at: Stamp) -> Statement {
    Statement::one(
        "UPDATE pki_cas SET state = 'retired', retired_at = ?2, private_key = NULL \
         WHERE thumbprint = ?1 AND state IN ('staged', 'superseded')",
        vec![thumbprint.into(), at.into()],
    )
}

/// A CA that had its place taken has it again, as if it had never left. [`supersede`] the active one first; its key goes
/// to where custody keeps active keys.
#[must_use]
pub fn reinstate(thumbprint: Thumbprint) -> Statement {
    Statement::one(
        "UPDATE pki_cas SET state = 'active', superseded_at = NULL, retired_at = NULL, private_key = NULL, cut = 0, \
             link_pem = NULL, lineage = NULL WHERE thumbprint = ?1 AND state IN ('superseded', 'retired')",
        vec![thumbprint.into()],
    )
}
