//! Certificate signing requests (PKCS#10, RFC 2986).

use std::time::Duration;

use mastio_core::{Principal, Rng, SpiffeId, Stamp};
use rcgen::{CertificateParams, DistinguishedName, SigningKey};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::{
    Certificate, IssueError, Issuer, PemError, PublicKey, PublicKeyError, name, pem, profile,
    public_key::verifies,
};

/// Longest request that is read, in bytes of DER.
const MAX_DER: usize = 16 * 1024;

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// No `CERTIFICATE REQUEST` section.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not a PKCS#10 request in DER, or one whose requested names are unreadable.
    #[error("not a PKCS#10 certificate request")]
    Malformed,
    /// The key is not accepted.
    #[error(transparent)]
    Key(#[from] PublicKeyError),
    /// The sender did not prove that it has the private key.
    #[error("the request is not signed by its own key: make it again with the private key at hand")]
    BadSignature,
}

/// A request whose sender has the private key, which is of an accepted kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    public: PublicKey,
    subject: String,
    subject_raw: Vec<u8>,
    uris: Vec<String>,
}

impl SigningRequest {
    /// Reads and verifies a request in DER.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_DER {
            return Err(CsrError::Malformed);
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
        if !rest.is_empty() {
            return Err(CsrError::Malformed);
        }
        let info = &request.certification_request_info;
        let public = PublicKey::from_spki_der(info.subject_pki.raw)?;
        let signature = &request.signature_value.data;
        if !verifies(public.spki_der(), &request.signature_algorithm, info.raw, signature) {
            return Err(CsrError::BadSignature);
        }
        Ok(Self {
            public,
            subject: name::display(&info.subject),
            subject_raw: info.subject.as_raw().to_vec(),
            uris: requested_uris(&request)?,
        })
    }

    /// Reads and verifies the first `CERTIFICATE REQUEST` of a PEM text.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn from_pem(text: &str) -> Result<Self, CsrError> {
        Self::from_der(&pem::certificate_request(text)?)
    }

    /// The key to be certified.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The subject as one printable line.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The URI names asked for, in order.
    #[must_use]
    pub fn uri_sans(&self) -> &[String] {
        &self.uris
    }
}

/// A request for a certificate of `key` in PEM: it proves possession of the private key and asks for nothing else.
///
/// # Errors
/// [`IssueError::Signing`].
pub fn request_for<K: SigningKey>(key: &K) -> Result<String, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.pem()?)
}

fn requested_uris(request: &X509CertificationRequest<'_>) -> Result<Vec<String>, CsrError> {
    let mut uris = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                        GeneralName::Invalid(..) => return Err(CsrError::Malformed),
                        _ => {}
                    }
                }
            }
            ParsedExtension::ParseError { .. } => return Err(CsrError::Malformed),
            _ => {}
        }
    }
    Ok(uris)
}

/// What a request is signed as. Only its key is taken, and for a CA its subject; what else it asks for is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CsrKind {
    /// An operator's own CA below our root, path length 0 (BYOCA; design decision 5).
    Ca {
        /// How long it shall live.
        lifetime: Duration,
    },
    /// Somebody who logs in: an agent's profile for an agent, the one with an empty subject for a user or workload.
    Client {
        /// Who.
        principal: Principal,
        /// The URI name of the certificate.
        spiffe: SpiffeId,
        /// How long it shall live.
        lifetime: Duration,
    },
}

/// Signs a request.
///
/// # Errors
/// [`IssueError`]; [`IssueError::PathLength`] for a CA below an issuer with path length 0.
pub fn sign_csr<K: SigningKey>(
    issuer: &Issuer<K>,
    request: &SigningRequest,
    kind: &CsrKind,
    now: Stamp,
    rng: &dyn Rng,
) -> Result<Certificate, IssueError> {
    let spki = request.public.spki_der();
    match kind {
        CsrKind::Ca { lifetime } => {
            profile::foreign_ca(issuer, &request.subject_raw, spki, *lifetime, now, rng)
        }
        CsrKind::Client { principal, spiffe, lifetime } => match principal.agent_id() {
            Some(agent) => profile::agent(issuer, &agent, spiffe, spki, *lifetime, now, rng),
            None => profile::user(issuer, spiffe, spki, *lifetime, now, rng),
        },
    }
}

