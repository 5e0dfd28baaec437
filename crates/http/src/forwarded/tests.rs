use proptest::prelude::*;

use super::*;

fn trust(secret: Option<&str>) -> Trust {
    Trust::new(
        vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        secret.map(SecretString::from),
    )
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn client_of(socket: &str, pairs: &[(&'static str, &str)]) -> String {
    trust(None).peer(socket.parse().unwrap(), &headers(pairs)).address.to_string()
}

fn certificate_of(pairs: &[(&'static str, &str)]) -> PeerCertificate {
    trust(None).peer("10.0.0.1".parse().unwrap(), &headers(pairs)).certificate
}

fn forwarded_leaf() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/auth-vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    vectors["x_ssl_client_cert_header_for_agent_leaf"].as_str().unwrap().to_owned()
}

#[test]
fn the_client_is_the_right_most_hop_that_is_not_our_proxy() {
    let xff = "x-forwarded-for";
    assert_eq!(client_of("10.0.0.1", &[(xff, "6.6.6.6, 1.2.3.4, 10.9.9.9")]), "1.2.3.4");
    assert_eq!(client_of("10.0.0.1", &[(xff, "6.6.6.6"), (xff, "1.2.3.4"), (xff, "fd00::7")]), "1.2.3.4");
    assert_eq!(client_of("10.0.0.1", &[(xff, "1.2.3.4:5000")]), "1.2.3.4");
    assert_eq!(client_of("10.0.0.1", &[(xff, "[2001:db8::1]:443")]), "2001:db8::1");
    assert_eq!(client_of("10.0.0.1", &[(xff, "[2001:db8::1]")]), "2001:db8::1");
    assert_eq!(client_of("10.0.0.1", &[(xff, "::ffff:1.2.3.4")]), "1.2.3.4");
    assert_eq!(client_of("::ffff:10.0.0.1", &[(xff, "1.2.3.4")]), "1.2.3.4");
}

#[test]
fn without_a_readable_hop_the_last_believed_one_stands() {
    let xff = "x-forwarded-for";
    assert_eq!(client_of("10.0.0.1", &[]), "10.0.0.1");
    assert_eq!(client_of("10.0.0.1", &[(xff, "1.2.3.4, unknown")]), "10.0.0.1");
    assert_eq!(client_of("10.0.0.1", &[(xff, "1.2.3.4, unknown, 10.0.0.2")]), "10.0.0.2");
    assert_eq!(client_of("10.0.0.1", &[(xff, "10.0.0.3, 10.0.0.2")]), "10.0.0.3");
    assert_eq!(client_of("10.0.0.1", &[(xff, "1.2.3.4\u{e9}")]), "10.0.0.1");
    assert_eq!(client_of("10.0.0.1", &[("x-real-ip", "1.2.3.4")]), "1.2.3.4");
    assert_eq!(client_of("10.0.0.1", &[("x-real-ip", "1.2.3.4"), (xff, "unknown")]), "10.0.0.1");
}

#[test]
fn nobody_else_is_believed() {
    let leaf = forwarded_leaf();
    let lies =
        [("x-forwarded-for", "1.2.3.4"), ("x-ssl-client-verify", "SUCCESS"), ("x-ssl-client-cert", &leaf)];
    let socket: IpAddr = "127.0.0.1".parse().unwrap();
    let unbelieved = Peer { address: socket, certificate: PeerCertificate::None };
    assert_eq!(trust(None).peer(socket, &headers(&lies)), unbelieved);
    let proxy: IpAddr = "10.0.0.1".parse().unwrap();
    for (secret, believed) in [("", false), ("wrong", false), ("s3cret", true)] {
        let mut map = headers(&lies);
        map.insert("x-mastio-edge-secret", HeaderValue::from_str(secret).unwrap());
        let peer = trust(Some("s3cret")).peer(proxy, &map);
        assert_eq!(matches!(peer.certificate, PeerCertificate::Chain(_)), believed, "{secret}");
    }
}

#[test]
fn the_reference_header_is_read_and_its_parse_is_kept() {
    let (trust, leaf) = (trust(None), forwarded_leaf());
    let map = headers(&[("x-ssl-client-verify", "SUCCESS"), ("x-ssl-client-cert", &leaf)]);
    let read = || match trust.certificate(&map) {
        PeerCertificate::Chain(chain) => chain,
        other => panic!("{other:?}"),
    };
    let (first, second) = (read(), read());
    assert_eq!(first.leaf.common_name(), Some("acme::kyc-screener"));
    assert!(std::sync::Arc::ptr_eq(&first, &second));
}

#[test]
fn what_the_proxy_did_not_verify_is_told_apart() {
    use PeerCertificate::{HeaderMissing, Malformed, None, NotVerified};
    let (verify, cert, leaf) = ("x-ssl-client-verify", "x-ssl-client-cert", forwarded_leaf());
    assert_eq!(certificate_of(&[]), None);
    assert_eq!(certificate_of(&[(verify, "NONE"), (cert, "")]), None);
    assert_eq!(certificate_of(&[(verify, "SUCCESS")]), HeaderMissing);
    assert_eq!(certificate_of(&[(cert, &leaf)]), NotVerified(String::new()));
    assert_eq!(
        certificate_of(&[(verify, "FAILED:expired"), (cert, &leaf)]),
        NotVerified("FAILED:expired".into())
    );
    assert_eq!(
        certificate_of(&[(verify, "SUCCESS"), (verify, "SUCCESS"), (cert, &leaf)]),
        NotVerified(String::new())
    );
    assert_eq!(certificate_of(&[(verify, "SUCCESS"), (cert, &leaf), (cert, &leaf)]), Malformed);
    for bad in ["x", "%", "%FF%FE", "-----BEGIN%20CERTIFICATE-----%0A", &"A".repeat(pem::MAX_TEXT + 1)] {
        assert_eq!(certificate_of(&[(verify, "SUCCESS"), (cert, bad)]), Malformed, "{bad:.40}");
    }
    let NotVerified(kept) = certificate_of(&[(verify, &"\u{e9}".repeat(1000))]) else {
        panic!("not verified")
    };
    assert_eq!(kept.chars().count(), MAX_VERIFY);
}

#[test]
fn nothing_forwarded_reaches_a_handler() {
    let mut map = headers(&[("host", "x"), ("X-Forwarded-For", "a"), ("forwarded", "for=1.2.3.4")]);
    for name in FORWARDED {
        map.append(name, HeaderValue::from_static("x"));
    }
    strip(&mut map);
    assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["host"]);
}

proptest! {
    #[test]
    fn what_stands_left_of_an_untrusted_hop_never_counts(
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        spoofed in any::<[u8; 4]>(),
    ) {
        let mut map = HeaderMap::new();
        for value in lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
            map.append(FORWARDED_FOR, value.clone());
            map.append(CLIENT_VERIFY, value.clone());
            map.append(REAL_IP, value);
        }
        let last = format!("{}, 1.2.3.4, 10.0.0.2", IpAddr::from(spoofed));
        map.append(FORWARDED_FOR, last.parse().unwrap());
        let peer = trust(None).peer("10.0.0.1".parse().unwrap(), &map);
        prop_assert_eq!(peer.address, IpAddr::from([1, 2, 3, 4]));
        prop_assert!(!matches!(peer.certificate, PeerCertificate::Chain(_)));
    }
}
