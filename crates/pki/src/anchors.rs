//! Whom to believe: our own CAs, and one SPIRE bundle per trust domain.

use mastio_core::TrustDomain;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::Certificate;

/// On whose word a path is believed (design decision 1). SPIFFE agents are accepted only from the group of their
/// bundle, everybody else only from the organisation's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Group {
    /// The organisation's roots and intermediates.
    Org,
    /// The SPIRE bundle of one trust domain.
    Spire(TrustDomain),
}

impl Group {
    /// The organisation first, then the trust domains by name.
    fn order(&self) -> &str {
        match self {
            Self::Org => "",
            Self::Spire(domain) => domain.as_str(),
        }
    }
}

/// Why a certificate cannot be an anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// BasicConstraints do not say CA.
    #[error("{0} cannot be trusted as a CA: its basic constraints do not say that it is one")]
    NotCa(String),
    /// KeyUsage without keyCertSign.
    #[error("{0} cannot be trusted as a CA: its key usage lacks keyCertSign")]
    MayNotSign(String),
    /// NameConstraints on URIs, which nobody here could enforce.
    #[error("{0} has name constraints on URIs, which are not supported: use a bundle without them")]
    UriConstraints(String),
    /// The path verifier cannot read it.
    #[error("{0} cannot be trusted as a CA: it is not an X.509 v3 certificate in DER")]
    Malformed(String),
}

/// One believed CA.
#[derive(Debug, Clone)]
pub(crate) struct Anchor {
    pub(crate) group: Group,
    pub(crate) certificate: Certificate,
}

/// The CAs that paths may end at. Several of one name, or one key, may stand side by side: all are tried.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    /// Sorted by group, the organisation's first.
    anchors: Vec<Anchor>,
    /// The same, as the path verifier wants them, index for index.
    trusted: Vec<TrustAnchor<'static>>,
}

impl Anchors {
    /// Begins a set.
    #[must_use]
    pub fn builder() -> AnchorsBuilder {
        AnchorsBuilder::default()
    }

    /// Every anchor certificate with its group.
    pub fn iter(&self) -> impl Iterator<Item = (&Group, &Certificate)> {
        self.anchors.iter().map(|anchor| (&anchor.group, &anchor.certificate))
    }

    /// The anchors of one group, or all, in both forms.
    pub(crate) fn of(&self, group: Option<&Group>) -> (&[Anchor], &[TrustAnchor<'static>]) {
        let Some(group) = group else {
            return (&self.anchors, &self.trusted);
        };
        let start = self.anchors.partition_point(|anchor| anchor.group.order() < group.order());
        let end = self.anchors.partition_point(|anchor| anchor.group.order() <= group.order());
        (&self.anchors[start..end], &self.trusted[start..end])
    }
}

/// Collects anchors; [`AnchorsBuilder::build`] checks them.
#[derive(Debug, Clone, Default)]
pub struct AnchorsBuilder(Vec<Anchor>);

impl AnchorsBuilder {
    /// Adds roots or intermediates of the organisation.
    #[must_use]
    pub fn org(self, certificates: impl IntoIterator<Item = Certificate>) -> Self {
        self.add(&Group::Org, certificates)
    }

    /// Adds the SPIRE bundle of a trust domain.
    #[must_use]
    pub fn spire(self, domain: TrustDomain, bundle: impl IntoIterator<Item = Certificate>) -> Self {
        self.add(&Group::Spire(domain), bundle)
    }

    fn add(mut self, group: &Group, certificates: impl IntoIterator<Item = Certificate>) -> Self {
        let anchor = |certificate| Anchor { group: group.clone(), certificate };
        self.0.extend(certificates.into_iter().map(anchor));
        self
    }

    /// The set, if every member can be an anchor. Dates are not looked at here but whenever a path is validated.
    ///
    /// # Errors
    /// [`AnchorError`] for the first that cannot.
    pub fn build(self) -> Result<Anchors, AnchorError> {
        let mut anchors = self.0;
        anchors.sort_by(|a, b| a.group.order().cmp(b.group.order()));
        anchors.dedup_by(|a, b| a.group == b.group && a.certificate == b.certificate);
        let trusted = anchors.iter().map(|anchor| trusted(&anchor.certificate)).collect::<Result<_, _>>()?;
        Ok(Anchors { anchors, trusted })
    }
}

fn trusted(certificate: &Certificate) -> Result<TrustAnchor<'static>, AnchorError> {
    let subject = || certificate.subject().to_owned();
    if !certificate.is_ca() {
        return Err(AnchorError::NotCa(subject()));
    }
    if !certificate.may_sign_certificates() {
        return Err(AnchorError::MayNotSign(subject()));
    }
    if certificate.has_uri_name_constraints() {
        return Err(AnchorError::UriConstraints(subject()));
    }
    let der = CertificateDer::from(certificate.der());
    let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| AnchorError::Malformed(subject()))?;
    Ok(anchor.to_owned())
}
