//! Chains in every order, and among strangers.

use super::*;

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
fn a_link_states_the_key_identifier_of_a_root_that_somebody_else_made() {
    let signer = key();
    let flags = ["basicConstraints=critical,CA:TRUE,pathlen:1", "keyUsage=critical,keyCertSign,cRLSign"];
    let old = Issuer::new(made("/O=acme/CN=Root", &signer, None, &flags), signer).unwrap();
    let signer = key();
    let root = made("/O=acme/CN=Root", &signer, None, &flags);
    let link = profile::link(&old, &root, made_at(&root), &SystemRng).unwrap();
    assert!(root.key_id().is_some());
    assert_eq!(link.key_id(), root.key_id(), "an intermediate below the root names this one");
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
