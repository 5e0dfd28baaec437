//! The files around the database, against what it says.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use mastio_pki::{Anchors, Certificate, KeyPair, ServerNames, pem};
use mastio_store::{cas::CaState, keys::CaKind};

use super::{
    Kind, Notes, Patient,
    cas::{KnownCa, Registry},
};
use crate::{
    evidence::{self, Identity},
    trust::Cas,
};

/// What the TLS server sends, as far as it can be read.
pub(super) fn examine(patient: &Patient<'_>, registry: &Registry, notes: &mut Notes) -> Vec<Certificate> {
    let (Some(root), Some(trusted)) = (registry.active(CaKind::Root), registry.trust_file()) else {
        notes.not_check("the files: without an active root there is nothing to hold them against");
        return vec![];
    };
    let (tls, copies) = (&patient.settings.tls_dir, &patient.settings.certs_dir);
    compare(&tls.join("org-ca.crt"), &trusted, Kind::FileDiffers, notes);
    compare(&copies.join("org-ca.pem"), &trusted, Kind::CopyDiffers, notes);
    compare(&copies.join("org-id"), &format!("{}\n", patient.org), Kind::CopyDiffers, notes);
    judge_identity(patient, &root.certificate, notes);
    judge_root_key(&tls.join("org-ca.key"), registry, notes);
    judge_server(patient, registry, &root.certificate, notes)
}

fn read(path: &Path, notes: &mut Notes) -> Option<String> {
    let text = fs::read_to_string(path);
    text.map_err(|error| notes.find(Kind::FileMissing, format!("{}: {error}", path.display()))).ok()
}

fn compare(path: &Path, expected: &str, kind: Kind, notes: &mut Notes) {
    if read(path, notes).is_some_and(|text| text != expected) {
        notes.find(kind, path.display().to_string());
    }
}

fn judge_identity(patient: &Patient<'_>, root: &Certificate, notes: &mut Notes) {
    let path = evidence::file(patient.database.path());
    match Identity::read(patient.database.path()) {
        Ok(Some(found)) if found == Identity::of(patient.org, root) => {}
        Ok(Some(found)) => notes.find(
            Kind::IdentityDiffers,
            format!(
                "{}: organisation {} with root key {}",
                path.display(),
                found.org_id,
                found.root_spki_sha256
            ),
        ),
        Ok(None) => notes.find(Kind::FileMissing, format!("{}: there is no such file", path.display())),
        Err(error) => notes.find(Kind::FileMissing, format!("{}: {error}", path.display())),
    }
}

/// The key file that a first start takes the Org CA from: whose it is by now.
fn judge_root_key(path: &Path, registry: &Registry, notes: &mut Notes) {
    if !path.exists() {
        return;
    }
    judge_mode(path, notes);
    let place = path.display();
    let text = fs::read_to_string(path).map_err(|error| error.to_string());
    let key = text.and_then(|pem| KeyPair::from_pem(&pem).map_err(|error| error.to_string()));
    match key.map(|key| root_of(&key, registry)) {
        Err(error) => notes.find(Kind::RootKeyFileOther, format!("{place}: {error}")),
        Ok(None) => notes.find(Kind::RootKeyFileOther, format!("{place}: of no root of ours")),
        Ok(Some(root)) if is_in_use(root) => notes.find(Kind::RootKeyFile, place.to_string()),
        Ok(Some(root)) => {
            let (subject, thumbprint) = (root.certificate.subject(), root.row.thumbprint);
            let state = if root.row.compromised { "compromised" } else { root.row.state.as_str() };
            notes.find(
                Kind::RootKeyFileFormer,
                format!("{place}: of the {state} root {subject} ({thumbprint})"),
            );
        }
    }
}

/// The root with this key. An update may have made a root again with the key that it had: the one in use counts, then what
/// is worst.
fn root_of<'a>(key: &KeyPair, registry: &'a Registry) -> Option<&'a KnownCa> {
    let roots = registry.of(CaKind::Root).filter(|root| key.matches(&root.certificate));
    roots.min_by_key(|root| (!is_in_use(root), !root.row.compromised))
}

fn is_in_use(root: &KnownCa) -> bool {
    matches!(root.row.state, CaState::Active | CaState::Staged)
}

fn judge_mode(key_file: &Path, notes: &mut Notes) {
    if fs::metadata(key_file).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
        notes.find(Kind::KeyFileOpen, key_file.display().to_string());
    }
}

fn judge_server(
    patient: &Patient<'_>,
    registry: &Registry,
    root: &Certificate,
    notes: &mut Notes,
) -> Vec<Certificate> {
    let settings = patient.settings;
    let (chain_file, key_file) =
        (settings.tls_dir.join("mastio-server.crt"), settings.tls_dir.join("mastio-server.key"));
    let key = read(&key_file, notes);
    let Some(chain) = read(&chain_file, notes) else { return vec![] };
    let chain = match pem::certificates(&chain) {
        Ok(chain) => chain,
        Err(error) => {
            notes.find(Kind::ServerChain, format!("{}: {error}", chain_file.display()));
            return vec![];
        }
    };
    let Some((leaf, above)) = chain.split_first() else { return chain };
    notes.ends("server", leaf, settings.expiry.warn_days.server, patient.now);
    if let Some(problem) = key.and_then(|pem| mismatch(&pem, leaf)) {
        notes.find(Kind::ServerChain, format!("{}: {problem}", key_file.display()));
    }
    judge_mode(&key_file, notes);
    let intermediate = registry.active(CaKind::Intermediate).map(|ca| &ca.certificate);
    let links = registry.believed.iter().flat_map(Cas::links);
    if !above.iter().eq(intermediate.into_iter().chain(links)) {
        let said = "it is not followed by the active intermediate and the links of superseded roots";
        notes.find(Kind::ServerChain, format!("{}: {said}", chain_file.display()));
    }
    // A root with path length zero is told of by its own name.
    if root.path_len() != Some(0)
        && let Err(problem) = believes(root, leaf, above, patient)
    {
        notes.find(Kind::ServerChain, format!("{}: {problem}", chain_file.display()));
    }
    judge_names(patient, leaf, notes);
    chain
}

fn mismatch(pem: &str, leaf: &Certificate) -> Option<String> {
    match KeyPair::from_pem(pem) {
        Err(error) => Some(error.to_string()),
        Ok(key) if !key.matches(leaf) => Some("it does not belong to the server certificate".to_owned()),
        Ok(_) => None,
    }
}

/// Whether a client that trusts nothing but `root` believes the server.
pub(super) fn believes(
    root: &Certificate,
    leaf: &Certificate,
    above: &[Certificate],
    patient: &Patient<'_>,
) -> Result<(), String> {
    let trusted = Anchors::builder().org([root.clone()]).build().map_err(|error| error.to_string())?;
    trusted.validate_server(leaf, above, patient.now).map(drop).map_err(|error| error.to_string())
}

fn judge_names(patient: &Patient<'_>, leaf: &Certificate, notes: &mut Notes) {
    let host = patient.settings.public_url.as_ref().and_then(|url| url.host_str());
    match ServerNames::from_settings(&patient.settings.server_names_csv, host) {
        Ok(names) if !names.match_certificate(leaf) => {
            let wanted: Vec<_> = names.iter().map(ToString::to_string).collect();
            notes.find(Kind::ServerNames, format!("{} instead of {}", leaf.subject(), wanted.join(", ")));
        }
        Ok(_) => {}
        Err(error) => notes.find(Kind::ServerNames, format!("MCP_PROXY_NGINX_SAN: {error}")),
    }
}
