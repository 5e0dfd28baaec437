//! Paths that must hold, and paths that must not.

use std::sync::OnceLock;

use mastio_core::{AgentId, OrgId, SpiffeId, SystemRng, TrustDomain};
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::{
    AnchorError, Issuer, KeyPair, profile,
    testing::{Pki, domain, now, openssl_with},
};

const DAY: Duration = Duration::from_secs(86_400);

fn anchors(certificates: &[&Certificate]) -> Anchors {
    Anchors::builder().org(certificates.iter().copied().cloned()).build().unwrap()
}

/// A certificate for `key` with the extensions given in OpenSSL's words, signed by `issuer` or by itself.
fn made(
    subject: &str,
    key: &KeyPair,
    issuer: Option<(&Certificate, &KeyPair)>,
    extensions: &[&str],
) -> Certificate {
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let own = write("key.pem", key.to_pkcs8_pem().expose_secret());
    let mut arguments = vec!["req", "-x509", "-new", "-key", &own, "-subj", subject, "-days", "3650"];
    for extension in extensions {
        arguments.extend(["-addext", extension]);
    }
    let ca = issuer
        .map(|(ca, key)| [write("ca.pem", &ca.pem()), write("ca.key", key.to_pkcs8_pem().expose_secret())]);
    if let Some([ca, ca_key]) = &ca {
        arguments.extend(["-CA", ca, "-CAkey", ca_key]);
    }
    Certificate::from_pem(&openssl_with(&arguments, "")).unwrap()
}

/// When certificates of [`made`] are valid: OpenSSL dates them by the machine's clock.
fn made_at(certificate: &Certificate) -> Stamp {
    certificate.not_before().plus(DAY)
}

fn key() -> KeyPair {
    KeyPair::generate_p256().unwrap()
}

#[test]
fn agents_verify_with_their_chain_or_against_our_intermediate_alone() {
    let pki = Pki::new();
    let (root, intermediate, leaf) =
        (pki.root.certificate(), pki.intermediate.certificate(), pki.agent("alice"));
    let chain = [intermediate.clone(), root.clone()];
    let path = anchors(&[root]).validate(&leaf, &chain, now()).unwrap();
    assert_eq!((path.group, &path.issuer, &path.anchor), (Group::Org, intermediate, root));
    assert_eq!(path.not_after, leaf.not_after());

    let alone = anchors(&[root, intermediate]).validate(&leaf, &[], now()).unwrap();
    assert_eq!((&alone.issuer, &alone.anchor), (intermediate, intermediate));
    assert_eq!(anchors(&[root]).validate(&leaf, &[], now()), Err(PathError::UnknownIssuer));
    assert_eq!(Anchors::default().validate(&leaf, &chain, now()), Err(PathError::UnknownIssuer));
}

#[test]
fn dates_of_leaf_and_anchor_bound_the_path() {
    let pki = Pki::new();
    let leaf = pki.agent("alice");
    let (root, intermediate) = (pki.root.certificate(), pki.intermediate.certificate());
    let at = |when| anchors(&[root]).validate(&leaf, std::slice::from_ref(intermediate), when);
    let reason = |when| at(when).unwrap_err().reason();
    assert!(at(leaf.not_before()).is_ok());
    assert!(at(leaf.not_after()).is_ok());
    assert_eq!(reason(leaf.not_before().minus(DAY)), "certificate_not_yet_valid");
    assert_eq!(reason(leaf.not_after().plus(Duration::from_secs(1))), "certificate_expired");

    let signer = key();
    let short = profile::successor(root, &signer, now().plus(DAY), now(), &SystemRng).unwrap();
    let short = Issuer::new(short, signer).unwrap();
    let by_short = pki.agent_of("bob", &short);
    assert_eq!(by_short.not_after(), short.certificate().not_after());
    let long_lived = Candidate {
        leaf: &leaf,
        intermediates: vec![],
        anchor: &Anchor { group: Group::Org, certificate: short.certificate().clone() },
    };
    assert_eq!(long_lived.check(now()), Ok(()));
    assert_eq!(long_lived.check(now().plus(DAY * 2)).unwrap_err().reason(), "ca_expired");
    assert_eq!(long_lived.check(now().minus(DAY)).unwrap_err().reason(), "ca_not_yet_valid");
    assert_eq!(long_lived.accept().not_after, now().plus(DAY));
}

