//! SPIFFE ids and trust domains.

use std::{fmt, sync::Arc};

use crate::{AgentName, OrgId, Principal, PrincipalKind};

/// Why a text is not a SPIFFE id or trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Not the `spiffe` scheme.
    #[error("not a SPIFFE id: it must begin with spiffe://")]
    Scheme,
    /// The authority.
    #[error(
        "not a trust domain: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit"
    )]
    TrustDomain,
    /// A path segment, a query or a fragment.
    #[error("not a SPIFFE id: path segments are letters, digits, '-', '_' and '.', and neither '.' nor '..'")]
    Path,
    /// Longer than 2048 bytes (SPIFFE-ID §2.3).
    #[error("not a SPIFFE id: longer than 2048 bytes")]
    Length,
}

/// The authority of a SPIFFE id: `^[a-z0-9]([a-z0-9\-.]*[a-z0-9])?$`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Checks the text.
    ///
    /// # Errors
    /// [`SpiffeError::TrustDomain`].
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let well_formed = text.len() <= 255
            && text.bytes().all(inner)
            && edge(text.bytes().next())
            && edge(text.bytes().next_back());
        if well_formed { Ok(Self(text.into())) } else { Err(SpiffeError::TrustDomain) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SPIFFE id: `spiffe://<trust domain>/<segment>/…`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    domain: TrustDomain,
}

impl SpiffeId {
    const SCHEME: &'static str = "spiffe://";

    /// The id of an agent of ours: `spiffe://<td>/<org>/<name>` (contract `pki.md` §1).
    #[must_use]
    pub fn of_agent(domain: &TrustDomain, org: &OrgId, name: &AgentName) -> Self {
        Self { text: format!("spiffe://{domain}/{org}/{name}").into(), domain: domain.clone() }
    }

    /// The id of the Mastio itself: `spiffe://<td>/proxy/<org>`.
    #[must_use]
    pub fn of_mastio(domain: &TrustDomain, org: &OrgId) -> Self {
        Self { text: format!("spiffe://{domain}/proxy/{org}").into(), domain: domain.clone() }
    }

    /// Reads a SPIFFE id with any number of path segments, at least one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > 2048 {
            return Err(SpiffeError::Length);
        }
        let rest = text.strip_prefix(Self::SCHEME).ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or(SpiffeError::Path)?;
        let domain = TrustDomain::parse(domain)?;
        let segment_ok = |segment: &str| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if !path.split('/').all(segment_ok) {
            return Err(SpiffeError::Path);
        }
        Ok(Self { text: text.into(), domain })
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The authority.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The path segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text[Self::SCHEME.len() + self.domain.as_str().len() + 1..].split('/')
    }

    /// Whom the id stands for: `<org>/<name>`, or `<org>/{agent|user|workload}/<name>`; anything else is nobody of
    /// ours (contract `enrollment.md` §1).
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        let mut segments = self.segments();
        let (org, second, third, end) =
            (segments.next()?, segments.next()?, segments.next(), segments.next());
        let (kind, name) = match (third, end) {
            (None, None) => (PrincipalKind::Agent, second),
            (Some(name), None) => (PrincipalKind::from_word(second)?, name),
            _ => return None,
        };
        Some(Principal { kind, org: OrgId::parse(org).ok()?, name: AgentName::parse(name).ok()? })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for SpiffeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_and_three_segments_name_a_principal() {
        let principal = |text| SpiffeId::parse(text).unwrap().principal().map(|p| p.to_string());
        assert_eq!(principal("spiffe://cullis.local/acme/alice").as_deref(), Some("acme::alice"));
        assert_eq!(principal("spiffe://cullis.local/acme/agent/alice").as_deref(), Some("acme::alice"));
        assert_eq!(principal("spiffe://cullis.local/acme/user/mario").as_deref(), Some("acme::user::mario"));
        assert_eq!(principal("spiffe://cullis.local/workload"), None);
        assert_eq!(principal("spiffe://cullis.local/a/b/c/d"), None);
        assert_eq!(principal("spiffe://cullis.local/acme/robot/x"), None);
    }

    #[test]
    fn hostile_ids_are_refused() {
        for bad in [
            "http://cullis.local/acme/x",
            "spiffe://Cullis.local/acme/x",
            "spiffe://cullis.local",
            "spiffe://cullis.local/",
            "spiffe://cullis.local/acme//x",
            "spiffe://cullis.local/acme/../x",
            "spiffe://cullis.local/acme/x?q",
            "spiffe://cullis.local/acme/x#f",
            "spiffe://cullis.local:1/acme/x",
            "spiffe:///acme/x",
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad}");
        }
    }
}
