//! Whose deployment this is, and its root: the stored one, or the first, which is refused when there was another.

use std::path::{Path, PathBuf};

use mastio_core::{OrgId, Thumbprint};
use mastio_custody::{CaKey, CustodyError};
use mastio_pki::{Certificate, KeyPair, pem, spki_short_id};
use mastio_store::{
    cas::{self, CaState},
    config,
    keys::CaKind,
};

use super::{Boot, BootError, mint};
use crate::{
    evidence::{self, EvidenceError, Identity},
    updates,
};

/// The root of the organisation.
pub(super) enum Root {
    /// It is stored, with its key.
    Stored(CaKey),
    /// This start stores it.
    First(FirstRoot),
}

/// A root that is not stored yet.
pub(super) struct FirstRoot {
    pub(super) key: KeyPair,
    /// The certificate, if it was found beside the TLS files.
    pub(super) imported: Option<(Certificate, PathBuf)>,
}

/// A database that is gone while its identity file is there: refused before an empty one takes the place where a
/// backup must be restored.
pub(super) fn refuse_lost_database(path: &Path, tls_dir: &Path) -> Result<(), BootError> {
    if path.exists() {
        return Ok(());
    }
    match Identity::read(path).map_err(EvidenceError::from)? {
        None => Ok(()),
        Some(identity) => Err(BootError::RootLost {
            found: format!("{} names organisation {}", evidence::file(path).display(), identity.org_id),
            leftovers: [evidence::file(path), tls_dir.join("org-ca.crt")]
                .iter()
                .filter(|path| path.exists())
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(" and "),
        }),
    }
}

/// Another organisation's database: refused before it is adopted, which changes it.
pub(super) fn refuse_other_org(path: &Path, pinned: Option<&OrgId>) -> Result<(), BootError> {
    if pinned.is_none() || !path.exists() {
        return Ok(());
    }
    // A file that cannot be read is refused by opening it, with what to do.
    let stored = config::peek(path, "org_id").ok().flatten();
    stored_org(stored, pinned).map(drop)
}

/// The stored id of the organisation, if there is one; it must be the pinned one.
fn stored_org(stored: Option<String>, pinned: Option<&OrgId>) -> Result<Option<OrgId>, BootError> {
    let Some(text) = stored else { return Ok(None) };
    let stored = OrgId::parse(&text).map_err(|error| BootError::IllegalOrg(error.to_string()))?;
    match pinned {
        Some(pinned) if *pinned != stored => Err(BootError::OtherOrg { pinned: pinned.clone(), stored }),
        _ => Ok(Some(stored)),
    }
}

impl Boot<'_> {
    /// The organisation and its root.
    pub(super) fn root(&self) -> Result<(OrgId, Root), BootError> {
        match self.stored_root()? {
            Some(stored) => {
                let org = self.org_of(&stored.certificate)?;
                self.check_identity(&org, &stored.certificate)?;
                self.refuse_legacy(Some(&stored.certificate))?;
                Ok((org, Root::Stored(stored)))
            }
            None => {
                let first = self.first_root()?;
                self.refuse_legacy(first.imported.as_ref().map(|(certificate, _)| certificate))?;
                Ok((self.org_of_new(&first)?, Root::First(first)))
            }
        }
    }

    fn stored_root(&self) -> Result<Option<CaKey>, BootError> {
        let unfit = match self.custody.load(CaKind::Root) {
            Err(unfit @ CustodyError::Unusable { .. }) => unfit,
            other => return Ok(other?),
        };
        match updates::cut_short(self.database, self.custody)? {
            Some(migration) => Err(BootError::CutShort { migration }),
            None => Err(unfit.into()),
        }
    }

    fn refuse_legacy(&self, root: Option<&Certificate>) -> Result<(), BootError> {
        let is_legacy = root.is_some_and(|root| root.path_len() == Some(0));
        if self.settings.strict_pki && is_legacy { Err(BootError::StrictPki) } else { Ok(()) }
    }

    /// The organisation of a stored root: pinned, stored, or derived from its key; never two different ones.
    fn org_of(&self, root: &Certificate) -> Result<OrgId, BootError> {
        let pinned = self.settings.org_id.as_ref();
        let stored = stored_org(config::get(self.database, "org_id")?, pinned)?;
        stored.or_else(|| pinned.cloned()).map_or_else(|| derived(root.spki_der()), Ok)
    }

    fn org_of_new(&self, first: &FirstRoot) -> Result<OrgId, BootError> {
        self.settings.org_id.clone().map_or_else(|| derived(first.key.spki_der()), Ok)
    }

    fn check_identity(&self, org: &OrgId, root: &Certificate) -> Result<(), BootError> {
        let path = self.database.path();
        let (expected, actual) =
            (Identity::read(path).map_err(EvidenceError::from)?, Identity::of(org, root));
        match expected {
            Some(expected) if expected != actual && !self.is_predecessor(&expected, &actual)? => {
                Err(BootError::OtherIdentity {
                    file: evidence::file(path),
                    expected: format!("{} with root key {}", expected.org_id, expected.root_spki_sha256),
                    actual: format!("{} with root key {}", actual.org_id, actual.root_spki_sha256),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether `expected` is this organisation under a root that another took the place of: the process ended between
    /// that commit and the file.
    fn is_predecessor(&self, expected: &Identity, actual: &Identity) -> Result<bool, BootError> {
        let was_root = |ca: &cas::CaRow| {
            ca.kind == CaKind::Root
                && matches!(ca.state, CaState::Superseded | CaState::Retired)
                && Certificate::from_pem(&ca.certificate).is_ok_and(|root| {
                    Thumbprint::of(root.spki_der()).to_string() == expected.root_spki_sha256
                })
        };
        Ok(expected.org_id == actual.org_id && cas::all(self.database)?.iter().any(was_root))
    }

    /// A new root, or the one whose key pair lies beside the TLS files; refused when there was another one.
    fn first_root(&self) -> Result<FirstRoot, BootError> {
        let tls_dir = &self.settings.tls_dir;
        let found = evidence::find(self.database, tls_dir)?;
        let trust_file = tls_dir.join("org-ca.crt");
        let only_files = found.len() == usize::from(trust_file.exists());
        if only_files && let Some(pair) = importable(tls_dir) {
            return Ok(pair);
        }
        if found.is_empty() {
            let key = KeyPair::generate_p256().map_err(mint)?;
            return Ok(FirstRoot { key, imported: None });
        }
        let path = self.database.path();
        let leftovers =
            [path.to_owned(), evidence::file(path), trust_file].into_iter().filter(|path| path.exists());
        Err(BootError::RootLost {
            found: found.join("; "),
            leftovers: leftovers.map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and "),
        })
    }
}

fn derived(spki: &[u8]) -> Result<OrgId, BootError> {
    OrgId::parse(&spki_short_id(spki)).map_err(mint)
}

/// `org-ca.crt` with its `org-ca.key`, if they are a CA (design decision 5).
fn importable(tls_dir: &Path) -> Option<FirstRoot> {
    let source = tls_dir.join("org-ca.key");
    let key = KeyPair::from_pem(&std::fs::read_to_string(&source).ok()?).ok()?;
    let certificate =
        pem::first_certificate(&std::fs::read_to_string(tls_dir.join("org-ca.crt")).ok()?).ok()?;
    let usable = certificate.is_ca() && certificate.may_sign_certificates() && key.matches(&certificate);
    usable.then_some(FirstRoot { key, imported: Some((certificate, source)) })
}
