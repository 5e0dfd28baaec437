//! Who may be an anchor, who a CA, and of whom.

use super::*;

#[test]
fn a_ca_without_cert_sign_is_refused_in_the_path_and_as_anchor() {
    let (root_key, ca_key) = (key(), key());
    let root = made("/CN=Root", &root_key, None, &["keyUsage=critical,keyCertSign"]);
    let mute = made(
        "/CN=Mute",
        &ca_key,
        Some((&root, &root_key)),
        &["basicConstraints=critical,CA:TRUE", "keyUsage=critical,digitalSignature"],
    );
    let leaf = made("/CN=acme::x", &key(), Some((&mute, &ca_key)), &["basicConstraints=critical,CA:FALSE"]);
    let refused = anchors(&[&root]).validate(&leaf, std::slice::from_ref(&mute), made_at(&leaf)).unwrap_err();
    assert_eq!(refused, PathError::MayNotSign("CN=Mute".to_owned()));
    let built = Anchors::builder().org([mute]).build();
    assert_eq!(built.unwrap_err(), AnchorError::MayNotSign("CN=Mute".to_owned()));
}

#[test]
fn the_anchors_path_length_counts_cas_that_are_not_self_issued() {
    let (root_key, ca_key) = (key(), key());
    let root = made("/CN=Root", &root_key, None, &["basicConstraints=critical,CA:TRUE,pathlen:0"]);
    let ca =
        |subject| made(subject, &ca_key, Some((&root, &root_key)), &["basicConstraints=critical,CA:TRUE"]);
    let validate = |ca: Certificate| {
        let leaf = made("/CN=acme::x", &key(), Some((&ca, &ca_key)), &["basicConstraints=critical,CA:FALSE"]);
        anchors(&[&root]).validate(&leaf, &[ca], made_at(&leaf)).map(|path| path.anchor)
    };
    assert_eq!(validate(ca("/CN=Below")), Err(PathError::PathLength));
    assert_eq!(validate(ca("/CN=Root")), Ok(root.clone()));
}

#[test]
fn cas_servers_and_weak_keys_do_not_log_in() {
    let pki = Pki::new();
    let trusted = anchors(&[pki.root.certificate()]);
    let chain = [pki.intermediate.certificate().clone()];
    assert_eq!(trusted.validate(&chain[0], &[], now()), Err(PathError::CaAsLeaf));

    let names = crate::ServerNames::from_settings("mastio.local", None).unwrap();
    let org = OrgId::parse("acme").unwrap();
    let server =
        profile::server(&pki.intermediate, &names, &org, key().spki_der(), now(), &SystemRng).unwrap();
    assert_eq!(trusted.validate(&server, &chain, now()), Err(PathError::NotForClients));

    let leaf = pki.agent("alice");
    let many = vec![chain[0].clone(); MAX_PRESENTED + 1];
    assert_eq!(trusted.validate(&leaf, &many, now()), Err(PathError::TooManyCertificates));
    assert!(trusted.validate(&leaf, &many[1..], now()).is_ok());

    let rsa = openssl_with(
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:1024",
            "-nodes",
            "-keyout",
            "/dev/null",
            "-subj",
            "/CN=x",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ],
        "",
    );
    let weak = Certificate::from_pem(&rsa).unwrap();
    assert_eq!(trusted.validate(&weak, &[], now()), Err(PathError::WeakKey));
}

#[test]
fn a_spire_bundle_speaks_for_its_trust_domain_only() {
    let (org, spire) = (Pki::new(), Pki::new());
    let group = |name: &str| Group::Spire(TrustDomain::parse(name).unwrap());
    let mixed = |name: &str| {
        Anchors::builder()
            .spire(TrustDomain::parse("zzz.example").unwrap(), [Pki::new().root.certificate().clone()])
            .spire(TrustDomain::parse(name).unwrap(), [spire.root.certificate().clone()])
            .org([org.root.certificate().clone(), org.root.certificate().clone()])
            .build()
            .unwrap()
    };
    let ours = mixed(domain().as_str());
    assert_eq!(
        ours.iter().map(|(group, _)| group.clone()).collect::<Vec<_>>(),
        [Group::Org, group("cullis.local"), group("zzz.example")]
    );
    let svid = spire.agent("alice");
    let chain = [spire.intermediate.certificate().clone()];
    assert_eq!(ours.validate(&svid, &chain, now()).unwrap().group, group("cullis.local"));
    assert!(ours.validate_within(&group("cullis.local"), &svid, &chain, now()).is_ok());
    for other in [Group::Org, group("zzz.example"), group("aaa.example")] {
        assert_eq!(
            ours.validate_within(&other, &svid, &chain, now()),
            Err(PathError::UnknownIssuer),
            "{other:?}"
        );
    }
    let foreign = mixed("other.example").validate(&svid, &chain, now()).unwrap_err();
    assert_eq!(foreign, PathError::ForeignTrustDomain("other.example".to_owned()));
}

#[test]
fn one_root_may_serve_the_organisation_and_a_bundle() {
    let pki = Pki::new();
    let root = pki.root.certificate();
    let both = Anchors::builder().spire(domain(), [root.clone()]).org([root.clone()]).build().unwrap();
    let (leaf, chain) = (pki.agent("alice"), [pki.intermediate.certificate().clone()]);
    assert_eq!(both.validate(&leaf, &chain, now()).unwrap().group, Group::Org);
    let spire = Group::Spire(domain());
    assert_eq!(both.validate_within(&spire, &leaf, &chain, now()).unwrap().group, spire);
}

#[test]
fn uri_name_constraints_and_leaves_are_no_anchors() {
    let bundle = made("/CN=Spire", &key(), None, &["nameConstraints=critical,permitted;URI:.cullis.local"]);
    let refused = Anchors::builder().spire(domain(), [bundle]).build().unwrap_err();
    assert_eq!(refused, AnchorError::UriConstraints("CN=Spire".to_owned()));
    let leaf = Pki::new().agent("alice");
    let refused = Anchors::builder().org([leaf]).build().unwrap_err();
    assert_eq!(refused, AnchorError::NotCa("CN=acme::alice, O=acme".to_owned()));
}
