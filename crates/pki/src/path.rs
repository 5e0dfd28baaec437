//! Path validation: does a certificate lead to a CA that we believe?
//!
//! The path is built and its signatures, names, dates and CA flags are checked by `webpki`. What that leaves out is
//! checked here, on every candidate: keyCertSign on every CA, and the dates and path length of the anchor.

mod line;

use std::{cell::RefCell, time::Duration};

use mastio_core::Stamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::{Anchors, Certificate, Group, anchors::Anchor};

/// Most certificates that a client may send along with its leaf.
pub const MAX_PRESENTED: usize = 6;

/// Why a certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// More than [`MAX_PRESENTED`].
    #[error("more than {MAX_PRESENTED} certificates presented: send the leaf and its intermediates only")]
    TooManyCertificates,
    /// No path to an anchor: a CA is missing or unknown, or one of the right name did not make the signature.
    #[error(
        "not signed by this Mastio's Org CA or a configured SPIRE bundle: send the intermediate with the leaf"
    )]
    UnknownIssuer,
    /// A certificate of the path is past its end.
    #[error("a certificate of the chain has expired: renew it")]
    Expired,
    /// A certificate of the path is not valid yet.
    #[error("a certificate of the chain is not valid yet: check the clocks")]
    NotYetValid,
    /// The believed CA is past its end.
    #[error("the CA {0} has expired: rotate it")]
    AnchorExpired(String),
    /// The believed CA is not valid yet.
    #[error("the CA {0} is not valid yet: check the clocks")]
    AnchorNotYetValid(String),
    /// The certificate presented is itself a CA.
    #[error("a CA certificate cannot log in: present the certificate of an agent")]
    CaAsLeaf,
    /// Somebody signed with a certificate that is not a CA.
    #[error("a certificate that is not a CA signed another one: a leaf acts as CA")]
    LeafAsCa,
    /// A CA of the path lacks keyCertSign.
    #[error("the CA {0} may not sign certificates: its key usage lacks keyCertSign")]
    MayNotSign(String),
    /// More CAs below another than it allows.
    #[error("a CA of the chain allows fewer CAs below it than the chain has (path length)")]
    PathLength,
    /// ExtendedKeyUsage without clientAuth.
    #[error("the certificate is not for TLS clients: its extended key usage lacks clientAuth")]
    NotForClients,
    /// ExtendedKeyUsage without serverAuth, where a server is judged.
    #[error("the certificate is not for TLS servers: its extended key usage lacks serverAuth")]
    NotForServers,
    /// The leaf's key.
    #[error(
        "the certificate's key is not accepted: use EC P-256, P-384 or P-521, or RSA with at least 2048 bits"
    )]
    WeakKey,
    /// A SPIRE bundle was used for somebody else than its trust domain.
    #[error("the certificate is not a SPIFFE identity of the trust domain {0}, whose bundle it leads to")]
    ForeignTrustDomain(String),
    /// A name is outside of what a CA may certify.
    #[error("the certificate has a name that a CA of its chain may not certify (name constraints)")]
    NameConstraint,
    /// Too many possible paths.
    #[error("the certificate chain is too complex: send the leaf and its intermediates only, in order")]
    TooComplex,
    /// Anything else: encodings, critical extensions, algorithms.
    #[error("the certificate chain cannot be verified: {0}")]
    Unverifiable(String),
}

impl PathError {
    /// The word for it in audit entries and answers; never changes.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooManyCertificates => "too_many_certificates",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Expired => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::AnchorExpired(_) => "ca_expired",
            Self::AnchorNotYetValid(_) => "ca_not_yet_valid",
            Self::CaAsLeaf => "ca_as_leaf",
            Self::LeafAsCa => "leaf_as_ca",
            Self::MayNotSign(_) => "ca_may_not_sign",
            Self::PathLength => "path_length_exceeded",
            Self::NotForClients => "not_for_client_auth",
            Self::NotForServers => "not_for_server_auth",
            Self::WeakKey => "weak_key",
            Self::ForeignTrustDomain(_) => "foreign_trust_domain",
            Self::NameConstraint => "name_constraint",
            Self::TooComplex => "chain_too_complex",
            Self::Unverifiable(_) => "chain_unverifiable",
        }
    }
}