/// A repaired root beside the one it repairs: same name, same key, other path length. Either order must work.
#[test]
fn anchors_of_one_name_and_key_are_all_tried() {
    let pki = Pki::new();
    let leaf = pki.agent("alice");
    let (root, intermediate) = (pki.root.certificate(), pki.intermediate.certificate());
    let expired =
        profile::successor(root, pki.root.key(), now().minus(DAY), now().minus(DAY * 2), &SystemRng).unwrap();
    let validate =
        |order: &[&Certificate]| anchors(order).validate(&leaf, std::slice::from_ref(intermediate), now());
    for order in [[root, &expired], [&expired, root]] {
        assert_eq!(validate(&order).unwrap().anchor, *root);
    }
    assert_eq!(validate(&[&expired]), Err(PathError::AnchorExpired(expired.subject().to_owned())));
}

#[test]
fn intermediates_of_one_name_are_all_tried() {
    let twins: Vec<_> = (0..5)
        .map(|_| {
            let signer = key();
            let twin = made("/CN=acme Mastio CA/O=acme", &signer, None, &["keyUsage=critical,keyCertSign"]);
            Issuer::new(twin, signer).unwrap()
        })
        .collect();
    let all = anchors(&twins.iter().map(Issuer::certificate).collect::<Vec<_>>());
    for twin in &twins {
        let at = made_at(twin.certificate());
        let leaf = {
            let id = AgentId::parse("acme::x").unwrap();
            let spiffe = SpiffeId::parse("spiffe://cullis.local/acme/x").unwrap();
            profile::agent(twin, &id, &spiffe, key().spki_der(), DAY, at, &SystemRng).unwrap()
        };
        assert_eq!(&all.validate(&leaf, &[], at).unwrap().issuer, twin.certificate());
    }
}

/// Every order of `items`.
fn orders(items: &[Certificate]) -> Vec<Vec<Certificate>> {
    let Some((first, rest)) = items.split_first() else { return vec![vec![]] };
    let with_first = |order: Vec<Certificate>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, first.clone());
            order
        })
    };
    orders(rest).into_iter().flat_map(with_first).collect()
}

#[test]
fn a_chain_with_a_link_holds_in_any_order_and_among_strangers() {
    let pki = Pki::new();
    let old = pki.root.certificate();
    let signer = key();
    let root = profile::successor(old, &signer, old.not_after(), now(), &SystemRng).unwrap();
    let link = profile::link(&pki.root, &root, now(), &SystemRng).unwrap();
    let rotated = Issuer::new(root.clone(), signer).unwrap();
    let intermediate = Pki::intermediate_of(&rotated);
    let leaf = pki.agent_of("alice", &intermediate);
    let stranger = Pki::new().root.certificate().clone();
    let chain = [intermediate.certificate().clone(), link, root.clone(), stranger];
    for presented in orders(&chain) {
        for anchor in [old, &root] {
            assert_eq!(anchors(&[anchor]).validate(&leaf, &presented, now()).unwrap().anchor, *anchor);
        }
    }
}

#[test]
fn a_cross_signed_ca_leads_to_whichever_root_is_believed() {
    let roots = ["/CN=One", "/CN=Two"].map(|name| {
        let signer = key();
        (made(name, &signer, None, &["keyUsage=critical,keyCertSign"]), signer)
    });
    let (ca_key, namesake_key) = (key(), key());
    let flags = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"];
    let below = |signer, (root, root_key): &(_, _)| made("/CN=CA", signer, Some((root, root_key)), &flags);
    let [one, two] = [&roots[0], &roots[1]].map(|root| below(&ca_key, root));
    let leaf = made("/CN=acme::x", &key(), Some((&one, &ca_key)), &["basicConstraints=critical,CA:FALSE"]);
    // Of more than two with one name, those with the key that signed count.
    let namesake = below(&namesake_key, &roots[0]);
    for presented in orders(&[namesake, one, two]) {
        for (root, _) in &roots {
            let path = anchors(&[root]).validate(&leaf, &presented, made_at(&leaf)).unwrap();
            assert_eq!(path.anchor, *root);
        }
    }
}

