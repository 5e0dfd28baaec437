//! Secrets, and where private keys live.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::{
    reader::Reader,
    variable::{Variable, variable},
};

/// Where the Org CA key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Custody {
    /// In the database, sealed when there is a passphrase.
    Local,
}

/// When the intermediate and the key that signs tokens are rotated (contract `pki.md` §6, §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRotation {
    /// How old the signing key must be before an operator may rotate it.
    pub min_interval: Duration,
    /// Whether both are rotated without an operator before they end.
    pub automatic: bool,
}

/// The secret of old examples: everybody knows it.
const WELL_KNOWN: &str = "change-me-in-production";

pub(super) const MIN_SECRET: usize = 16;
const MIN_PASSPHRASE: usize = 16;
const MIN_PASSPHRASE_IN_PRODUCTION: usize = 32;

const LOCAL: [&str; 2] = ["local", "filesystem"];
const NOT_BUILT: [&str; 4] = ["vault", "aws", "azure", "gcp"];

pub(super) const MAKE_ONE: &str = "set it to the output of `openssl rand -hex 32`";

pub(super) fn admin_secret(read: &mut Reader<'_>) -> Option<SecretString> {
    let variable = variable!("MCP_PROXY_ADMIN_SECRET");
    if !read.is_set(variable) {
        read.missing(variable, MAKE_ONE);
        return None;
    }
    let secret = header_secret(read, variable)?;
    if secret.expose_secret() == WELL_KNOWN {
        read.problem(variable, "is the well-known default", MAKE_ONE);
    }
    if secret.expose_secret().contains('=') {
        let what = "contains '=', where `cut -d= -f2` of the runbook cuts it off";
        read.warn(variable, what, MAKE_ONE);
    }
    Some(secret)
}

pub(super) fn edge_secret(read: &mut Reader<'_>) -> Option<SecretString> {
    let variable = variable!("MCP_PROXY_EDGE_SECRET");
    if read.is_set(variable) && !read.is_set(variable!("MCP_PROXY_TRUSTED_PROXIES")) {
        read.warn(variable, "has no effect without trusted proxies", "set MCP_PROXY_TRUSTED_PROXIES");
    }
    header_secret(read, variable)
}

/// A secret that travels in an HTTP header.
fn header_secret(read: &mut Reader<'_>, variable: &'static Variable) -> Option<SecretString> {
    let secret = read.secret(variable, MIN_SECRET)?;
    if !secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
        read.problem(variable, "contains characters that an HTTP header does not carry safely", MAKE_ONE);
    }
    Some(secret)
}

pub(super) fn at_rest_passphrase(read: &mut Reader<'_>) -> Option<SecretString> {
    let variable = variable!("MCP_PROXY_DB_ENCRYPTION_KEY");
    read.required_in_production(variable, "set it to a passphrase of at least 32 characters, and back it up");
    let min = if read.in_production() { MIN_PASSPHRASE_IN_PRODUCTION } else { MIN_PASSPHRASE };
    read.secret(variable, min)
}

pub(super) fn rotation(read: &mut Reader<'_>) -> Option<KeyRotation> {
    let min_interval = read.duration(variable!("CULLIS_MASTIO_ROTATION_MIN_INTERVAL_SECONDS"), 1);
    let automatic = read.boolean(variable!("MCP_PROXY_PKI_AUTO_ROTATE_ENABLED"));
    Some(KeyRotation { min_interval: min_interval?, automatic: automatic? })
}

/// `local` is allowed in production: the passphrase, which is required there, protects it (contract `operations.md`
/// §2.4). Nothing else falls back to it: that would mint a second Org CA.
pub(super) fn custody(read: &mut Reader<'_>) -> Option<Custody> {
    let variable = variable!("MCP_PROXY_KMS_BACKEND");
    let word = read.parse(variable, |text| {
        let word = text.to_ascii_lowercase();
        (LOCAL.contains(&word.as_str()) || NOT_BUILT.contains(&word.as_str())).then_some(word)
    })?;
    if LOCAL.contains(&word.as_str()) {
        return Some(Custody::Local);
    }
    let what = format!("asks for {word}, which is not built yet; local instead would be another Org CA");
    read.problem(variable, what, "set it to local, or stay with a Mastio that has it");
    None
}
