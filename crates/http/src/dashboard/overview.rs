//! `/proxy/overview`: a handful of true facts.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use mastio_authority::Outage;
use mastio_store::agents::fleet;

use super::{
    agents,
    page::{Frame, PageError, Said, render},
    session::Session,
    text,
};
use crate::routes::{Shared, health};

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    warnings: Vec<Warning>,
    counts: Vec<(&'static str, u64)>,
    agents: u64,
    /// Active agents whose certificate ends soon.
    ending: u64,
    root_fingerprint: String,
    root_until: String,
    root_left: String,
    issuer_until: Option<String>,
    trust_domain: String,
    address: String,
    keys_are_sealed: bool,
    version: String,
}

/// Something that needs the operator.
struct Warning {
    code: &'static str,
    text: &'static str,
}

pub(super) async fn show(
    State(app): Shared,
    Session(session): Session,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let authority = &app.authority;
    let (trust, now) = (authority.trust(), authority.clock().now());
    let census = fleet::census(authority.store()).await.map_err(Outage::from)?;
    let mut warnings: Vec<Warning> = health::warnings(&app).into_iter().map(explained).collect();
    if trust.halt.is_some() {
        warnings.push(Warning {
            code: "signing_halted",
            text: "No token and no certificate is issued until the pending update is applied, or the step that the log \
                names is done.",
        });
    }
    render(&OverviewPage {
        frame: Frame::new(&app, &session, "overview", Said::read(query.as_deref(), &session)).await?,
        warnings,
        counts: census.map(|(state, count)| (state.as_str(), count)).into(),
        ending: fleet::count(authority.store(), &agents::ending(now)).await.map_err(Outage::from)?,
        agents: census.iter().map(|(_, count)| count).sum(),
        root_fingerprint: text::grouped(&trust.root.thumbprint().to_string()),
        root_until: text::moment(trust.root.not_after()),
        root_left: text::distance(trust.root.not_after(), now),
        issuer_until: trust
            .server_issuer
            .as_ref()
            .map(|issuer| text::moment(issuer.certificate().not_after())),
        trust_domain: trust.domain.as_str().to_owned(),
        address: agents::address(&app),
        keys_are_sealed: authority.keys_are_sealed(),
        version: authority.settings.reported_version.clone(),
    })
}

fn explained(code: &'static str) -> Warning {
    let text = match code {
        "org_ca_legacy_pathlen_zero" => {
            "The Org CA was made with path length zero, so strict clients accept nothing below its \
             intermediate. Repair it on the page Updates, or rotate it on the page PKI; nothing is signed meanwhile, unless \
             the update was set aside. Where agents bring their certificates, they go on."
        }
        "trust_stale" => {
            "What was changed about CAs, keys or bundles cannot be read from the database, and is tried again every second: \
             /readyz says why. After a change of the Org CA nobody is let in meanwhile."
        }
        "ca_key_damaged" => {
            "The stored key of an intermediate that is not the active one cannot be used: mastio pki doctor names it. What it \
             certified logs in, but its revocation list cannot be signed, and an overlap that needs it is best aborted."
        }
        "update_by_halves" => {
            "The Python implementation replaced the Org CA and left the intermediate below the old one: agents are refused \
             with the certificates that they hold. Roll the update back on the page Updates, then repair the root here."
        }
        _ => "See the log.",
    };
    Warning { code, text }
}
