//! What was before an update, in the JSON of `migration_state_backups.snapshot_json`.

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_custody::{Custody, CustodyError};
use mastio_pki::{Certificate, KeyPair};
use mastio_store::{
    Unit,
    sqlite::Database,
    updates::{self, SnapshotRow},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::{READABLE_SNAPSHOT_LIFE, Scene, UpdateError};
use crate::boot::BootError;

/// Says that it is ours: the existing system's snapshots have no such member.
const FORMAT: &str = "format";
/// The root of before, and its key. The existing system calls them the same.
pub(super) const ROOT: &str = "org_ca_cert_pem";
pub(super) const ROOT_KEY: &str = "org_ca_key_pem";
const WIPED_AFTER: &str = "wiped_after";
/// What is no JSON object is the member of one here, so that a key in it is sealed or wiped like any other.
const UNREAD: &str = "unread";
/// What every private key in PEM has in its first line, whatever its kind.
const KEY_MARK: &str = "PRIVATE KEY-----";

/// A snapshot: named texts, and keys as custody wraps them.
#[derive(Clone, Default, PartialEq)]
pub struct Snapshot(Map<String, Value>);

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("is_sealed", &self.is_sealed()).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// An empty one, which says how its keys are kept.
    pub(super) fn new(scene: &Scene<'_>) -> Self {
        let mut snapshot = Map::new();
        snapshot.insert(FORMAT.into(), 1.into());
        snapshot.insert("custody".into(), scene.custody.name().into());
        Self(snapshot)
    }

    /// Adds a text or a list of texts.
    pub(super) fn note(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds a private key; a readable one brings the time after which it is wiped. Custody elsewhere keeps its own keys:
    /// then there is nothing to add, and going back needs the provider's earlier version.
    pub(super) fn key(self, name: &str, scene: &Scene<'_>, key: &SecretString) -> Result<Self, UpdateError> {
        if scene.custody.name() != "local" {
            return Ok(self.note(name, Value::Null));
        }
        let wrapped = scene.custody.wrap(name, key)?;
        let snapshot = self.note(name, wrapped.expose_secret());
        Ok(if scene.custody.is_sealed() { snapshot } else { snapshot.dated(scene.now) })
    }

    fn dated(self, now: Stamp) -> Self {
        self.note(WIPED_AFTER, now.plus(READABLE_SNAPSHOT_LIFE).to_string())
    }

    /// What is in the row, whatever that is.
    pub(crate) fn read(row: &SnapshotRow) -> Self {
        let Some(json) = row.json() else { return Self::default().note(UNREAD, as_key(row.bytes())) };
        match serde_json::from_str(json) {
            Ok(Value::Object(members)) => Self(members),
            Ok(other) => Self::default().note(UNREAD, other),
            Err(_) => Self::default().note(UNREAD, json),
        }
    }

    /// Whether nothing can be read in it, so that it leads nowhere.
    pub(super) fn is_unread(&self) -> bool {
        self.0.contains_key(UNREAD)
    }

    pub(super) fn json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// Whether we wrote it, or the Python implementation.
    pub(crate) fn is_ours(&self) -> bool {
        self.0.contains_key(FORMAT)
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str) -> Result<&str, UpdateError> {
        self.get(name).as_str().ok_or_else(|| missing(name))
    }

    /// A private key that must be there.
    pub(super) fn secret(&self, name: &str, scene: &Scene<'_>) -> Result<SecretString, UpdateError> {
        let opened = scene.custody.unwrap(name, &self.text(name)?.to_owned().into());
        opened.map_err(|error| UpdateError::Snapshot(error.to_string()))
    }

    /// A private key that must be there, and be one.
    pub(super) fn key_pair(&self, name: &str, scene: &Scene<'_>) -> Result<KeyPair, UpdateError> {
        let key = KeyPair::from_pem(self.secret(name, scene)?.expose_secret());
        key.map_err(|error| UpdateError::Snapshot(format!("its {name} cannot be read: {error}")))
    }

    /// A certificate that must be there.
    pub(crate) fn certificate(&self, name: &str) -> Result<Certificate, UpdateError> {
        let certificate = Certificate::from_pem(self.text(name)?);
        certificate.map_err(|error| UpdateError::Snapshot(format!("its {name} cannot be read: {error}")))
    }

    /// The root of before, which must be there.
    pub(crate) fn root(&self) -> Result<Certificate, UpdateError> {
        self.certificate(ROOT)
    }

    /// Whether it holds that root's key, readable or sealed.
    pub(super) fn holds_root_key(&self) -> bool {
        self.get(ROOT_KEY).as_str().is_some_and(|key| !key.is_empty())
    }

    /// A list that must be there.
    pub(super) fn list(&self, name: &str) -> Result<&[Value], UpdateError> {
        self.get(name).as_array().map(Vec::as_slice).ok_or_else(|| missing(name))
    }

    /// An object that must be there.
    pub(super) fn map(&self, name: &str) -> Result<&Map<String, Value>, UpdateError> {
        self.get(name).as_object().ok_or_else(|| missing(name))
    }

    fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// Whether no private key in it is readable.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        !self.0.values().any(has_readable_key)
    }

    /// When it is wiped because its keys are readable.
    #[must_use]
    pub fn wiped_after(&self) -> Option<Stamp> {
        self.get(WIPED_AFTER).as_str().and_then(|text| Stamp::parse(text).ok())
    }

    /// Why it has to go, if it does: its root has ended, or its readable keys have lain long enough.
    pub(super) fn is_over(&self, now: Stamp) -> Option<&'static str> {
        if self.root().is_ok_and(|root| root.not_after() <= now) {
            return Some("root_ended");
        }
        self.wiped_after().filter(|after| *after <= now).map(|_| "readable_keys")
    }

    /// The same for another attempt, from which the time counts that readable keys are kept.
    pub(super) fn again(self, now: Stamp) -> Self {
        if self.is_sealed() { self } else { self.dated(now) }
    }

    /// The same with every readable key sealed, which needs no end.
    fn sealed(mut self, custody: &dyn Custody) -> Result<Self, CustodyError> {
        self.0.remove(WIPED_AFTER);
        self.0.values_mut().try_for_each(|value| seal(value, custody))?;
        Ok(self)
    }
}