/// The verifier's own bound is a hundred signature checks; here it must not come that far.
#[test]
fn cas_that_all_have_one_name_are_refused_before_every_order_of_them_is_tried() {
    let ours = made("/CN=acme Mastio CA", &key(), None, &["keyUsage=critical,keyCertSign"]);
    let forged: Vec<_> = (0..MAX_PRESENTED)
        .map(|_| {
            let signer = key();
            (made("/CN=acme Mastio CA", &signer, None, &["keyUsage=critical,keyCertSign"]), signer)
        })
        .collect();
    let (ca, signer) = &forged[0];
    let leaf = made("/CN=acme::x", &key(), Some((ca, signer)), &["basicConstraints=critical,CA:FALSE"]);
    let presented: Vec<_> = forged.iter().map(|(ca, _)| ca.clone()).collect();
    let refused = anchors(&[&ours]).validate(&leaf, &presented, made_at(&leaf));
    assert_eq!(refused, Err(PathError::UnknownIssuer));
}

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

/// Two hierarchies, a leaf under each, and children signed by those leaves under the leaf's and the CA's own name.
fn deck() -> &'static [Certificate] {
    static DECK: OnceLock<Vec<Certificate>> = OnceLock::new();
    DECK.get_or_init(|| {
        let mut cards = Vec::new();
        for _ in 0..2 {
            let (root_key, ca_key, leaf_key) = (key(), key(), key());
            let root = made("/CN=Root", &root_key, None, &["keyUsage=critical,keyCertSign"]);
            let ca =
                made("/CN=CA", &ca_key, Some((&root, &root_key)), &["basicConstraints=critical,CA:TRUE"]);
            let plain = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,keyCertSign"];
            let leaf = made("/CN=acme::a", &leaf_key, Some((&ca, &ca_key)), &plain);
            // A leaf with the CA's name, so that its children name the CA as their issuer.
            let imposter = made("/CN=CA", &leaf_key, Some((&ca, &ca_key)), &plain);
            let child = made("/CN=acme::victim", &key(), Some((&leaf, &leaf_key)), &plain);
            let twin = made("/CN=acme::victim", &key(), Some((&imposter, &leaf_key)), &plain);
            let sub =
                made("/CN=Sub", &key(), Some((&leaf, &leaf_key)), &["basicConstraints=critical,CA:TRUE"]);
            cards.extend([root, ca, leaf, imposter, child, twin, sub]);
        }
        cards
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is presented, a believed leaf was signed by a CA that chains to an anchor through CAs only.
    #[test]
    fn nobody_but_a_ca_ever_acts_as_one(
        leaf in 0usize..14,
        presented in proptest::collection::vec(0usize..14, 0..=MAX_PRESENTED),
        trusted in proptest::collection::vec(prop_oneof![Just(0usize), Just(1), Just(7), Just(8)], 1..3),
    ) {
        let cards = deck();
        let leaf = &cards[leaf];
        let presented: Vec<_> = presented.into_iter().map(|card| cards[card].clone()).collect();
        let set = Anchors::builder().org(trusted.iter().map(|card| cards[*card].clone())).build().unwrap();
        let when = made_at(&cards[13]);
        let Ok(path) = set.validate(leaf, &presented, when) else { return Ok(()) };
        prop_assert!(!leaf.is_ca());
        prop_assert!(path.issuer.is_ca() && path.issuer.may_sign_certificates());
        prop_assert!(leaf.is_signed_by(&path.issuer));
        prop_assert!(path.anchor.is_ca());
        prop_assert!(path.issuer == path.anchor || path.issuer.is_signed_by(&path.anchor));
        prop_assert!(!leaf.subject().contains("victim"));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        crate::fuzz::pem(&bytes);
        crate::fuzz::x509(&bytes);
        crate::fuzz::spiffe(&bytes);
        crate::fuzz::path(&bytes);
    }

    #[test]
    fn damaged_certificates_never_panic_and_never_verify(at in 0usize..1000, with in 1u8..) {
        let cards = deck();
        let mut der = cards[2].der().to_vec();
        let at = at % der.len();
        der[at] ^= with;
        crate::fuzz::x509(&der);
        crate::fuzz::path(format!("{}{}", crate::pem::encode("CERTIFICATE", &der), cards[1].pem()).as_bytes());
        let set = anchors(&[&cards[0], &cards[1]]);
        if let Ok(damaged) = Certificate::from_der(der) {
            prop_assert!(set.validate(&damaged, &[], made_at(&cards[13])).is_err());
        }
    }
}

#[test]
fn the_deck_has_chains_that_hold() {
    let cards = deck();
    let when = made_at(&cards[13]);
    let set = anchors(&[&cards[0]]);
    assert!(set.validate(&cards[2], &[cards[1].clone()], when).is_ok());
    let forged = set.validate(&cards[4], &[cards[2].clone(), cards[1].clone()], when);
    assert_eq!(forged, Err(PathError::LeafAsCa));
}
