//! The certificates of TLS servers, judged as their clients do.

use super::*;

#[test]
fn a_server_is_judged_as_a_server() {
    let pki = Pki::new();
    let (root, above) = (pki.root.certificate(), [pki.intermediate.certificate().clone()]);
    let names = crate::ServerNames::from_settings("mastio.local", None).unwrap();
    let (org, key) = (OrgId::parse("acme").unwrap(), key());
    let server =
        profile::server(&pki.intermediate, &names, &org, key.spki_der(), now(), &SystemRng).unwrap();
    let trusted = anchors(&[root]);
    assert_eq!(&trusted.validate_server(&server, &above, now()).unwrap().anchor, root);
    assert_eq!(trusted.validate_server(&server, &[], now()), Err(PathError::UnknownIssuer));
    let agent = trusted.validate_server(&pki.agent("alice"), &above, now());
    assert_eq!(agent, Err(PathError::NotForServers));
}