fn missing(name: &str) -> UpdateError {
    UpdateError::Snapshot(format!("it holds no {name}; restore a backup of before the update"))
}

/// What is no text may be a key in any form, so it is written as if it were one.
fn as_key(bytes: &[u8]) -> String {
    format!("-----BEGIN {KEY_MARK}\n{}\n-----END {KEY_MARK}", hex::encode(bytes))
}

/// Wherever it is: what the existing system kept for other migrations is not known.
fn has_readable_key(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(KEY_MARK),
        Value::Array(values) => values.iter().any(has_readable_key),
        Value::Object(members) => members.values().any(has_readable_key),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn seal(value: &mut Value, custody: &dyn Custody) -> Result<(), CustodyError> {
    match value {
        Value::String(text) if text.contains(KEY_MARK) => {
            let sealed = custody.wrap("a key in migration_state_backups", &text.as_str().into())?;
            sealed.expose_secret().clone_into(text);
            Ok(())
        }
        Value::Array(values) => values.iter_mut().try_for_each(|value| seal(value, custody)),
        Value::Object(members) => members.values_mut().try_for_each(|value| seal(value, custody)),
        _ => Ok(()),
    }
}

/// What a start does about readable keys in snapshots, whoever wrote them: with a passphrase they are sealed, without one
/// those that the existing system left get the end that ours have.
///
/// # Errors
/// When they cannot be read or sealed.
pub(crate) fn looked_after(
    database: &Database,
    custody: &dyn Custody,
    now: Stamp,
) -> Result<Option<Unit>, BootError> {
    let (mut unit, mut count) = (Unit::default(), 0);
    for row in updates::snapshots(database)? {
        let snapshot = Snapshot::read(&row);
        if snapshot.is_sealed() {
            continue;
        }
        if custody.is_sealed() {
            count += 1;
            unit = unit.write_all(row.replace(&snapshot.sealed(custody)?.json()));
        } else if snapshot.wiped_after().is_none() {
            let (snapshot, migration_id) = (snapshot.dated(now), row.migration.clone());
            let wiped_after = now.plus(READABLE_SNAPSHOT_LIFE);
            tracing::warn!(migration_id, %wiped_after, "the snapshot of a framework update holds a readable key; it is wiped after that time");
            unit = unit
                .write_all(row.replace(&snapshot.json()))
                .tell(Event::new(&catalogue::UpdateSnapshotDated { migration_id, wiped_after }));
        }
    }
    if count > 0 {
        unit = unit.tell(Event::new(&catalogue::KeysSealed { count }));
    }
    Ok((!unit.statements.is_empty()).then_some(unit))
}
