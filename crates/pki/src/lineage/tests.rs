use std::{fs, time::Duration};

use mastio_core::SystemRng;

use super::*;
use crate::{
    KeyPair, profile,
    testing::{Pki, now, openssl, openssl_with, org},
};

fn root_of(key: KeyPair) -> Issuer<KeyPair> {
    Issuer::new(profile::root(&org(), &key, now(), &SystemRng).unwrap(), key).unwrap()
}

fn successor_of(old: &Issuer<KeyPair>) -> Issuer<KeyPair> {
    let key = KeyPair::generate_p256().unwrap();
    let end = now().plus(profile::ROOT_LIFETIME);
    let certificate = profile::successor(old.certificate(), &key, end, now(), &SystemRng).unwrap();
    Issuer::new(certificate, key).unwrap()
}

fn keys() -> impl Iterator<Item = KeyPair> {
    ["EC -pkeyopt ec_paramgen_curve:P-256", "EC -pkeyopt ec_paramgen_curve:P-384"]
        .into_iter()
        .chain(["EC -pkeyopt ec_paramgen_curve:P-521", "RSA -pkeyopt rsa_keygen_bits:2048"])
        .map(|arguments| KeyPair::from_pem(&openssl(&format!("genpkey -algorithm {arguments}"), "")).unwrap())
}

#[test]
fn a_root_of_any_accepted_kind_vouches_for_its_successor() {
    for key in keys() {
        let kind = key.public().kind();
        let old = root_of(key);
        let new = successor_of(&old);
        let text = vouch(&old, new.certificate(), now()).unwrap();
        assert_eq!(verify(&text, old.certificate(), new.certificate()), Ok(now()), "{kind:?}");
        assert!(text.is_ascii() && text.starts_with("mastio root lineage v1\n"), "{text}");
        assert_eq!(text.lines().count(), 7, "{text}");
    }
}

#[test]
fn openssl_verifies_what_is_before_the_last_line() {
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    for (key, hash) in keys().zip(["-sha256", "-sha384", "-sha512", "-sha256"]) {
        let old = root_of(key);
        let text = vouch(&old, successor_of(&old).certificate(), now()).unwrap();
        let (signed, signature) = text.split_once("signature: ").unwrap();
        fs::write(file("key"), old.certificate().spki_pem()).unwrap();
        fs::write(file("signature"), STANDARD.decode(signature.trim_end()).unwrap()).unwrap();
        let arguments = ["dgst", hash, "-verify", &file("key"), "-signature", &file("signature")];
        assert_eq!(openssl_with(&arguments, signed), "Verified OK\n");
    }
}

#[test]
fn a_statement_is_about_two_certificates_in_one_order() {
    let old = Pki::new().root;
    let (new, other) = (successor_of(&old), successor_of(&old));
    let text = vouch(&old, new.certificate(), now()).unwrap();
    let verified = |a: &Issuer<KeyPair>, b: &Issuer<KeyPair>| verify(&text, a.certificate(), b.certificate());
    assert_eq!(verified(&old, &other), Err(LineageError::OtherRoot("successor-certificate")));
    assert_eq!(verified(&other, &new), Err(LineageError::OtherRoot("superseded-certificate")));
    assert_eq!(verified(&new, &old), Err(LineageError::OtherRoot("superseded-certificate")));
    assert_eq!(verified(&old, &old), Err(LineageError::Itself));
    assert_eq!(vouch(&old, old.certificate(), now()), Err(LineageError::Itself));
}

#[test]
fn a_reissued_root_is_vouched_for_by_the_same_key() {
    let old = Pki::new().root;
    let end = old.certificate().not_after().minus(Duration::from_secs(60));
    let again = profile::successor(old.certificate(), old.key(), end, now(), &SystemRng).unwrap();
    let text = vouch(&old, &again, now()).unwrap();
    assert_eq!(verify(&text, old.certificate(), &again), Ok(now()));
    assert_eq!(verify(&text, &again, old.certificate()).unwrap_err().to_string().lines().count(), 1);
}

