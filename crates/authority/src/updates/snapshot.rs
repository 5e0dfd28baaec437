//! What was before an update, in the JSON of `migration_state_backups.snapshot_json`.

use mastio_core::Stamp;
use mastio_store::updates::SnapshotRow;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::{READABLE_SNAPSHOT_LIFE, Scene, UpdateError};

/// Says that it is ours: the existing system's snapshots have no such member.
const FORMAT: &str = "format";
const SEALED: &str = "sealed";
const WIPED_AFTER: &str = "wiped_after";

/// A snapshot: named texts, and keys as custody wraps them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot(Map<String, Value>);

impl Snapshot {
    /// An empty one, which says how its keys are kept.
    pub(super) fn new(scene: &Scene<'_>) -> Self {
        let mut snapshot = Map::new();
        snapshot.insert(FORMAT.into(), 1.into());
        snapshot.insert("custody".into(), scene.custody.name().into());
        snapshot.insert(SEALED.into(), scene.custody.is_sealed().into());
        if !scene.custody.is_sealed() {
            let until = scene.now.plus(READABLE_SNAPSHOT_LIFE);
            snapshot.insert(WIPED_AFTER.into(), until.to_string().into());
        }
        Self(snapshot)
    }

    /// Adds a text or a list of texts.
    pub(super) fn note(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds a private key. Custody elsewhere keeps its own keys: then there is nothing to add, and going back needs the
    /// provider's earlier version.
    pub(super) fn key(self, name: &str, scene: &Scene<'_>, key: &SecretString) -> Result<Self, UpdateError> {
        if scene.custody.name() != "local" {
            return Ok(self.note(name, Value::Null));
        }
        let wrapped = scene.custody.wrap(name, key)?;
        Ok(self.note(name, wrapped.expose_secret()))
    }

    /// What is in the row.
    pub(super) fn read(row: &SnapshotRow) -> Result<Self, UpdateError> {
        let bad = |problem: &str| UpdateError::Snapshot(problem.to_owned());
        match serde_json::from_str(&row.json) {
            Ok(Value::Object(members)) if members.contains_key(FORMAT) => Ok(Self(members)),
            Ok(_) => {
                Err(bad("the existing system wrote it; restore the backup that was made before that update"))
            }
            Err(_) => Err(bad("it is no JSON; restore a backup")),
        }
    }

    pub(super) fn json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str) -> Result<&str, UpdateError> {
        let missing = || UpdateError::Snapshot(format!("it holds no {name}"));
        self.0.get(name).and_then(Value::as_str).ok_or_else(missing)
    }

    /// A private key that must be there.
    pub(super) fn secret(&self, name: &str, scene: &Scene<'_>) -> Result<SecretString, UpdateError> {
        let opened = scene.custody.unwrap(name, &self.text(name)?.to_owned().into());
        opened.map_err(|error| UpdateError::Snapshot(error.to_string()))
    }

    /// A member of any shape.
    pub(super) fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// Whether its keys are encrypted.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.get(SEALED) == &Value::Bool(true)
    }

    /// When it is wiped because its keys are readable.
    #[must_use]
    pub fn wiped_after(&self) -> Option<Stamp> {
        self.get(WIPED_AFTER).as_str().and_then(|text| Stamp::parse(text).ok())
    }
}
