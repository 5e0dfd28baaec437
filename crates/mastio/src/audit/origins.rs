//! Whose word the checkpoints in a database are: whoever can write the file can put a key of their own in it, and sign
//! with that.

use std::path::Path;

use mastio_bundle::{Trusted, format::LogKey, receipt};
use mastio_core::Kid;
use mastio_jose::Compact;
use mastio_pki::Certificate;
use mastio_store::{
    audit::{
        checkpoints, evidence,
        origins::{self, OriginRow},
        tree,
    },
    cas::{self, CaRow},
    keys::{self, SigningKeyRow},
    sqlite::Database,
};

/// Holds every generation of the log in the database against the keys and roots that the auditor knows. The inner error
/// is what does not hold.
///
/// # Errors
/// When the database cannot be read.
pub(super) fn held(
    path: &Path,
    org: &[String],
    trusted: &Trusted,
) -> Result<Result<Vec<String>, String>, String> {
    let database = Database::open_for_tool(path).map_err(|error| error.to_string())?;
    let generations = origins::all(&database).map_err(|error| error.to_string())?;
    let keys = keys::signing_keys(&database).map_err(|error| error.to_string())?;
    let base_seq =
        tree::stored(&database).map_err(|error| error.to_string())?.map_or(0, |tree| tree.base_seq);
    let issuer = evidence::announcing_org(&database).map_err(|error| error.to_string())?;
    let Some(newest) = generations.first() else {
        return Ok(Err("the log has no key, so nothing in it was signed".to_owned()));
    };
    let Some(issuer) = issuer.filter(|issuer| org.contains(issuer)) else {
        return Ok(Err(format!("{} is not announced for a chain that is here", newest.vkey.name())));
    };
    let signed = checkpoints::newest(&database, newest.vkey.name()).map_err(|error| error.to_string())?;
    if signed.is_none() {
        return Ok(Err(format!("no checkpoint of {} is left", newest.vkey.name())));
    }
    let cas = cas::all(&database).map_err(|error| error.to_string())?;
    let above: Vec<_> = cas.iter().flat_map(certificates).collect();
    let held = |row| generation(row, base_seq, &issuer, (&keys, &above), trusted);
    Ok(generations.iter().rev().map(held).collect())
}

/// A CA, and what it says of the root that took its place. What cannot be read leads nowhere.
fn certificates(ca: &CaRow) -> impl Iterator<Item = Certificate> {
    let pem = std::iter::once(&ca.certificate).chain(&ca.link);
    pem.filter_map(|pem| Certificate::from_pem(pem).ok())
}

/// What is known of one, in words.
fn generation(
    row: &OriginRow,
    base_seq: u64,
    org: &str,
    (keys, above): (&[SigningKeyRow], &[Certificate]),
    trusted: &Trusted,
) -> Result<String, String> {
    if !trusted.log_keys.is_empty() && !trusted.log_keys.contains(&row.vkey) {
        return Err(format!("{} is none of the keys that you expect", row.vkey));
    }
    if trusted.ca_roots.is_empty() {
        return Ok(format!("{} is one of the keys that you expect", row.vkey));
    }
    let announced = LogKey {
        origin: row.vkey.name().to_string(),
        vkey: row.vkey.to_string(),
        base_seq,
        announcement: row.announcement.clone(),
        announced_seq: 0,
    };
    let certificate = signing_cert(&row.announcement, keys)
        .ok_or_else(|| format!("the certificate of the key that announced {} is gone", row.vkey))?;
    let report = receipt::verify_log_key(&announced, (certificate, above.to_vec()), org, trusted);
    match report.failure() {
        Some(check) => Err(format!("{}: {}: {}", row.vkey.name(), check.step, check.text)),
        None => {
            Ok(format!("{} is announced by the Mastio of {org}, below the root that you trust", row.vkey))
        }
    }
}

/// The certificate of the key that the announcement names.
fn signing_cert<'a>(announcement: &str, keys: &'a [SigningKeyRow]) -> Option<&'a str> {
    let compact = Compact::split(announcement).ok()?;
    let header = compact.header().ok()?;
    let kid = Kid::from_text(header.kid()?);
    keys.iter().find(|row| row.kid == kid)?.certificate.as_deref()
}
