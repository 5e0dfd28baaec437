//! Who stamps the audit log with the time (contract `audit-and-database.md` §1.9).

use std::{path::PathBuf, time::Duration};

use url::Url;

use crate::{reader::Reader, variable::variable};

/// A time stamping authority (RFC 3161), and when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tsa {
    /// Where it answers: `http` or `https`. May hold a user and a password.
    pub url: Url,
    /// How often, if there are new entries.
    pub every: Duration,
    /// The PEM file of the roots it must lead to. Production has one.
    pub trust_anchors: Option<PathBuf>,
    /// How far its clock may be from ours.
    pub max_skew: Duration,
}

/// Whom `ENABLED=true` alone asks (seed guide, "audit export").
const USUAL_TSA: &str = "http://timestamp.digicert.com";

/// A Mastio calls nobody unasked: there is no authority without an address or an explicit yes.
#[expect(clippy::option_option, reason = "the outer one is a problem that was noted, as everywhere here")]
pub(super) fn tsa(read: &mut Reader<'_>) -> Option<Option<Tsa>> {
    let enabled = read.boolean(variable!("MCP_PROXY_AUDIT_TSA_ENABLED"));
    let url = read.parse(variable!("MCP_PROXY_AUDIT_TSA_URL"), address);
    let every = read.duration(variable!("MCP_PROXY_AUDIT_TSA_INTERVAL_SECONDS"), 1);
    let trust_anchors = read.path(variable!("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH"));
    let max_skew = read.duration(variable!("MCP_PROXY_AUDIT_TSA_MAX_CLOCK_SKEW_SECONDS"), 1);
    backend(read);
    if !enabled.unwrap_or(url.is_some()) {
        return Some(None);
    }
    let url = url.or_else(|| Url::parse(USUAL_TSA).ok())?;
    if trust_anchors.is_none() {
        let variable = variable!("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH");
        let remedy = "name the PEM file with the root of the time stamping authority";
        if read.in_production() {
            read.problem(variable, "is not set, and production needs it for time stamps", remedy);
        } else {
            read.warn(variable, "is not set, so anybody's time stamps are believed", remedy);
        }
    }
    Some(Some(Tsa { url, every: every?, trust_anchors, max_skew: max_skew? }))
}

fn address(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn backend(read: &mut Reader<'_>) {
    let variable = variable!("MCP_PROXY_AUDIT_TSA_BACKEND");
    let known = |text: &str| match text.to_ascii_lowercase().as_str() {
        "rfc3161" => Some(true),
        "mock" => Some(false),
        _ => None,
    };
    if read.parse(variable, known) == Some(false) {
        let what = "is mock, which is not offered: a time stamp that we make ourselves proves nothing";
        read.problem(
            variable,
            what,
            "remove it, and name a time stamping authority in MCP_PROXY_AUDIT_TSA_URL",
        );
    }
}
