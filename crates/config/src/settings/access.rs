//! Tokens and proofs of possession.

use std::time::Duration;

use crate::{reader::Reader, variable::variable};

/// How DPoP proofs (RFC 9449) are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dpop {
    /// How old a proof may be.
    pub window: Duration,
    /// How far in the future it may be dated.
    pub skew: Duration,
    /// Whether calls over mTLS need one.
    pub egress_mode: EgressDpop,
}

/// Whether a call over mTLS needs a DPoP proof next to the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressDpop {
    /// It is not looked at.
    Off,
    /// It is checked when present.
    Optional,
    /// A call without one is refused.
    Required,
}

impl EgressDpop {
    /// `none` and `bound` are the words of the public documentation (contract `auth.md` §14).
    fn from_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "off" | "none" => Some(Self::Off),
            "optional" => Some(Self::Optional),
            "required" | "bound" => Some(Self::Required),
            _ => None,
        }
    }
}

pub(super) fn dpop(read: &mut Reader<'_>) -> Option<Dpop> {
    let window = read.duration(variable!("MCP_PROXY_DPOP_IAT_WINDOW"), 1);
    let skew = read.duration(variable!("MCP_PROXY_DPOP_CLOCK_SKEW"), 1);
    let egress_mode = egress_mode(read);
    Some(Dpop { window: window?, skew: skew?, egress_mode: egress_mode? })
}

/// The existing compose file always sets the alias, if only to its own default. That must not weaken what an operator
/// wrote under the name, so two different values are a problem.
fn egress_mode(read: &mut Reader<'_>) -> Option<EgressDpop> {
    let variable = variable!("MCP_PROXY_EGRESS_DPOP_MODE");
    if read.contradicts_itself(variable) {
        read.problem(variable, format!("contradicts {}", variable.name), "keep one of the two");
    }
    read.parse(variable, EgressDpop::from_word)
}

/// Contract `enrollment.md` §7: switched off by its own variable.
pub(super) fn grace_sweep_every(read: &mut Reader<'_>) -> Option<Option<Duration>> {
    let enabled = read.boolean(variable!("MCP_PROXY_AGENT_CERT_GRACE_CLEANUP_ENABLED"));
    let interval = read.duration(variable!("MCP_PROXY_AGENT_CERT_GRACE_CLEANUP_INTERVAL_SECONDS"), 1);
    Some(enabled?.then_some(interval?))
}
