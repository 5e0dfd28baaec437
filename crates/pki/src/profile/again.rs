//! Certificates that repeat another one under another issuer: what follows when a root gets another key.

use mastio_core::{Rng, Stamp};
use rcgen::{CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose as Purpose, SigningKey};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{INTERMEDIATE_LIFETIME, ca, leaf, named};
use crate::{
    Certificate, IssueError, Issuer,
    issuer::{Draft, Repeats},
    name,
};

/// The OID of subjectAltName.
const SUBJECT_ALT_NAME: [u64; 4] = [2, 5, 29, 17];

/// The intermediate `old` under another root: its name, its key and the identifier of that key stay, so that whatever it
/// has certified has a chain through either. Path length 0, with a lifetime of its own.
///
/// # Errors
/// [`IssueError`]; [`IssueError::Name`] if the old name cannot be repeated exactly.
pub fn intermediate_again<K: SigningKey>(
    issuer: &Issuer<K>,
    old: &Certificate,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    let repeats = Repeats { key_id: old.key_id().map(<[u8]>::to_vec), ..Repeats::default() };
    let draft =
        Draft { repeats, ..ca(name::from_der(old.subject_raw())?, 0, now.plus(INTERMEDIATE_LIFETIME)) };
    named(issuer.sign(draft, old.spki_der(), now, rng)?, old.subject_raw())
}

/// The leaf `old` of an agent under `issuer`: its subject, key, alternative names and validity, a fresh serial number, and
/// for the rest the profile of an agent. It ends with its issuer, if that is sooner.
///
/// # Errors
/// [`IssueError`]; [`IssueError::Name`] if the subject cannot be repeated exactly.
pub fn leaf_again<K: SigningKey>(
    issuer: &Issuer<K>,
    old: &Certificate,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    let subject = name::from_der(old.subject_raw())?;
    let names = alternative_names(old, &subject)?;
    let repeats = Repeats { not_before: Some(old.not_before()), names, key_id: None };
    let draft = Draft { repeats, ..leaf(subject, Vec::new(), &[Purpose::ClientAuth], old.not_after()) };
    named(issuer.sign(draft, old.spki_der(), now, rng)?, old.subject_raw())
}

/// The extension as it stands in `old`; critical where there is no other name (RFC 5280 §4.2.1.6).
fn alternative_names(
    old: &Certificate,
    subject: &DistinguishedName,
) -> Result<Option<CustomExtension>, IssueError> {
    let (_, parsed) = X509Certificate::from_der(old.der()).map_err(|_| IssueError::ReadBack)?;
    let found = parsed
        .extensions()
        .iter()
        .find(|extension| extension.oid.iter().is_some_and(|arcs| arcs.eq(SUBJECT_ALT_NAME)));
    Ok(found.map(|extension| {
        let mut repeated = CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, extension.value.to_vec());
        repeated.set_criticality(extension.critical || subject.iter().next().is_none());
        repeated
    }))
}

#[cfg(test)]
mod tests {
    use mastio_core::{AgentId, OrgId, SpiffeId, SystemRng};

    use super::*;
    use crate::{
        KeyPair, profile,
        testing::{openssl, vectors},
    };

    fn now() -> Stamp {
        Stamp::from_unix(1_795_400_000)
    }

    #[test]
    fn below_a_root_with_another_key_everything_has_a_chain_again() {
        let vectors = vectors();
        let text = |name: &str| vectors["legacy_pathlen_zero"][name].as_str().unwrap();
        let (old, key) =
            (Certificate::from_pem(text("root")).unwrap(), KeyPair::from_pem(text("root_key")).unwrap());
        let old = Issuer::new(old, key).unwrap();
        let (rng, org) = (SystemRng, OrgId::parse("acme").unwrap());
        let key = KeyPair::generate_p256().unwrap();
        let below = profile::intermediate(&old, &org, key.spki_der(), now(), &rng).unwrap();
        let below = Issuer::new(below, key).unwrap();
        let agent = KeyPair::generate_p256().unwrap();
        let id = AgentId::parse("acme::alice").unwrap();
        let spiffe = SpiffeId::parse("spiffe://cullis.local/acme/alice").unwrap();
        let leaf =
            profile::agent(&below, &id, &spiffe, agent.spki_der(), profile::LEAF_LIFETIME, now(), &rng)
                .unwrap();

        let key = KeyPair::generate_rsa_4096().unwrap();
        let end = old.certificate().not_after();
        let root = profile::successor(old.certificate(), &key, end, now(), &rng).unwrap();
        assert_eq!((root.not_after(), root.path_len()), (end, Some(1)));
        let root = Issuer::new(root, key).unwrap();
        let again = intermediate_again(&root, below.certificate(), now(), &rng).unwrap();
        assert_eq!(again.key_id(), below.certificate().key_id());
        assert!(leaf.is_signed_by(&again), "what is out there goes on");
        let below = Issuer::new(again.clone(), KeyPair::from_pkcs8_der(&below.key().to_pkcs8_der()).unwrap())
            .unwrap();
        let repeated = leaf_again(&below, &leaf, now().plus(profile::USER_LIFETIME), &rng).unwrap();
        let facts = |leaf: &Certificate| {
            (
                leaf.subject_raw().to_vec(),
                leaf.spki_der().to_vec(),
                leaf.uri_sans().to_vec(),
                leaf.not_before(),
                leaf.not_after(),
            )
        };
        assert_eq!(facts(&repeated), facts(&leaf));
        assert_ne!(repeated.serial(), leaf.serial());
        for leaf in [&leaf, &repeated] {
            let folder = tempfile::tempdir().unwrap();
            let file = |name: &str, pem: String| {
                let path = folder.path().join(name);
                std::fs::write(&path, pem).unwrap();
                path.display().to_string()
            };
            let root = file("root.pem", root.certificate().pem());
            let below = file("below.pem", again.pem());
            let verdict = openssl(
                &format!(
                    "verify -x509_strict -attime {} -CAfile {root} -untrusted {below}",
                    now().unix() + 60
                ),
                &leaf.pem(),
            );
            assert!(verdict.contains("OK"), "{verdict}");
        }
    }

    #[test]
    fn a_root_that_is_reissued_for_its_key_keeps_what_is_below_it() {
        let vectors = vectors();
        let text = |name: &str| vectors["reference"][name].as_str().unwrap();
        let key = KeyPair::from_pem(vectors["at_rest"]["org_ca_key_pem"].as_str().unwrap()).unwrap();
        let old = Certificate::from_pem(text("root")).unwrap();
        let root = profile::successor(&old, &key, old.not_after(), now(), &SystemRng).unwrap();
        assert_eq!((root.key_id(), root.spki_der()), (old.key_id(), old.spki_der()));
        assert!(Certificate::from_pem(text("intermediate")).unwrap().is_signed_by(&root));
    }
}
