//! The vectors of contract `pki.md` and `auth.md`: real certificates, made by others.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;

use mastio_core::{Kid, OrgId, Stamp, SystemRng};
use mastio_pki::{
    Anchors, Certificate, Issuer, KeyKind, KeyPair, PathError, SigningKey, issued_chain, pem, profile,
    spki_short_id,
};
use serde_json::Value;

fn fixture(name: &str) -> Value {
    let path = format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn text<'a>(vectors: &'a Value, pointer: &str) -> &'a str {
    vectors.pointer(pointer).and_then(Value::as_str).unwrap()
}

fn certificate(vectors: &Value, pointer: &str) -> Certificate {
    Certificate::from_pem(text(vectors, pointer)).unwrap()
}

fn anchors(certificates: &[&Certificate]) -> Anchors {
    Anchors::builder().org(certificates.iter().copied().cloned()).build().unwrap()
}

/// The PKI vectors and when they were made.
fn pki() -> (Value, Stamp) {
    let vectors = fixture("pki-vectors.json");
    let made = Stamp::parse(text(&vectors, "/generated_at")).unwrap();
    (vectors, made)
}

#[test]
fn identifiers_of_the_reference() {
    let (vectors, _) = pki();
    let root = certificate(&vectors, "/reference/root");
    assert_eq!(spki_short_id(root.spki_der()), text(&vectors, "/org_id"));
    assert_eq!(spki_short_id(root.spki_der()), text(&vectors, "/at_rest/org_ca/key_id"));
    let intermediate = certificate(&vectors, "/reference/intermediate");
    let key_id = format!("intermediate-{}", spki_short_id(intermediate.spki_der()));
    assert_eq!(key_id, text(&vectors, "/at_rest/intermediate_ca/key_id"));
    let leaf = certificate(&vectors, "/reference/mastio_leaf");
    assert_eq!(Kid::of_pem(&leaf.spki_pem()).as_str(), text(&vectors, "/reference/mastio_kid"));
    let signer = KeyPair::from_pem(text(&vectors, "/reference/mastio_leaf_key")).unwrap();
    assert_eq!(signer.spki_pem(), leaf.spki_pem());
}

/// Gap 10 of the contract: of a leaf with its intermediate, only the leaf is hashed.
#[test]
fn thumbprints_are_those_of_the_first_certificate() {
    let (vectors, _) = pki();
    let thumbprint = |pointer| certificate(&vectors, pointer).thumbprint().to_string();
    assert_eq!(thumbprint("/reference/agent_leaf_only"), text(&vectors, "/reference/agent_thumbprint"));
    let enrolled = text(&vectors, "/reference/enrolled_chain");
    assert_eq!(pem::certificates(enrolled).unwrap().len(), 2);
    assert_eq!(thumbprint("/reference/enrolled_chain"), text(&vectors, "/reference/enrolled_thumbprint"));
    assert_eq!(thumbprint("/reference/user_chain"), text(&vectors, "/reference/user_cert_thumbprint"));
    let user = certificate(&vectors, "/reference/user_chain");
    let pubkey = text(&vectors, "/reference/user_pubkey_thumbprint");
    assert_eq!(hex::encode(user.spki_sha256()), pubkey);

    let auth = fixture("auth-vectors.json");
    for name in ["org_root", "intermediate", "agent_leaf", "user_leaf", "forged_leaf_signed_by_agent_leaf"] {
        let read = certificate(&auth, &format!("/certs/{name}/pem"));
        assert_eq!(read.thumbprint().to_string(), text(&auth, &format!("/certs/{name}/sha256_hex")));
        assert_eq!(read.pem(), text(&auth, &format!("/certs/{name}/pem")));
    }
}

