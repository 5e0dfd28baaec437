//! Operators at the dashboard: logging in, and sessions that can be listed and ended (contract `auth.md` §10).
//!
//! The cookie keeps the form of the existing system, because scripts read the CSRF token out of it. What it proves is
//! its `sid`, the secret of a row of `dashboard_sessions`: without a live row no signature helps.

mod cookie;
mod lock_out;
mod log_in;

use std::net::IpAddr;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use mastio_core::{Event, Stamp, event::catalogue, sha256};
use mastio_store::{Rejection, Unit, WriteError, dashboard, dashboard::SessionRow};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::{Authority, Outage, Refusal, admin::Operator};

pub(crate) use cookie::CookieKey;
pub use cookie::SESSION_LIFETIME;
pub use log_in::LoginError;
pub(crate) use log_in::{PASSWORD_ENABLED, PASSWORD_HASH};

/// How long a session that ran out is remembered.
const REMEMBERED: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);

/// Longest name of a browser that is kept, in characters.
const MAX_USER_AGENT: usize = 200;

/// What logging in works with.
#[derive(Debug)]
pub(crate) struct Dashboard {
    pub(crate) key: CookieKey,
    pub(crate) lock_out: lock_out::LockOut,
    /// Password hashes that are computed at once: a flood of logins must leave processors to the mint.
    pub(crate) hashing: Semaphore,
    /// How many logins may wait for that.
    pub(crate) waiting: Semaphore,
}

impl Dashboard {
    pub(crate) fn new(key: CookieKey) -> Self {
        Self {
            key,
            lock_out: lock_out::LockOut::default(),
            hashing: Semaphore::new(1),
            waiting: Semaphore::new(8),
        }
    }
}

/// A logged-in operator.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who acts, for the audit log: `dashboard:` and 8 hex digits of the session's hash.
    pub operator: Operator,
    /// SHA-256 of the session's secret, 64 hex digits.
    pub hash: String,
    /// When it runs out.
    pub expires_at: Stamp,
    csrf_token: String,
}

impl Session {
    /// What each form and each changing request of this session must send back.
    #[must_use]
    pub fn csrf_token(&self) -> &str {
        &self.csrf_token
    }

    /// Whether `presented` is that token, in constant time.
    #[must_use]
    pub fn has_csrf_token(&self, presented: &str) -> bool {
        verify_slices_are_equal(presented.as_bytes(), self.csrf_token.as_bytes()).is_ok()
    }

    /// A seal on `text`, 64 hex digits: the text may travel where others write too, such as an address, and is known
    /// to be ours when it comes back to this session.
    #[must_use]
    pub fn seal(&self, text: &str) -> String {
        hex::encode(hmac::sign(&self.seal_key(), text.as_bytes()))
    }

    /// Whether [`Self::seal`] made `seal` on `text` in this session.
    #[must_use]
    pub fn has_sealed(&self, text: &str, seal: &str) -> bool {
        hex::decode(seal).is_ok_and(|tag| hmac::verify(&self.seal_key(), text.as_bytes(), &tag).is_ok())
    }

    fn seal_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.csrf_token.as_bytes())
    }
}

/// A session that was just opened.
#[derive(Debug)]
pub struct Opened {
    /// The value of the cookie, not quoted yet.
    pub cookie: SecretString,
}

/// Why a session is not ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It has ended already, or never was.
    #[error("there is no such session any more")]
    NotFound,
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for SessionError {
    fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "session_not_found",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// Who acts in the session with this hash, see [`Session::operator`].
#[must_use]
pub fn operator(hash: &str) -> Operator {
    Operator { fingerprint: format!("dashboard:{}", hash.get(..8).unwrap_or(hash)) }
}

impl Authority {
    /// The live session of a cookie's value; `None` when it proves nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn session(&self, cookie: &str) -> Result<Option<Session>, Outage> {
        let now = self.clock.now();
        let Some(claims) = self.dashboard.key.open(cookie, now) else { return Ok(None) };
        let hash = hex::encode(sha256(claims.sid.as_bytes()));
        let row = dashboard::find(&self.store, &hash, now).await?;
        Ok(row.map(|row| Session {
            operator: operator(&hash),
            hash,
            expires_at: row.expires_at,
            csrf_token: claims.csrf_token,
        }))
    }

    /// All live sessions, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn sessions(&self) -> Result<Vec<SessionRow>, Outage> {
        Ok(dashboard::list(&self.store, self.clock.now()).await?)
    }

    async fn open_session(
        &self,
        method: &'static str,
        address: IpAddr,
        user_agent: &str,
    ) -> Result<Opened, Outage> {
        let now = self.clock.now();
        let claims = cookie::Claims::fresh(now, self.rng.as_ref());
        let row = SessionRow {
            hash: hex::encode(sha256(claims.sid.as_bytes())),
            address: address.to_canonical().to_string(),
            user_agent: user_agent.chars().take(MAX_USER_AGENT).collect(),
            created_at: now,
            expires_at: Stamp::from_unix(claims.exp),
        };
        let event = catalogue::LoggedIn {
            ip: row.address.clone(),
            method,
            session: operator(&row.hash).fingerprint,
            expires_at: row.expires_at,
        };
        let forget = dashboard::forget(now.minus(REMEMBERED));
        self.commit(Unit::of(Event::new(&event)).write(row.insert()).write(forget)).await?;
        Ok(Opened { cookie: self.dashboard.key.seal(&claims) })
    }

    /// Ends the session of whoever leaves.
    ///
    /// # Errors
    /// When it has ended already, or the database cannot be written.
    pub async fn log_out(&self, session: &Session) -> Result<(), SessionError> {
        let event = catalogue::LoggedOut { session: session.operator.fingerprint.clone() };
        self.end(Event::new(&event), &session.hash).await
    }

    /// Ends the session with this hash, from another one.
    ///
    /// # Errors
    /// When there is none, or the database cannot be written.
    pub async fn end_session(&self, hash: &str, by: &Operator) -> Result<(), SessionError> {
        let event =
            catalogue::SessionEnded { session: operator(hash).fingerprint, by: by.fingerprint.clone() };
        self.end(Event::new(&event), hash).await
    }

    async fn end(&self, event: Event, hash: &str) -> Result<(), SessionError> {
        match self.commit(Unit::of(event).write(dashboard::end(hash, self.clock.now()))).await {
            Ok(_) => Ok(()),
            Err(WriteError::Rejected(Rejection::Rows { .. })) => Err(SessionError::NotFound),
            Err(error) => Err(Outage::from(error).into()),
        }
    }

    /// Ends every session but this one.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn end_other_sessions(&self, session: &Session) -> Result<(), Outage> {
        let event = catalogue::SessionsEnded {
            reason: "ended_by_operator",
            by: Some(session.operator.fingerprint.clone()),
        };
        let statement = dashboard::end_all(Some(&session.hash), self.clock.now());
        self.commit(Unit::of(Event::new(&event)).write(statement)).await?;
        Ok(())
    }
}
