//! Which of the presented certificates the verifier gets to see.
//!
//! It tries the presented certificates in every order that their names allow, and a client may give all of them one
//! name: an unauthenticated request would cost a hundred signature checks.

use crate::Certificate;

/// Most certificates of one subject: a CA and its cross-signed twin, or a root and the link that leads to it.
const SAME_NAME: usize = 2;

/// Those of `presented` whose names lead up from `leaf`, each once, at most [`SAME_NAME`] of one subject: first those
/// whose key is the one that signed, by the key identifiers.
pub(super) fn above<'a>(leaf: &'a Certificate, presented: &'a [Certificate]) -> Vec<&'a Certificate> {
    let mut line = Vec::with_capacity(presented.len());
    let (mut child, mut climbed) = (leaf, 0);
    loop {
        let named = |ca: &&Certificate| ca.subject_raw() == child.issuer_raw();
        let mut issuers: Vec<_> = presented.iter().filter(named).filter(|ca| *ca != leaf).collect();
        issuers.sort_by_key(|ca| ca.key_id() != child.authority_key_id());
        for ca in issuers {
            if !line.contains(&ca) && line.iter().copied().filter(|ca| named(ca)).count() < SAME_NAME {
                line.push(ca);
            }
        }
        let Some(next) = line.get(climbed) else { return line };
        (child, climbed) = (*next, climbed + 1);
    }
}