#[test]
fn facts_of_the_reference() {
    let (vectors, _) = pki();
    let org = text(&vectors, "/org_id");
    let root = certificate(&vectors, "/reference/root");
    assert_eq!(root.subject(), format!("CN={org} CA, O={org}"));
    assert_eq!((root.common_name().unwrap(), root.organization().unwrap()), (&*format!("{org} CA"), org));
    assert_eq!((root.is_ca(), root.path_len(), root.may_sign_certificates()), (true, Some(1), true));
    assert!(root.is_self_issued() && root.is_signed_by(&root));
    assert_eq!(root.serial_hex(), "3a9eb1ae0d0d4bed37619b24086f79e87e0cb155");

    let agent = certificate(&vectors, "/reference/agent_leaf_only");
    assert_eq!((agent.is_ca(), agent.path_len(), agent.key_kind()), (false, None, KeyKind::P256));
    assert_eq!(agent.principal().unwrap().to_string(), format!("{org}::kyc-screener"));
    assert_eq!(agent.spiffe_id().unwrap().as_str(), format!("spiffe://cullis.local/{org}/kyc-screener"));
    assert!(agent.may_authenticate_client() && agent.may_authenticate_server());
    assert_eq!(agent.key_id(), None);

    let user = certificate(&vectors, "/reference/user_chain");
    assert_eq!((user.subject(), user.common_name()), ("", None));
    assert_eq!(user.principal().unwrap().to_string(), format!("{org}::user::daniele"));
    assert!(user.may_authenticate_client() && !user.may_authenticate_server());

    let server = certificate(&vectors, "/reference/nginx/mastio-server.crt");
    assert!(!server.may_authenticate_client() && server.may_authenticate_server());
    assert!(!server.dns_sans().is_empty());
    assert_eq!(server.authority_key_id(), certificate(&vectors, "/reference/intermediate").key_id());

    let rsa = certificate(&vectors, "/reference/dashboard_rsa_root");
    assert_eq!((rsa.key_kind(), rsa.key_strength_ok()), (KeyKind::Rsa { bits: 4096 }, true));
}

#[test]
fn chains_of_the_reference_verify() {
    let (vectors, made) = pki();
    let (root, intermediate) =
        (certificate(&vectors, "/reference/root"), certificate(&vectors, "/reference/intermediate"));
    let by_root = anchors(&[&root]);
    for name in ["agent_leaf_only", "enrolled_chain", "user_chain", "mastio_leaf"] {
        let leaf = certificate(&vectors, &format!("/reference/{name}"));
        let path = by_root.validate(&leaf, std::slice::from_ref(&intermediate), made).unwrap();
        assert_eq!((&path.anchor, &path.issuer), (&root, &intermediate), "{name}");
        assert!(anchors(&[&intermediate]).validate(&leaf, &[], made).is_ok(), "{name}");
        assert_eq!(by_root.validate(&leaf, &[], made), Err(PathError::UnknownIssuer), "{name}");
    }
    let other_root = certificate(&vectors, "/reference/dashboard_rsa_root");
    let leaf = certificate(&vectors, "/reference/agent_leaf_only");
    let refused = anchors(&[&other_root]).validate(&leaf, &[intermediate], made);
    assert_eq!(refused.unwrap_err().reason(), "unknown_issuer");
}

/// Gap 5 of `pki.md`, 17-1 of `auth.md`: an agent signs a certificate for its victim.
#[test]
fn a_child_of_an_agents_leaf_is_refused() {
    let (vectors, made) = pki();
    let presented: Vec<_> = (0..3)
        .map(|index| certificate(&vectors, &format!("/attack_child_of_agent_leaf/x5c_order_pem/{index}")))
        .collect();
    let victim = presented[0].principal().unwrap().to_string();
    assert_eq!(victim, text(&vectors, "/attack_child_of_agent_leaf/claims_identity"));
    assert!(presented[0].is_signed_by(&presented[1]) && presented[1].is_signed_by(&presented[2]));
    let (root, intermediate) =
        (certificate(&vectors, "/reference/root"), certificate(&vectors, "/reference/intermediate"));
    for trusted in [&[&root][..], &[&intermediate], &[&root, &intermediate]] {
        let refused = anchors(trusted).validate(&presented[0], &presented[1..], made);
        assert_eq!(refused, Err(PathError::LeafAsCa));
    }

    let auth = fixture("auth-vectors.json");
    let now = Stamp::from_unix(auth["now"].as_i64().unwrap());
    let read = |name: &str| certificate(&auth, &format!("/certs/{name}/pem"));
    let (own, above) = (read("agent_leaf"), read("intermediate"));
    let trusted = anchors(&[&read("org_root")]);
    assert!(trusted.validate(&own, std::slice::from_ref(&above), now).is_ok());
    assert!(trusted.validate(&read("user_leaf"), std::slice::from_ref(&above), now).is_ok());
    let forged = read("forged_leaf_signed_by_agent_leaf");
    assert!(forged.is_signed_by(&own));
    assert_eq!(trusted.validate(&forged, &[own, above], now), Err(PathError::LeafAsCa));
}