#[test]
fn no_byte_of_a_statement_can_be_changed() {
    let old = Pki::new().root;
    let new = successor_of(&old);
    let (old, text) = (old.certificate().clone(), vouch(&old, new.certificate(), now()).unwrap());
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verify(&changed, &old, new.certificate()).is_err(), "byte {at} of:\n{changed}");
    }
    let (signed, _) = text.split_once("signature: ").unwrap();
    let later = text.replace(&now().to_string(), &now().plus(Duration::from_secs(1)).to_string());
    assert_eq!(verify(&later, &old, new.certificate()), Err(LineageError::Forged));
    for malformed in [
        String::new(),
        signed.to_owned(),
        text.trim_end().to_owned(),
        format!("{text}\n"),
        format!("\n{text}"),
        text.replace('\n', "\r\n"),
        text.replace("v1", "v2"),
        text.replace("+00:00", "Z"),
        text.replace("signed-at", "note: x\nsigned-at"),
        text.to_uppercase(),
    ] {
        let refused = verify(&malformed, &old, new.certificate());
        assert_eq!(refused, Err(LineageError::Malformed), "{malformed}");
    }
}

#[test]
fn a_signature_by_another_key_does_not_hold() {
    let (old, thief) = (Pki::new().root, KeyPair::generate_p256().unwrap());
    let new = successor_of(&old);
    let signed = signed_text(old.certificate(), new.certificate(), now());
    let signature = STANDARD.encode(thief.sign(signed.as_bytes()).unwrap());
    let forged = format!("{signed}signature: {signature}\n");
    assert_eq!(verify(&forged, old.certificate(), new.certificate()), Err(LineageError::Forged));
}

/// Three roots: the first vouches for the second, and the key of the second was compromised.
fn line() -> (Line, [Issuer<KeyPair>; 3]) {
    let first = Pki::new().root;
    let second = successor_of(&first);
    let third = successor_of(&second);
    let statement = vouch(&first, second.certificate(), now()).unwrap();
    let line = Line::of(first.certificate().clone())
        .then(Onward::Statement(statement), second.certificate().clone())
        .then(Onward::Break(Break::Compromise), third.certificate().clone());
    (line, [first, second, third])
}

#[test]
fn a_line_survives_its_text_and_shows_where_it_breaks() {
    let (line, [first, second, third]) = line();
    let text = format!("# made for a test\n\n{line}");
    let read = Line::parse(&text).unwrap();
    assert_eq!(read, line);
    assert_eq!(read.newest(), third.certificate());
    let vouched = |trusted: &Issuer<KeyPair>| {
        let steps = read.steps_from(trusted.certificate()).unwrap();
        steps.map(|step| step.vouched).collect::<Vec<_>>()
    };
    let broken = Err(StepError::Break(Break::Compromise));
    assert_eq!(vouched(&first), [Ok(now()), broken.clone()]);
    assert_eq!(vouched(&second), [broken]);
    assert_eq!(vouched(&third), []);
    assert!(read.steps_from(Pki::new().root.certificate()).is_none());
    assert_eq!(Line::parse(&text.replace('\n', "\r\n")).unwrap().steps().next().unwrap().vouched, Ok(now()));
}

#[test]
fn a_line_that_was_tampered_with_is_refused_or_does_not_hold() {
    let (line, [_, _, third]) = line();
    let text = line.to_string();
    let swapped = text.replacen("signature: ", "signature: AAAA", 1);
    let forged = Line::parse(&swapped).unwrap();
    assert!(matches!(forged.steps().next().unwrap().vouched, Err(StepError::Statement(_))), "{swapped}");
    let (pem, before) = (third.certificate().pem(), Pki::new().root.certificate().pem());
    let other_end = Line::parse(&text.replace("break: compromise", &before)).unwrap_err();
    assert_eq!(other_end, LineError::Gap(2));
    assert_eq!(Line::parse(&text.replace("break: compromise", "break: none")), Err(LineError::Gap(2)));
    assert_eq!(Line::parse(&format!("{text}\nand more\n")), Err(LineError::Gap(3)));
    assert_eq!(Line::parse(&format!("break: unrecorded\n{text}")), Err(LineError::Gap(0)));
    assert_eq!(Line::parse("# nothing\n"), Err(LineError::Empty));
    assert_eq!(Line::parse(&" ".repeat(2 << 20)), Err(LineError::TooLong));
    let damaged = text.replace(&pem, &pem.replace("MII", "M!I"));
    assert!(matches!(Line::parse(&damaged), Err(LineError::Certificate { position: 3, .. })), "{damaged}");
}
