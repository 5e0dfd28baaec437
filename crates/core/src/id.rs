//! Names of organisations, agents and principals (contract `enrollment.md` §1).

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::Rng;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// An organisation id.
    #[error(
        "not an organisation id: 1 to 128 letters, digits, '.', '_' or '-', beginning with a letter or digit"
    )]
    Org,
    /// The part after `::`.
    #[error("not an agent name: 1 to 64 letters, digits, '.', '_' or '-', and neither '.' nor '..'")]
    Name,
    /// `<org>::<name>` as a whole.
    #[error("not an agent id: expected <org>::<name>")]
    Agent,
    /// Not an [`EnrollmentId`].
    #[error("not a session id of an enrolment: expected 32 base64url characters")]
    Enrollment,
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The id of an organisation: chosen by the operator, or the first 16 hex digits of the SHA-256 of its root key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrgId(Arc<str>);

impl OrgId {
    /// Checks the text.
    ///
    /// # Errors
    /// [`IdError::Org`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let well_formed = (1..=128).contains(&text.len())
            && text.bytes().all(is_name_byte)
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if well_formed { Ok(Self(text.into())) } else { Err(IdError::Org) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The short name of an agent within its organisation: `^[a-zA-Z0-9._-]{1,64}$`, without `.` and `..`, which no path of
/// a SPIFFE id may hold (SPIFFE-ID §2.2).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentName(Arc<str>);

impl AgentName {
    /// Checks the text.
    ///
    /// # Errors
    /// [`IdError::Name`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let well_formed =
            (1..=64).contains(&text.len()) && text.bytes().all(is_name_byte) && !matches!(text, "." | "..");
        if well_formed { Ok(Self(text.into())) } else { Err(IdError::Name) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `<org>::<name>`: the key of the agent registry and the `sub` of its tokens.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId {
    text: Arc<str>,
    org_len: usize,
}

impl AgentId {
    /// Joins its two parts.
    #[must_use]
    pub fn new(org: &OrgId, name: &AgentName) -> Self {
        Self { text: format!("{}::{}", org.as_str(), name.as_str()).into(), org_len: org.as_str().len() }
    }

    /// Reads `<org>::<name>`, split at the first `::`.
    ///
    /// # Errors
    /// [`IdError::Agent`] without `::`, else what is wrong with the part.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (org, name) = text.split_once("::").ok_or(IdError::Agent)?;
        Ok(Self::new(&OrgId::parse(org)?, &AgentName::parse(name)?))
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The organisation's part.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.text[..self.org_len]
    }

    /// The agent's own part.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.text[self.org_len + 2..]
    }
}

/// The session id of an enrolment by device code: 24 random bytes as 32 base64url characters (contract
/// `enrollment.md` §3.1). It is shown to people and proves nothing.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnrollmentId(Arc<str>);

impl EnrollmentId {
    /// Checks the text.
    ///
    /// # Errors
    /// [`IdError::Enrollment`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let well_formed = text.len() == 32
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if well_formed { Ok(Self(text.into())) } else { Err(IdError::Enrollment) }
    }

    /// One that nobody can guess.
    #[must_use]
    pub fn fresh(rng: &dyn Rng) -> Self {
        let mut raw = [0; 24];
        rng.fill(&mut raw);
        Self(URL_SAFE_NO_PAD.encode(raw).into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What kind of principal an identity stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// A program with a row in the agent registry.
    Agent,
    /// A person, reached through a Frontdesk.
    User,
    /// A machine that hosts users or agents.
    Workload,
}

impl PrincipalKind {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::User => "user",
            Self::Workload => "workload",
        }
    }

    /// Reads the word on the wire.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Agent, Self::User, Self::Workload].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Whom a certificate or token speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Agent, user or workload.
    pub kind: PrincipalKind,
    /// The organisation named by the credential, which need not be ours.
    pub org: OrgId,
    /// The short name.
    pub name: AgentName,
}

impl Principal {
    /// The agent id, if it is an agent.
    #[must_use]
    pub fn agent_id(&self) -> Option<AgentId> {
        (self.kind == PrincipalKind::Agent).then(|| AgentId::new(&self.org, &self.name))
    }

    /// Reads `<org>::<name>`, `<org>::user::<name>` or `<org>::workload::<name>`, as in certificate common names.
    ///
    /// # Errors
    /// As [`AgentId::parse`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let (org, rest) = text.split_once("::").ok_or(IdError::Agent)?;
        let (kind, name) = match rest.split_once("::") {
            Some((word, name)) => (PrincipalKind::from_word(word).ok_or(IdError::Agent)?, name),
            None => (PrincipalKind::Agent, rest),
        };
        Ok(Self { kind, org: OrgId::parse(org)?, name: AgentName::parse(name)? })
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (org, name) = (self.org.as_str(), self.name.as_str());
        match self.kind {
            PrincipalKind::Agent => write!(f, "{org}::{name}"),
            kind => write!(f, "{org}::{}::{name}", kind.as_str()),
        }
    }
}

macro_rules! text_id {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl serde::Serialize for $id {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> serde::Deserialize<'de> for $id {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}
text_id!(OrgId, AgentName, AgentId, EnrollmentId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_ids_split_at_the_first_separator() {
        let id = AgentId::parse("acme::kyc-screener").unwrap();
        assert_eq!((id.org(), id.name()), ("acme", "kyc-screener"));
        for bad in ["acme", "::x", "acme::", "acme::a::b", "acme::../x", "ac me::x", "acme::é"] {
            assert!(AgentId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whatever_is_a_name_is_a_segment_of_a_spiffe_id() {
        let domain = crate::TrustDomain::parse("acme.test").unwrap();
        let spiffe = |org: &str, name: &str| {
            let (org, name) = (OrgId::parse(org).ok()?, AgentName::parse(name).ok()?);
            Some(crate::SpiffeId::of_agent(&domain, &org, &name))
        };
        for (org, name) in [("acme", "..."), ("acme", ".a"), ("a..", "-_."), ("acme", "x")] {
            let id = spiffe(org, name).unwrap();
            assert_eq!(crate::SpiffeId::parse(id.as_str()), Ok(id));
        }
        for (org, name) in [("acme", "."), ("acme", ".."), (".", "x"), ("..", "x")] {
            assert!(spiffe(org, name).is_none(), "{org}::{name}");
        }
    }

    #[test]
    fn session_ids_are_24_bytes_in_base64url() {
        let id = EnrollmentId::fresh(&crate::SeededRng::new(1));
        assert_eq!(EnrollmentId::parse(id.as_str()), Ok(id));
        for bad in ["", "AAECAwQFBgcICQoLDA0ODxAREhMUFRY", "AAECAwQFBgcICQoLDA0ODxAREhMUFR/X"] {
            assert_eq!(EnrollmentId::parse(bad), Err(IdError::Enrollment), "{bad}");
        }
    }

    #[test]
    fn principals_print_as_they_are_read() {
        for text in ["acme::alice", "acme::user::mario", "acme::workload::box-1"] {
            assert_eq!(Principal::parse(text).unwrap().to_string(), text);
        }
        assert!(Principal::parse("acme::robot::x").is_err());
        assert_eq!(Principal::parse("acme::agent::x").unwrap().to_string(), "acme::x");
    }
}
