//! How operators log in to the dashboard (contract `auth.md` §10).

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::keys::{MAKE_ONE, MIN_SECRET};
use crate::{reader::Reader, variable::variable};

/// The shortest password, as the existing system has it.
const MIN_PASSWORD: usize = 8;
/// bcrypt does not look at what comes after.
const MAX_PASSWORD_BYTES: usize = 72;

/// How operators log in to the dashboard.
#[derive(Debug, Clone)]
pub struct Dashboard {
    /// Signs session cookies; its bytes are the text's.
    pub signing_key: Option<SecretString>,
    /// Where that key is kept when none is set.
    pub signing_key_path: PathBuf,
    /// The password to store when there is none yet: 8 to 72 bytes.
    pub initial_password: Option<SecretString>,
    /// The password logs in although it was switched off.
    pub force_password: bool,
}

pub(super) fn dashboard(read: &mut Reader<'_>) -> Option<Dashboard> {
    let signing_key = signing_key(read);
    let signing_key_path = read.path(variable!("MCP_PROXY_DASHBOARD_SIGNING_KEY_PATH"));
    let initial_password = initial_password(read);
    let force_password = read.boolean(variable!("MCP_PROXY_FORCE_LOCAL_PASSWORD"));
    Some(Dashboard {
        signing_key,
        signing_key_path: signing_key_path?,
        initial_password,
        force_password: force_password?,
    })
}

fn signing_key(read: &mut Reader<'_>) -> Option<SecretString> {
    let variable = variable!("MCP_PROXY_DASHBOARD_SIGNING_KEY");
    read.required_in_production(variable, MAKE_ONE);
    read.secret(variable, MIN_SECRET)
}

fn initial_password(read: &mut Reader<'_>) -> Option<SecretString> {
    let variable = variable!("MCP_PROXY_INITIAL_ADMIN_PASSWORD");
    let password = read.secret(variable, MIN_PASSWORD)?;
    if password.expose_secret().len() > MAX_PASSWORD_BYTES {
        let what = format!("is longer than {MAX_PASSWORD_BYTES} bytes, and the rest would not count");
        read.problem(variable, what, "set a shorter one");
    }
    Some(password)
}