/// A certificate that is believed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidPath {
    /// On whose word.
    pub group: Group,
    /// When the first certificate of the path, anchor included, ends: the path is good until then.
    pub not_after: Stamp,
    /// The CA that signed the leaf.
    pub issuer: Certificate,
    /// The anchor that the path ends at; the issuer itself if it is one.
    pub anchor: Certificate,
}

impl Anchors {
    /// Whether `leaf` leads to any of these anchors, by way of the certificates presented with it, in whatever order.
    /// Says nothing about pins and revocation.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn validate(
        &self,
        leaf: &Certificate,
        presented: &[Certificate],
        now: Stamp,
    ) -> Result<ValidPath, PathError> {
        self.validate_in(None, Purpose::Client, leaf, presented, now)
    }

    /// As [`Anchors::validate`], for the certificate of a TLS server: what a client that believes these anchors does.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn validate_server(
        &self,
        leaf: &Certificate,
        presented: &[Certificate],
        now: Stamp,
    ) -> Result<ValidPath, PathError> {
        self.validate_in(None, Purpose::Server, leaf, presented, now)
    }

    /// As [`Anchors::validate`], with the anchors of one group only.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn validate_within(
        &self,
        group: &Group,
        leaf: &Certificate,
        presented: &[Certificate],
        now: Stamp,
    ) -> Result<ValidPath, PathError> {
        self.validate_in(Some(group), Purpose::Client, leaf, presented, now)
    }

    fn validate_in(
        &self,
        group: Option<&Group>,
        purpose: Purpose,
        leaf: &Certificate,
        presented: &[Certificate],
        now: Stamp,
    ) -> Result<ValidPath, PathError> {
        if presented.len() > MAX_PRESENTED {
            return Err(PathError::TooManyCertificates);
        }
        if leaf.is_ca() {
            return Err(PathError::CaAsLeaf);
        }
        if !leaf.key_strength_ok() {
            return Err(PathError::WeakKey);
        }
        let (anchors, trusted) = self.of(group);
        let leaf_der = CertificateDer::from(leaf.der());
        let end_entity = EndEntityCert::try_from(&leaf_der).map_err(|error| refusal(&error))?;
        let above = match purpose {
            Purpose::Client => line::above(leaf, presented),
            // Nobody else chose what our own server sends, and the links of three rotations have one name.
            Purpose::Server => presented.iter().collect(),
        };
        let above: Vec<_> = above.into_iter().map(|ca| CertificateDer::from(ca.der())).collect();

        // The verifier goes on to other paths when we refuse one; the first refusal explains a failure best.
        let refused = RefCell::new(None);
        let check = |path: &VerifiedPath<'_>| {
            let checked = Candidate::of(path, leaf, presented, anchors, trusted)
                .ok_or(PathError::UnknownIssuer)
                .and_then(|candidate| candidate.check(now));
            checked.map_err(|error| {
                refused.borrow_mut().get_or_insert(error);
                webpki::Error::UnknownIssuer
            })
        };
        let verified = end_entity.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            trusted,
            &above,
            unix_time(now),
            purpose.usage(),
            None,
            Some(&check),
        );
        let path = verified
            .map_err(|error| refused.borrow_mut().take().unwrap_or_else(|| purpose.refusal(&error)))?;
        Candidate::of(&path, leaf, presented, anchors, trusted)
            .map(Candidate::accept)
            .ok_or(PathError::UnknownIssuer)
    }
}

/// What the leaf of a path is used for.
#[derive(Clone, Copy)]
enum Purpose {
    Client,
    Server,
}

impl Purpose {
    fn usage(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }

    fn refusal(self, error: &webpki::Error) -> PathError {
        match (refusal(error), self) {
            (PathError::NotForClients, Self::Server) => PathError::NotForServers,
            (other, _) => other,
        }
    }
}

