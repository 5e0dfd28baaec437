//! Whom an agent may reach (contract `calls.md` §3).

use mastio_core::OrgId;
use mastio_store::agents::Reach;

use crate::{Path, Recipient};

/// The caller's reach does not extend to the recipient. Clients look for the word "reach" in a 403.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("agent reach='{}' — {} traffic denied (target_org={target})", .reach.as_str(), path_word(*.path))]
pub struct ReachDenied {
    reach: Reach,
    path: Path,
    target: OrgId,
}

impl ReachDenied {
    /// The stable word for audit and metrics.
    pub(crate) const REASON: &'static str = "reach_denied";
}

fn path_word(path: Path) -> &'static str {
    match path {
        Path::IntraOrg => "intra-org",
        Path::CrossOrg => "cross-org",
    }
}

/// Whether `reach` extends to where `path` leads.
pub(crate) fn extends(reach: Reach, path: Path) -> bool {
    match reach {
        Reach::Both => true,
        Reach::Intra => path == Path::IntraOrg,
        Reach::Cross => path == Path::CrossOrg,
    }
}

/// Refuses a recipient that `reach` does not extend to.
pub(crate) fn check(reach: Reach, recipient: &Recipient) -> Result<(), ReachDenied> {
    let (path, target) = (recipient.path, recipient.principal.org.clone());
    if extends(reach, path) { Ok(()) } else { Err(ReachDenied { reach, path, target }) }
}

#[cfg(test)]
mod tests {
    use mastio_core::TrustDomain;

    use super::*;

    #[test]
    fn refusals_have_the_texts_of_the_contract() {
        let (org, domain) = (OrgId::parse("acme").unwrap(), TrustDomain::parse("cullis.local").unwrap());
        let refusal = |reach, to| {
            let recipient = Recipient::parse(to, &org, &domain).unwrap();
            check(reach, &recipient).map_err(|denied| denied.to_string())
        };
        assert_eq!(
            refusal(Reach::Intra, "globex::bob"),
            Err("agent reach='intra' — cross-org traffic denied (target_org=globex)".to_owned())
        );
        assert_eq!(
            refusal(Reach::Cross, "acme::bob"),
            Err("agent reach='cross' — intra-org traffic denied (target_org=acme)".to_owned())
        );
        for (reach, to) in [
            (Reach::Intra, "acme::bob"),
            (Reach::Cross, "globex::bob"),
            (Reach::Both, "acme::bob"),
            (Reach::Both, "globex::bob"),
        ] {
            assert_eq!(refusal(reach, to), Ok(()));
        }
    }
}
