//! Logging in with the admin secret, or with the password beside it.

use mastio_core::counted;
use std::{net::IpAddr, sync::Arc, time::Duration};

use mastio_store::config;
use secrecy::{ExposeSecret, SecretString};

use super::Opened;
use crate::{
    Authority, Outage, Refusal,
    limits::{Class, OverLimit},
};

/// The bcrypt hash of the password in `proxy_config`, and whether it counts (contract `auth.md` §10).
pub(crate) const PASSWORD_HASH: &str = "admin_password_hash";
pub(crate) const PASSWORD_ENABLED: &str = "local_password_enabled";

/// Why an operator is not logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Nothing was typed.
    #[error("enter the admin secret or the password")]
    Empty,
    /// Something else was typed.
    #[error("that is neither the admin secret nor the password")]
    Wrong,
    /// It is not the admin secret, and passwords do not count.
    #[error(
        "password login is switched off: use the admin secret (MCP_PROXY_ADMIN_SECRET in proxy.env), or set \
         MCP_PROXY_FORCE_LOCAL_PASSWORD=1 and restart"
    )]
    PasswordOff,
    /// Too many failures from this address.
    #[error("too many failed logins from this address: wait {}", counted(.0.as_secs().div_ceil(60), "minute", "minutes"))]
    LockedOut(Duration),
    /// Too many logins from this address, right or wrong.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Too many logins from everywhere.
    #[error("too many logins at once: try again in a few seconds")]
    Busy,
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for LoginError {
    fn status(&self) -> u16 {
        match self {
            Self::Empty => 400,
            Self::Wrong => 401,
            Self::PasswordOff => 403,
            Self::LockedOut(_) | Self::OverLimit(_) => 429,
            Self::Busy => 503,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "login_empty",
            Self::Wrong => "login_wrong",
            Self::PasswordOff => "login_password_off",
            Self::LockedOut(_) => "login_locked_out",
            Self::OverLimit(_) => "rate_limited",
            Self::Busy => "login_busy",
            Self::Outage(outage) => outage.reason(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::LockedOut(left) => Some(*left),
            Self::OverLimit(over) => Some(over.retry_after),
            Self::Busy => Some(Duration::from_secs(3)),
            _ => None,
        }
    }
}

impl Authority {
    /// Opens a session for whoever types the admin secret or the password. `user_agent` is what the browser calls
    /// itself, for the list of sessions.
    ///
    /// # Errors
    /// When it is neither, the address is locked out, or the session cannot be recorded.
    pub async fn log_in(
        &self,
        typed: SecretString,
        address: IpAddr,
        user_agent: &str,
    ) -> Result<Opened, LoginError> {
        self.limits.by_address(Class::Login, address)?;
        if typed.expose_secret().is_empty() {
            return Err(LoginError::Empty);
        }
        // Before anything is counted or compared: an answer that costs no attempt must tell nothing about the secret.
        let _place = self.dashboard.waiting.try_acquire().map_err(|_| LoginError::Busy)?;
        let lock_out = &self.dashboard.lock_out;
        if let Err(left) = lock_out.enter(address, self.clock.elapsed()) {
            let error = LoginError::LockedOut(left);
            self.deny_login(error.reason(), address);
            return Err(error);
        }
        match self.judge_login(typed).await {
            Ok(method) => {
                lock_out.succeeded(address);
                Ok(self.open_session(method, address, user_agent).await?)
            }
            Err(error @ (LoginError::Wrong | LoginError::PasswordOff)) => {
                self.deny_login(error.reason(), address);
                Err(error)
            }
            // It was compared with the secret at least, so it stays counted.
            Err(error) => Err(error),
        }
    }

    /// By what the operator got in. The admin secret is compared by its digest, as in the header; boot has made sure
    /// that the stored hash is its own.
    async fn judge_login(&self, typed: SecretString) -> Result<&'static str, LoginError> {
        if self.admin_secret.is(typed.expose_secret().as_bytes()) {
            return Ok("admin_secret");
        }
        let _turn = self.dashboard.hashing.acquire().await.map_err(Outage::internal)?;
        let database = Arc::clone(self.store.database());
        let forced = self.settings.dashboard.force_password;
        let judge = move || {
            if !forced && config::get(&database, PASSWORD_ENABLED)?.as_deref() == Some("0") {
                return Ok(Err(LoginError::PasswordOff));
            }
            let hash = config::get(&database, PASSWORD_HASH)?;
            let right =
                hash.is_some_and(|hash| bcrypt::verify(typed.expose_secret(), &hash).unwrap_or(false));
            Ok(if right { Ok("password") } else { Err(LoginError::Wrong) })
        };
        let judged = tokio::task::spawn_blocking(judge).await.map_err(Outage::internal)?;
        judged.map_err(|error: mastio_store::ReadError| Outage::from(error))?
    }
}
