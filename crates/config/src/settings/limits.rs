//! What is too much (contract `auth.md` §11, design §10.14).

use std::num::{NonZeroU32, NonZeroU64};

use crate::{reader::Reader, variable::variable};

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests of one agent in any 60 seconds.
    pub per_agent_per_minute: NonZeroU32,
    /// Requests of everybody together; `None`: no such limit.
    pub global: Option<GlobalLimit>,
    /// The longest request body in bytes; `None`: no limit.
    pub max_body_bytes: Option<NonZeroU64>,
}

/// A token bucket for the whole process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GlobalLimit {
    /// Requests per second, above 0 and finite.
    pub rps: f64,
    /// Requests that may come at once.
    pub burst: NonZeroU32,
}

pub(super) fn limits(read: &mut Reader<'_>) -> Option<Limits> {
    let per_agent = read.integer(variable!("MCP_PROXY_RATE_LIMIT_PER_MINUTE")).and_then(NonZeroU32::new);
    let global = global(read);
    let max_body = read.integer(variable!("MCP_PROXY_MAX_REQUEST_BODY_BYTES"));
    Some(Limits {
        per_agent_per_minute: per_agent?,
        global: global?,
        max_body_bytes: NonZeroU64::new(max_body?),
    })
}

fn global(read: &mut Reader<'_>) -> Option<Option<GlobalLimit>> {
    let (rate, at_once) =
        (variable!("MCP_PROXY_GLOBAL_RATE_LIMIT_RPS"), variable!("MCP_PROXY_GLOBAL_RATE_LIMIT_BURST"));
    if read.departs_from_default(at_once) && !read.is_set(rate) {
        read.warn(at_once, "has no effect without a rate", "set MCP_PROXY_GLOBAL_RATE_LIMIT_RPS");
    }
    let rps = read.parse(rate, |text| text.parse().ok().filter(|rps: &f64| rps.is_finite() && *rps > 0.0));
    let burst = read.integer(at_once).and_then(NonZeroU32::new)?;
    Some(rps.map(|rps| GlobalLimit { rps, burst }))
}