/// A path whose signatures hold, in our own terms.
struct Candidate<'a> {
    leaf: &'a Certificate,
    /// From the issuer of the leaf upwards, without the anchor.
    intermediates: Vec<&'a Certificate>,
    anchor: &'a Anchor,
}

impl<'a> Candidate<'a> {
    fn of(
        path: &VerifiedPath<'_>,
        leaf: &'a Certificate,
        presented: &'a [Certificate],
        anchors: &'a [Anchor],
        trusted: &[TrustAnchor<'static>],
    ) -> Option<Self> {
        // By address: anchors that differ only in dates or path length look the same to the verifier.
        let index = trusted.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()))?;
        let ours = |ca: &webpki::Cert<'_>| presented.iter().find(|known| known.der() == ca.der().as_ref());
        let intermediates = path.intermediate_certificates().map(ours).collect::<Option<_>>()?;
        Some(Self { leaf, intermediates, anchor: anchors.get(index)? })
    }

    fn check(&self, now: Stamp) -> Result<(), PathError> {
        let anchor = &self.anchor.certificate;
        // Certificates are valid through the whole last second.
        if now.unix() > anchor.not_after().unix() {
            return Err(PathError::AnchorExpired(anchor.subject().to_owned()));
        }
        if now < anchor.not_before() {
            return Err(PathError::AnchorNotYetValid(anchor.subject().to_owned()));
        }
        for ca in &self.intermediates {
            if !ca.is_ca() {
                return Err(PathError::LeafAsCa);
            }
            if !ca.may_sign_certificates() {
                return Err(PathError::MayNotSign(ca.subject().to_owned()));
            }
        }
        let below = self.intermediates.iter().filter(|ca| !ca.is_self_issued()).count();
        if anchor.path_len().is_some_and(|limit| below > limit as usize) {
            return Err(PathError::PathLength);
        }
        match &self.anchor.group {
            Group::Org => Ok(()),
            Group::Spire(domain) => {
                let identity = self.leaf.spiffe_id().filter(|_| self.leaf.uri_sans().len() == 1);
                let ours = identity.is_some_and(|id| id.trust_domain() == domain);
                if ours { Ok(()) } else { Err(PathError::ForeignTrustDomain(domain.to_string())) }
            }
        }
    }

    fn accept(self) -> ValidPath {
        let anchor = &self.anchor.certificate;
        let ends = self.intermediates.iter().map(|ca| ca.not_after()).chain([anchor.not_after()]);
        ValidPath {
            group: self.anchor.group.clone(),
            not_after: ends.fold(self.leaf.not_after(), Stamp::min),
            issuer: self.intermediates.first().map_or(anchor, |ca| *ca).clone(),
            anchor: anchor.clone(),
        }
    }
}

fn unix_time(now: Stamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.unix()).unwrap_or(0)))
}

/// The verifier's error in our words.
fn refusal(error: &webpki::Error) -> PathError {
    use webpki::Error;
    match error {
        // Successive roots of an organisation share their name, so "another key" means "another CA".
        Error::UnknownIssuer
        | Error::InvalidSignatureForPublicKey
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => PathError::UnknownIssuer,
        Error::CertExpired { .. } => PathError::Expired,
        Error::CertNotValidYet { .. } => PathError::NotYetValid,
        Error::CaUsedAsEndEntity => PathError::CaAsLeaf,
        Error::EndEntityUsedAsCa => PathError::LeafAsCa,
        Error::PathLenConstraintViolated => PathError::PathLength,
        Error::RequiredEkuNotFoundContext(_) => PathError::NotForClients,
        Error::NameConstraintViolation => PathError::NameConstraint,
        Error::MaximumPathBuildCallsExceeded
        | Error::MaximumPathDepthExceeded
        | Error::MaximumSignatureChecksExceeded
        | Error::MaximumNameConstraintComparisonsExceeded => PathError::TooComplex,
        other => PathError::Unverifiable(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests;
