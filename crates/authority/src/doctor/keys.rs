//! Private keys: whether they open, belong to their certificates, and are sealed; and the key that signs tokens.

use mastio_core::{Kid, counted};
use mastio_custody::CustodyError;
use mastio_pki::{Anchors, Certificate, KeyPair, PublicKey};
use mastio_store::{
    ReadError,
    examine::{OLD_ARCHIVE, readable_keys},
    keys::{CaKind, KeyState, SigningKeyRow, signing_keys},
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    Kind, Notes, Patient,
    cas::{KnownCa, Registry},
};
use crate::updates::cut_short;

/// Whether the key of the active root can be used; `None` when that could not be looked at.
pub(super) fn examine(
    patient: &Patient<'_>,
    registry: &Registry,
    notes: &mut Notes,
) -> Result<Option<bool>, ReadError> {
    let root_key = judge_active(patient, registry, CaKind::Root, notes)?;
    judge_active(patient, registry, CaKind::Intermediate, notes)?;
    for ca in &registry.cas {
        if let Some(stored) = &ca.row.private {
            judge_stored(patient, ca, stored, notes);
        }
    }
    judge_signing_keys(patient, registry, notes)?;
    for (place, count) in readable_keys(patient.database)? {
        let kind = match place {
            OLD_ARCHIVE => Kind::OldArchive,
            _ if patient.settings.at_rest_passphrase.is_some() => Kind::KeysBare,
            _ => Kind::KeysReadable,
        };
        notes.find(kind, format!("{count} {place}"));
    }
    Ok(root_key)
}

/// The CA that custody has, against the one that the registry calls active.
fn judge_active(
    patient: &Patient<'_>,
    registry: &Registry,
    kind: CaKind,
    notes: &mut Notes,
) -> Result<Option<bool>, ReadError> {
    let held = match patient.custody.load(kind) {
        Ok(held) => held,
        Err(CustodyError::Read(error)) => return Err(error),
        Err(error) => {
            let is_unfit = kind == CaKind::Root && matches!(error, CustodyError::Unusable { .. });
            match is_unfit.then(|| cut_short(patient.database, patient.custody)).transpose()?.flatten() {
                Some(migration) => notes.find(Kind::UpdateCutShort, migration),
                None => notes.sealed_key(&error),
            }
            let unknown = matches!(error, CustodyError::NoPassphrase { .. });
            return Ok((!unknown).then_some(false));
        }
    };
    let Some(held) = held else {
        notes.find(Kind::CaMissing, format!("no private key of the {}", kind.as_str()));
        return Ok(Some(false));
    };
    let (held, known) = (held.certificate, registry.active(kind));
    if known.is_some_and(|known| known.certificate != held) {
        let known = known.map(|known| known.row.thumbprint);
        notes.find(
            Kind::RegistryDiffers,
            format!("{}: {} has its key, pki_cas says {known:?}", kind.as_str(), held.thumbprint()),
        );
    }
    Ok(Some(true))
}

/// The key of a staged or superseded CA.
fn judge_stored(patient: &Patient<'_>, ca: &KnownCa, stored: &SecretString, notes: &mut Notes) {
    let what = format!("the key of the {} {}", ca.word(), ca.certificate.subject());
    match patient.custody.unwrap(&what, stored) {
        Err(error) => notes.sealed_key(&error),
        Ok(pem) => match KeyPair::from_pem(pem.expose_secret()) {
            Err(error) => notes.find(Kind::CaKey, format!("{what}: {error}")),
            Ok(key) if !key.matches(&ca.certificate) => {
                notes.find(Kind::CaKey, format!("{what}: its certificate belongs to another key"));
            }
            Ok(_) => {}
        },
    }
}

fn judge_signing_keys(
    patient: &Patient<'_>,
    registry: &Registry,
    notes: &mut Notes,
) -> Result<(), ReadError> {
    let rows = signing_keys(patient.database)?;
    let active: Vec<_> = rows.iter().filter(|row| row.state == KeyState::Active).collect();
    if active.len() != 1 {
        notes.find(
            Kind::SigningKey,
            format!(
                "{} in mastio_keys, where one must be",
                counted(active.len(), "active row", "active rows")
            ),
        );
    }
    for row in &rows {
        let (kid, now) = (&row.kid, patient.now);
        match row.state {
            KeyState::Grace(Some(until)) if until <= now => continue,
            KeyState::Staged => notes.find(Kind::SigningKeyStaged, kid.as_str()),
            KeyState::Active | KeyState::Grace(_) => {}
        }
        if let Err(problem) = judge_pair(patient, row, notes) {
            notes.find(Kind::SigningKey, format!("{kid}: {problem}"));
        }
    }
    for row in active {
        if let Err(problem) = judge_certificate(patient, registry, row, notes) {
            notes.find(Kind::SigningKey, format!("{}: {problem}", row.kid));
        }
    }
    Ok(())
}

fn judge_pair(patient: &Patient<'_>, row: &SigningKeyRow, notes: &mut Notes) -> Result<(), String> {
    let public = PublicKey::from_pem(&row.public_pem).map_err(|error| error.to_string())?;
    if Kid::of_pem(&public.spki_pem()) != row.kid {
        return Err("its public key has another kid".to_owned());
    }
    // One that was replaced signs no more, and its private half is wiped.
    if matches!(row.state, KeyState::Grace(_)) {
        return Ok(());
    }
    match patient.custody.unwrap(&format!("signing key {}", row.kid), &row.private) {
        Err(error @ CustodyError::NoPassphrase { .. }) => notes.sealed_key(&error),
        Err(error) => return Err(error.to_string()),
        Ok(pem) => {
            let key = KeyPair::from_pem(pem.expose_secret()).map_err(|error| error.to_string())?;
            if key.spki_der() != public.spki_der() {
                return Err("its private key belongs to another public key".to_owned());
            }
        }
    }
    Ok(())
}

/// The certificate of the active key: it is what a Court believes, and leads to the Org CA.
fn judge_certificate(
    patient: &Patient<'_>,
    registry: &Registry,
    row: &SigningKeyRow,
    notes: &mut Notes,
) -> Result<(), String> {
    let pem = row.certificate.as_deref().ok_or("it has no certificate")?;
    let leaf = Certificate::from_pem(pem).map_err(|error| error.to_string())?;
    notes.ends("signing key", &leaf, patient.settings.expiry.warn_days.signing, patient.now);
    if leaf.spki_pem() != row.public_pem {
        return Err("its certificate belongs to another key".to_owned());
    }
    let (Some(root), Some(above)) = (registry.active(CaKind::Root), registry.active(CaKind::Intermediate))
    else {
        return Ok(());
    };
    let trusted = Anchors::builder().org([root.certificate.clone(), above.certificate.clone()]).build();
    let trusted = trusted.map_err(|error| error.to_string())?;
    trusted
        .validate(&leaf, std::slice::from_ref(&above.certificate), patient.now)
        .map(drop)
        .map_err(|error| error.to_string())
}
