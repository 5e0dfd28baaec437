//! A root that is brought is tried out before it is taken: what it cannot carry is named.

use mastio_authority::Refusal;
use mastio_core::Clock;
use rcgen::{CertificateParams, GeneralSubtree, NameConstraints};

use crate::{
    rotation::{CUT, gets_in, root, upload},
    world::*,
};

fn names(permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>) -> Option<NameConstraints> {
    Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded })
}

fn dns(name: &str) -> GeneralSubtree {
    GeneralSubtree::DnsName(name.into())
}

/// AuthorityKeyIdentifier with these members (RFC 5280 §4.2.1.1).
fn issued_by(members: &[u8]) -> rcgen::CustomExtension {
    let length = u8::try_from(members.len()).unwrap();
    rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 35], [&[0x30, length], members].concat())
}

#[tokio::test]
async fn a_root_whose_constraints_our_names_fit_is_taken_and_carries_them() {
    let world = World::new();
    let named = [("MCP_PROXY_NGINX_SAN", "mastio.test")];
    let authority = world.boot(&named).await.unwrap();
    let (certificate, key) = root(world.clock.now(), |params| {
        let elsewhere = GeneralSubtree::IpAddress(rcgen::CidrSubnet::V4([192, 0, 2, 0], [255, 255, 255, 0]));
        params.name_constraints = names(vec![dns("mastio.test"), dns("localhost")], vec![elsewhere]);
    });
    let source = upload(certificate.pem(), &key);
    authority.rotate_root(source, CUT, &operator()).await.unwrap();
    authority.keep_files().await.unwrap();
    let alice = Holder::created(&authority, "alice").await;
    assert_eq!(gets_in(&authority, &alice).await, Ok(()));
    assert_eq!(authority.trust().root, certificate);
}

#[tokio::test]
async fn what_a_root_cannot_carry_is_named_before_anything_changes() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let before = authority.trust().root.clone();
    type Change = fn(&mut CertificateParams);
    let cases: [(Change, &str, Option<&str>); 7] = [
        // The names of this server are others.
        (
            |params| params.name_constraints = names(vec![dns("example.com")], vec![]),
            "trial_failed",
            Some("name_constraint"),
        ),
        (
            |params| params.name_constraints = names(vec![], vec![dns("mastio.test")]),
            "trial_failed",
            Some("name_constraint"),
        ),
        // Python since 3.13 insists on a key usage.
        (|params| params.key_usages.clear(), "trial_failed", Some("strict_rules")),
        // OpenSSL and Python look for the issuer that it names, and find none.
        (
            |params| params.custom_extensions.push(issued_by(b"\x80\x14some other root's id")),
            "trial_failed",
            Some("strict_rules"),
        ),
        (
            |params| {
                let name = b"\xa1\x17\xa4\x15\x30\x13\x31\x11\x30\x0f\x06\x03\x55\x04\x03\x0c\x08Our Root";
                let other = [&name[..], b"\x82\x01\x07"].concat();
                params.custom_extensions.push(issued_by(&other));
            },
            "trial_failed",
            Some("strict_rules"),
        ),
        // Nobody here evaluates constraints on URIs, and Go none on directory names.
        (
            |params| {
                let uri = b"\x30\x0e\xa0\x0c\x30\x0a\x86\x08acme.org".to_vec();
                params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 30], uri));
            },
            "restricted",
            None,
        ),
        (
            |params| {
                let mut name = rcgen::DistinguishedName::new();
                name.push(rcgen::DnType::OrganizationName, "acme");
                params.name_constraints = names(vec![GeneralSubtree::DirectoryName(name)], vec![]);
            },
            "restricted",
            None,
        ),
    ];
    for (change, expected, failed) in cases {
        let (certificate, key) = root(world.clock.now(), change);
        let refused = authority.candidate(&upload(certificate.pem(), &key)).unwrap_err();
        let detail = refused.detail();
        assert_eq!((refused.status(), refused.reason()), (400, expected), "{refused}");
        assert_eq!(detail["failed"]["reason"].as_str(), failed, "{detail}");
    }
    assert_eq!(authority.trust().root, before);
    assert_eq!(world.count("SELECT count(*) FROM pki_rotations"), 0);
}
