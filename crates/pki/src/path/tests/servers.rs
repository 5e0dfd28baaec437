//! The certificates of TLS servers, judged as their clients do.

use super::*;

#[test]
fn a_server_is_judged_as_a_server() {
    let pki = Pki::new();
    let (root, above) = (pki.root.certificate(), [pki.intermediate.certificate().clone()]);
    let names = crate::ServerNames::from_settings("mastio.local", None).unwrap();
    let (org, key) = (OrgId::parse("acme").unwrap(), key());
    let server = profile::server(&pki.intermediate, &names, &org, key.spki_der(), now(), &SystemRng).unwrap();
    let trusted = anchors(&[root]);
    assert_eq!(&trusted.validate_server(&server, &above, now()).unwrap().anchor, root);
    assert_eq!(trusted.validate_server(&server, &[], now()), Err(PathError::UnknownIssuer));
    let agent = trusted.validate_server(&pki.agent("alice"), &above, now());
    assert_eq!(agent, Err(PathError::NotForServers));
}

#[test]
fn who_slept_through_three_rotations_believes_the_server_by_its_links() {
    let mut roots = vec![Pki::new().root];
    let mut links = Vec::new();
    for at in 0..3 {
        let (key, end) = (key(), roots[at].certificate().not_after());
        let next = profile::successor(roots[at].certificate(), &key, end, now(), &SystemRng).unwrap();
        links.insert(0, profile::link(&roots[at], &next, now(), &SystemRng).unwrap());
        roots.push(Issuer::new(next, key).unwrap());
    }
    let below = Pki::intermediate_of(&roots[3]);
    let names = crate::ServerNames::from_settings("mastio.local", None).unwrap();
    let (org, key) = (OrgId::parse("acme").unwrap(), key());
    let server = profile::server(&below, &names, &org, key.spki_der(), now(), &SystemRng).unwrap();
    let sent: Vec<_> = std::iter::once(below.certificate().clone()).chain(links).collect();
    for root in &roots {
        let trusted = anchors(&[root.certificate()]);
        assert_eq!(&trusted.validate_server(&server, &sent, now()).unwrap().anchor, root.certificate());
    }
    assert!(anchors(&[roots[0].certificate()]).validate_server(&server, &sent[..3], now()).is_err());
}
