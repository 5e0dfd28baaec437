//! Recipients as callers write them (contract `calls.md` §3).

use mastio_core::{IdError, OrgId, Principal, PrincipalKind, SpiffeError, SpiffeId, TrustDomain};

/// Longest text of a recipient in bytes.
const MAX_LEN: usize = 512;

/// Why a text names no recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// Too long.
    #[error("a recipient has at most {MAX_LEN} bytes")]
    Length,
    /// Neither `<org>::<name>` nor `<org>::<kind>::<name>`.
    #[error(transparent)]
    Id(#[from] IdError),
    /// It begins like a SPIFFE id and is none.
    #[error(transparent)]
    Spiffe(#[from] SpiffeError),
    /// A SPIFFE id of something else than an agent.
    #[error("not the SPIFFE id of an agent: expected spiffe://<trust domain>/<org>/<name>")]
    Segments,
}

/// Nobody of ours, or switched off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("intra-org {noun} not found: {0}", noun = noun(self.0.kind))]
pub struct UnknownRecipient(pub Principal);

fn noun(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Agent => "target",
        PrincipalKind::User => "user principal",
        PrincipalKind::Workload => "workload principal",
    }
}

/// Where a recipient is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// In our organisation and trust domain.
    IntraOrg,
    /// Elsewhere.
    CrossOrg,
}

/// Somebody to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Who.
    pub principal: Principal,
    /// The SPIFFE id, if that is how the caller wrote it.
    pub spiffe_id: Option<SpiffeId>,
    /// Where.
    pub path: Path,
}

impl Recipient {
    /// Reads `<org>::<name>`, `<org>::<kind>::<name>` or `spiffe://<td>/<org>/<name>`, at most 512 bytes. It is ours iff
    /// its organisation is `org` and its trust domain, where it has one, is `domain`.
    ///
    /// # Errors
    /// [`RecipientError`]. A bare name is none of these forms.
    pub fn parse(text: &str, org: &OrgId, domain: &TrustDomain) -> Result<Self, RecipientError> {
        if text.len() > MAX_LEN {
            return Err(RecipientError::Length);
        }
        let (principal, spiffe_id) = if text.starts_with("spiffe://") {
            let id = SpiffeId::parse(text)?;
            (agent_of(&id)?, Some(id))
        } else {
            (Principal::parse(text)?, None)
        };
        let ours = principal.org == *org && spiffe_id.as_ref().is_none_or(|id| id.trust_domain() == domain);
        let path = if ours { Path::IntraOrg } else { Path::CrossOrg };
        Ok(Self { principal, spiffe_id, path })
    }

    /// The name within its organisation, as it is stored and as clients expect it: `bob`, `user::alice`.
    #[must_use]
    pub fn local_name(&self) -> String {
        match self.principal.kind {
            PrincipalKind::Agent => self.principal.name.to_string(),
            kind => format!("{}::{}", kind.as_str(), self.principal.name),
        }
    }
}

/// Longer SPIFFE ids name users, workloads and resources, which take no messages by that name.
fn agent_of(id: &SpiffeId) -> Result<Principal, RecipientError> {
    let principal = if id.segments().count() == 2 { id.principal() } else { None };
    principal.ok_or(RecipientError::Segments)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Recipient, RecipientError> {
        Recipient::parse(text, &OrgId::parse("acme").unwrap(), &TrustDomain::parse("cullis.local").unwrap())
    }

    #[test]
    fn ours_are_of_our_organisation_and_trust_domain() {
        for (text, who, path) in [
            ("acme::bob", "acme::bob", Path::IntraOrg),
            ("spiffe://cullis.local/acme/bob", "acme::bob", Path::IntraOrg),
            ("spiffe://other.example/acme/bob", "acme::bob", Path::CrossOrg),
            ("globex::bob", "globex::bob", Path::CrossOrg),
            ("spiffe://cullis.local/globex/bob", "globex::bob", Path::CrossOrg),
            ("acme::user::mario", "acme::user::mario", Path::IntraOrg),
        ] {
            let recipient = read(text).unwrap();
            assert_eq!((recipient.principal.to_string().as_str(), recipient.path), (who, path), "{text}");
            assert_eq!(recipient.spiffe_id.is_some(), text.starts_with("spiffe://"));
        }
    }

    #[test]
    fn names_lose_their_organisation() {
        assert_eq!(read("spiffe://cullis.local/acme/bob").unwrap().local_name(), "bob");
        assert_eq!(read("acme::user::mario").unwrap().local_name(), "user::mario");
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "bob",
            "acme::",
            "::bob",
            "acme::robot::x",
            "acme::a b",
            "spiffe://cullis.local/acme",
            "spiffe://cullis.local/acme/mcp/files",
            "spiffe://cullis.local/acme/user/mario",
            "spiffe://cullis.local/acme/bob?x",
            "SPIFFE://cullis.local/acme/bob",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read(&format!("acme::{}", "b".repeat(20_000))), Err(RecipientError::Length));
    }

    #[test]
    fn the_unknown_are_called_what_they_are() {
        let text = |id| UnknownRecipient(Principal::parse(id).unwrap()).to_string();
        assert_eq!(text("acme::bob"), "intra-org target not found: acme::bob");
        assert_eq!(text("acme::user::mario"), "intra-org user principal not found: acme::user::mario");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), tail in "[a-z:/.]{0,20}") {
            let _ = read(&text);
            let _ = read(&format!("spiffe://{tail}"));
        }

        #[test]
        fn what_is_read_prints_to_the_same_principal(org in "[a-z][a-z0-9]{0,8}", name in "[a-z][a-z._-]{0,8}") {
            let recipient = read(&format!("{org}::{name}")).unwrap();
            prop_assert_eq!(read(&recipient.principal.to_string()).unwrap(), recipient);
        }
    }
}