#[cfg(test)]
mod tests {
    use mastio_core::SystemRng;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Anchors, KeyPair,
        testing::{Pki, now, openssl, vectors},
    };

    const DAY: Duration = Duration::from_secs(86_400);

    fn request(subject: &str, key: &str) -> Result<SigningRequest, CsrError> {
        SigningRequest::from_pem(&openssl(&format!("req -new -key /dev/stdin -subj {subject}"), key))
    }

    fn key(arguments: &str) -> String {
        openssl(&format!("genpkey -algorithm {arguments}"), "")
    }

    #[test]
    fn a_request_of_ours_is_read_here_and_by_openssl() {
        let key = KeyPair::generate_p256().unwrap();
        let pem = request_for(&key).unwrap();
        let read = SigningRequest::from_pem(&pem).unwrap();
        assert_eq!((read.public(), read.subject()), (key.public(), ""));
        assert!(openssl("req -noout -verify -text", &pem).contains("prime256v1"));
    }

    #[test]
    fn the_connectors_request_is_read_and_signed_for_its_user() {
        let vectors = vectors();
        let vector = |name: &str| vectors["reference"][name].as_str().unwrap().to_owned();
        let request = SigningRequest::from_pem(&vector("user_csr")).unwrap();
        let spiffe = SpiffeId::parse(&format!("spiffe://{}", vector("user_principal_id"))).unwrap();
        assert_eq!(request.uri_sans(), [spiffe.as_str()]);
        assert_eq!(request.public(), KeyPair::from_pem(&vector("user_key")).unwrap().public());

        let pki = Pki::new();
        let principal = spiffe.principal().unwrap();
        let kind = CsrKind::Client { principal: principal.clone(), spiffe, lifetime: profile::USER_LIFETIME };
        let signed = sign_csr(&pki.intermediate, &request, &kind, now(), &SystemRng).unwrap();
        assert_eq!((signed.subject(), signed.principal()), ("", Some(&principal)));
        assert_eq!(signed.not_after(), now().plus(profile::USER_LIFETIME));
    }

    #[test]
    fn requests_of_openssl_are_read_for_every_accepted_key() {
        for algorithm in [
            "EC -pkeyopt ec_paramgen_curve:P-256",
            "EC -pkeyopt ec_paramgen_curve:P-384",
            "EC -pkeyopt ec_paramgen_curve:P-521",
            "RSA -pkeyopt rsa_keygen_bits:2048",
        ] {
            assert_eq!(
                request("/CN=x/O=acme", &key(algorithm)).unwrap().subject(),
                "CN=x, O=acme",
                "{algorithm}"
            );
        }
        for algorithm in
            ["ED25519", "RSA -pkeyopt rsa_keygen_bits:1024", "EC -pkeyopt ec_paramgen_curve:secp256k1"]
        {
            let refused = request("/CN=x", &key(algorithm)).unwrap_err();
            assert_eq!(refused, CsrError::Key(PublicKeyError::NotAccepted), "{algorithm}");
        }
    }

    #[test]
    fn a_request_without_proof_of_possession_is_refused() {
        let pem = vectors()["reference"]["user_csr"].as_str().unwrap().to_owned();
        let mut der = pem::certificate_request(&pem).unwrap();
        let subject_byte = 40;
        der[subject_byte] ^= 1;
        assert_eq!(SigningRequest::from_der(&der), Err(CsrError::BadSignature));
    }

    #[test]
    fn an_operators_ca_is_signed_under_its_own_name_and_its_leaves_verify() {
        let pki = Pki::new();
        let pem = key("EC -pkeyopt ec_paramgen_curve:P-384");
        let request = request("/C=IT/O=Acme/CN=Acme-Robots", &pem).unwrap();
        let sign = |issuer| sign_csr(issuer, &request, &CsrKind::Ca { lifetime: DAY }, now(), &SystemRng);
        let ca = sign(&pki.root).unwrap();
        assert_eq!(ca.subject(), "C=IT, O=Acme, CN=Acme-Robots");
        assert_eq!((ca.is_ca(), ca.path_len(), ca.not_after()), (true, Some(0), now().plus(DAY)));
        let own = Issuer::new(ca, KeyPair::from_pem(&pem).unwrap()).unwrap();
        let leaf = pki.agent_of("alice", &own);
        let anchors = Anchors::builder().org([pki.root.certificate().clone()]).build().unwrap();
        anchors.validate(&leaf, &[own.certificate().clone()], now()).unwrap();

        assert_eq!(sign(&pki.intermediate), Err(IssueError::PathLength));
    }

    #[test]
    fn a_ca_may_not_take_its_issuers_name_or_none() {
        let pki = Pki::new();
        for subject in ["/CN=Cullis\\ Org\\ CA/O=acme", "/"] {
            let subject = subject.replace("\\ ", " ");
            let pem = key("EC -pkeyopt ec_paramgen_curve:P-256");
            let csr =
                crate::testing::openssl_with(&["req", "-new", "-key", "/dev/stdin", "-subj", &subject], &pem);
            let request = SigningRequest::from_pem(&csr).unwrap();
            let refused = sign_csr(&pki.root, &request, &CsrKind::Ca { lifetime: DAY }, now(), &SystemRng);
            assert_eq!(refused, Err(IssueError::SubjectTaken), "{subject}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = SigningRequest::from_der(&bytes);
        }

        #[test]
        fn damage_never_panics_and_never_changes_what_is_signed(at in 0usize..1000, with in 1u8..) {
            let pem = vectors()["reference"]["user_csr"].as_str().unwrap().to_owned();
            let mut der = pem::certificate_request(&pem).unwrap();
            let at = at % der.len();
            der[at] ^= with;
            // Bytes outside of the signed part may differ: the parser overlooks the class of a tag.
            if let Ok(damaged) = SigningRequest::from_der(&der) {
                prop_assert_eq!(damaged, SigningRequest::from_pem(&pem).unwrap());
            }
        }
    }
}
