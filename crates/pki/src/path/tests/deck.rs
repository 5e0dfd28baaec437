//! Properties of chains that are put together at random.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

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
