//! What the dashboard needs at start: the key of its cookies, the first password, and an end to the sessions of
//! another key.

use std::{io, path::Path};

use mastio_core::{Event, event::catalogue};
use mastio_store::{Unit, config, dashboard};
use secrecy::{ExposeSecret, SecretString};

use super::{Boot, BootError, mint};
use crate::{
    dashboard::{CookieKey, PASSWORD_ENABLED, PASSWORD_HASH},
    files,
};

/// As the existing system has it.
const BCRYPT_COST: u32 = 12;

/// The shortest key that a file may hold, in characters.
const MIN_KEY: usize = 16;

impl Boot<'_> {
    /// The key that is set, or the one in the file, or a new one. A key that cannot be kept lasts as long as the
    /// process.
    pub(super) fn cookie_key(&self) -> CookieKey {
        let settings = &self.settings.dashboard;
        if let Some(key) = &settings.signing_key {
            return CookieKey::new(key);
        }
        let path = &settings.signing_key_path;
        let key = self.kept_key(path).unwrap_or_else(|error| {
            tracing::warn!(
                "{}: {error}; everybody is logged out of the dashboard at the next start. Set \
                 MCP_PROXY_DASHBOARD_SIGNING_KEY",
                path.display()
            );
            self.new_key()
        });
        CookieKey::new(&key)
    }

    fn kept_key(&self, path: &Path) -> io::Result<SecretString> {
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim().len() >= MIN_KEY => Ok(text.trim().to_owned().into()),
            Ok(_) => Err(io::Error::other(format!("holds less than {MIN_KEY} characters"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = self.new_key();
                files::replace(path, key.expose_secret().as_bytes(), 0o600)?;
                Ok(key)
            }
            Err(error) => Err(error),
        }
    }

    fn new_key(&self) -> SecretString {
        let mut key = [0; 32];
        self.rng.fill(&mut key);
        hex::encode(key).into()
    }

    /// Sessions end when the key of the cookies is another one than at the last start.
    pub(super) fn sessions(&self, key: &CookieKey) -> Result<Option<Unit>, BootError> {
        const NAME: &str = "dashboard_key_mark";
        let (stored, mark) = (config::own(self.database, NAME)?, key.mark());
        if stored.as_deref() == Some(&mark) {
            return Ok(None);
        }
        let unit = Unit::default().write(config::put_own(NAME, &mark));
        Ok(Some(match stored {
            None => unit,
            Some(_) => unit
                .write(dashboard::end_all(None, self.clock.now()))
                .tell(Event::new(&catalogue::SessionsEnded { reason: "signing_key_changed", by: None })),
        }))
    }

    /// The first password, and what is said about one that counts although it was switched off.
    pub(super) fn password(&self) -> Result<Option<Unit>, BootError> {
        let settings = &self.settings.dashboard;
        let mut unit = Unit::default();
        if let Some(password) = &settings.initial_password
            && config::get(self.database, PASSWORD_HASH)?.is_none()
        {
            let mut salt = [0; 16];
            self.rng.fill(&mut salt);
            let hash = bcrypt::hash_with_salt(password.expose_secret(), BCRYPT_COST, salt)
                .map_err(mint)?
                .to_string();
            unit = unit
                .write(config::put_new(PASSWORD_HASH, &hash))
                .tell(Event::new(&catalogue::InitialPasswordSet {}));
        }
        if settings.force_password && config::get(self.database, PASSWORD_ENABLED)?.as_deref() == Some("0") {
            unit = unit.tell(Event::new(&catalogue::LocalPasswordForced {}));
        }
        Ok((!unit.events.is_empty()).then_some(unit))
    }
}
