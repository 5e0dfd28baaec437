//! When the ends of certificates are told (contract `pki.md` §7).

use std::time::Duration;

use crate::{reader::Reader, variable::variable};

/// When the ends of certificates are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// How often they are looked at; `None`: never.
    pub watch_every: Option<Duration>,
    /// How early.
    pub warn_days: WarnDays,
}

/// How many days before its end each kind of certificate is told of first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarnDays {
    /// The Org CA.
    pub root: u32,
    /// The intermediate.
    pub intermediate: u32,
    /// The certificate of the key that signs tokens.
    pub signing: u32,
    /// Agents.
    pub agent: u32,
    /// The TLS server.
    pub server: u32,
}

pub(super) fn expiry(read: &mut Reader<'_>) -> Option<Expiry> {
    let enabled = read.boolean(variable!("MCP_PROXY_CERT_EXPIRY_WATCHER_ENABLED"));
    let interval = read.duration(variable!("MCP_PROXY_CERT_EXPIRY_WATCHER_INTERVAL_SECONDS"), 1);
    let root = read.integer(variable!("MCP_PROXY_CERT_EXPIRY_WARN_DAYS_ORG_ROOT"));
    let intermediate = read.integer(variable!("MCP_PROXY_CERT_EXPIRY_WARN_DAYS_INTERMEDIATE"));
    let signing = read.integer(variable!("MCP_PROXY_CERT_EXPIRY_WARN_DAYS_MASTIO_LEAF"));
    let agent = read.integer(variable!("MCP_PROXY_CERT_EXPIRY_WARN_DAYS_AGENT"));
    let server = read.integer(variable!("MCP_PROXY_CERT_EXPIRY_WARN_DAYS_NGINX"));
    Some(Expiry {
        watch_every: enabled?.then_some(interval?),
        warn_days: WarnDays {
            root: root?,
            intermediate: intermediate?,
            signing: signing?,
            agent: agent?,
            server: server?,
        },
    })
}
