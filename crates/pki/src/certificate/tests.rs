//! Who a certificate speaks for, and that its bytes have one form.

use super::*;
use crate::testing::{Pki, openssl_with};

fn self_signed(extensions: &[&str]) -> Certificate {
    let mut arguments =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj"
            .split(' ')
            .collect::<Vec<_>>();
    arguments.push("/CN=acme::from-cn/O=acme");
    extensions.iter().for_each(|extension| arguments.extend(["-addext", extension]));
    Certificate::from_pem(&openssl_with(&arguments, "")).unwrap()
}

fn principal(names: &str) -> Option<String> {
    self_signed(&[&format!("subjectAltName={names}")]).principal().map(ToString::to_string)
}

#[test]
fn the_first_spiffe_id_of_a_principal_wins_over_the_common_name() {
    let two = "URI:https://x,URI:spiffe://td/nobody,URI:spiffe://td/acme/one,URI:spiffe://td/acme/two";
    assert_eq!(principal(two).as_deref(), Some("acme::one"));
    assert_eq!(principal("URI:spiffe://td/a/b/c/d").as_deref(), Some("acme::from-cn"));
    assert_eq!(principal("DNS:acme.example").as_deref(), Some("acme::from-cn"));
    let svid = self_signed(&["subjectAltName=URI:spiffe://td/ns/prod/sa/web"]);
    assert_eq!(svid.spiffe_id().unwrap().as_str(), "spiffe://td/ns/prod/sa/web");
    assert_eq!(self_signed(&["subjectAltName=URI:https://x,URI:spiffe://td/web"]).spiffe_id(), None);
}

#[test]
fn names_are_kept_by_type_and_in_order() {
    let read = self_signed(&["subjectAltName=DNS:b.example,IP:10.0.0.1,DNS:a.example,IP:2001:db8::1"]);
    assert_eq!(read.dns_sans(), ["b.example", "a.example"]);
    let addresses = ["10.0.0.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!(read.ip_sans(), addresses);
}

#[test]
fn there_is_one_encoding_only() {
    let good = Pki::new().root.certificate().der().to_vec();
    let malformed = |der: Vec<u8>| assert_eq!(Certificate::from_der(der), Err(CertificateError::Malformed));
    malformed([&good[..], &[0]].concat());
    malformed(good[..good.len() - 1].to_vec());
    for class in [0x40, 0x80, 0xc0] {
        let mut other = good.clone();
        other[0] ^= class;
        malformed(other);
    }
    assert_eq!(Certificate::from_der(vec![0; MAX_DER + 1]), Err(CertificateError::TooLong));
}