#[test]
fn a_root_with_path_length_zero_has_no_three_tier_paths() {
    let (vectors, made) = pki();
    let root = certificate(&vectors, "/legacy_pathlen_zero/root");
    assert_eq!(root.path_len(), Some(0));
    let org = OrgId::parse(root.organization().unwrap()).unwrap();
    let root_key = KeyPair::from_pem(text(&vectors, "/legacy_pathlen_zero/root_key")).unwrap();
    let legacy = Issuer::new(root, root_key).unwrap();
    let ca_key = KeyPair::generate_p256().unwrap();
    let ca = profile::intermediate(&legacy, &org, ca_key.spki_der(), made, &SystemRng).unwrap();
    let below = Issuer::new(ca, ca_key).unwrap();
    let leaf = agent(&below, made);
    let chain = [below.certificate().clone()];
    let refused = anchors(&[legacy.certificate()]).validate(&leaf, &chain, made);
    assert_eq!(refused, Err(PathError::PathLength));
    // Directly below it a leaf is fine, and the intermediate is an anchor in its own right.
    assert!(anchors(&[legacy.certificate()]).validate(&agent(&legacy, made), &[], made).is_ok());
    assert!(anchors(&[legacy.certificate(), below.certificate()]).validate(&leaf, &chain, made).is_ok());
    // The repair: same key, same name, path length 1, and every chain below it holds.
    let (old, key) = (legacy.certificate(), legacy.key());
    let repaired = profile::successor(old, key, old.not_after(), made, &SystemRng).unwrap();
    assert!(anchors(&[&repaired]).validate(&leaf, &chain, made).is_ok());
    let superseding = profile::link(&legacy, &repaired, made, &SystemRng);
    assert_eq!(
        superseding.unwrap_err().to_string().split(':').next(),
        Some("the issuing CA allows no CA below it (path length 0)")
    );
}

fn agent<K: SigningKey>(issuer: &Issuer<K>, now: Stamp) -> Certificate {
    let id = mastio_core::AgentId::parse("acme::alice").unwrap();
    let spiffe = mastio_core::SpiffeId::parse("spiffe://cullis.local/acme/alice").unwrap();
    let key = KeyPair::generate_p256().unwrap();
    profile::agent(issuer, &id, &spiffe, key.spki_der(), profile::LEAF_LIFETIME, now, &SystemRng).unwrap()
}

#[test]
fn the_recommended_rotation_verifies_against_either_root() {
    let (vectors, made) = pki();
    let read = |name: &str| certificate(&vectors, &format!("/recommended_rotation/{name}"));
    let (old, new, link) = (read("old_root"), read("new_root"), read("link_new_with_old"));
    let intermediate = read("intermediate_under_new");
    assert!(link.is_signed_by(&old) && !link.is_signed_by(&new) && link.is_self_issued());
    let sent = [intermediate.clone(), link.clone()];
    for leaf in [read("agent_leaf"), read("user_leaf")] {
        for trusted in [&old, &new] {
            assert_eq!(&anchors(&[trusted]).validate(&leaf, &sent, made).unwrap().anchor, trusted);
        }
        let without_link = anchors(&[&old]).validate(&leaf, &sent[..1], made);
        assert!(without_link.is_err());
    }
    // The server's leaf is for servers.
    let server = anchors(&[&new]).validate(&read("server_leaf"), &sent, made);
    assert_eq!(server, Err(PathError::NotForClients));
    assert!(issued_chain(&read("server_leaf"), &sent).starts_with(&read("server_leaf").pem()));
}
