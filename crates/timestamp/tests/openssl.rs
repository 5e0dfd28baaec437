//! Against a real authority: OpenSSL stamps, and OpenSSL verifies what is written here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use mastio_core::{Clock, SeededRng, Stamp, SystemClock, sha256};
use mastio_pki::Certificate;
use mastio_testing::tsa::{Key, Tsa};
use mastio_timestamp::{
    Anchors, AnchorsError, Expectation, Nonce, Request, TimeStamp, TimestampError, Token, tsr_of,
};

const SKEW: Duration = Duration::from_secs(60);

fn now() -> Stamp {
    SystemClock::default().now()
}

fn nonce() -> Nonce {
    Nonce::random(&SeededRng::new(11))
}

fn hash() -> [u8; 32] {
    sha256(b"the head of a log")
}

fn anchors(tsa: &Tsa) -> Anchors {
    Anchors::from_pem(&tsa.root_pem()).unwrap()
}

fn certificate(tsa: &Tsa, name: &str) -> Certificate {
    Certificate::from_pem(&std::fs::read_to_string(tsa.file(name)).unwrap()).unwrap()
}

fn stamped(tsa: &Tsa) -> Token {
    Token::from_response(&tsa.reply(&Request::new(&hash(), nonce()).to_der())).unwrap()
}

/// Everything that can be asked for.
fn verify(token: &Token, tsa: &Tsa) -> Result<TimeStamp, TimestampError> {
    let (hash, anchors) = (hash(), anchors(tsa));
    token.verify(&Expectation::of(&hash).answering(nonce()).trusting(&anchors).near(now(), SKEW))
}

#[test]
fn stamps_of_every_kind_of_key_hold_and_openssl_reads_them_back() {
    for key in [Key::Rsa, Key::P256, Key::P384] {
        let tsa = Tsa::new(key);
        let token = stamped(&tsa);
        let stamp = verify(&token, &tsa).unwrap();
        assert!(now().since(stamp.gen_time) < SKEW, "{key:?}");
        assert_eq!((stamp.serial.as_str(), stamp.policy.as_str()), ("02", "1.2.3.4.1"));
        assert_eq!(stamp.accuracy, Duration::from_millis(1500));
        assert_eq!(stamp.authority, "CN=Test TSA");
        let chain = ["tsa.pem", "ca.pem", "root.pem"].map(|name| certificate(&tsa, name));
        assert_eq!(stamp.chain, chain);

        let file = tsa.file("written.tsr");
        std::fs::write(&file, tsr_of(&token)).unwrap();
        assert!(tsa.verifies(&hex::encode(hash()), &file), "{key:?}");
        assert!(!tsa.verifies(&hex::encode(sha256(b"another")), &file));
        assert_eq!(Token::from_response(&tsr_of(&token)).unwrap().der(), token.der());
    }
}

#[test]
fn another_hash_and_another_request_are_told_apart() {
    let tsa = Tsa::new(Key::P256);
    let other = Request::new(&sha256(b"another"), nonce()).to_der();
    let token = Token::from_response(&tsa.reply(&other)).unwrap();
    assert_eq!(verify(&token, &tsa), Err(TimestampError::OtherHash));
    let other = Request::new(&hash(), Nonce::random(&SeededRng::new(12))).to_der();
    let token = Token::from_response(&tsa.reply(&other)).unwrap();
    assert_eq!(verify(&token, &tsa), Err(TimestampError::OtherNonce));
    // Openssl's own nonce, and none.
    for arguments in [&[][..], &["-no_nonce"]] {
        let token = Token::from_response(&tsa.reply(&tsa.query(&hex::encode(hash()), arguments))).unwrap();
        assert_eq!(verify(&token, &tsa), Err(TimestampError::OtherNonce));
        let hash = hash();
        assert!(token.verify(&Expectation::of(&hash).trusting(&anchors(&tsa))).is_ok());
    }
}

#[test]
fn only_trusted_authorities_count() {
    let (tsa, stranger) = (Tsa::new(Key::P256), Tsa::new(Key::P256));
    let token = stamped(&stranger);
    assert_eq!(verify(&token, &tsa), Err(TimestampError::Untrusted("CN=Test TSA".to_owned())));
    let hash = hash();
    let stamp = token.verify(&Expectation::of(&hash)).unwrap();
    assert_eq!(
        stamp.chain.first(),
        Some(&certificate(&stranger, "tsa.pem")),
        "asked for no anchor, it is read"
    );
    let own = Anchors::new(vec![certificate(&tsa, "tsa.pem")]);
    assert_eq!(own.unwrap_err(), AnchorsError::NotCa("CN=Test TSA".to_owned()));
    assert_eq!(Anchors::from_pem("nothing").unwrap_err(), AnchorsError::Empty);
}

#[test]
fn a_certificate_must_be_for_time_stamping_alone() {
    let info = {
        let tsa = Tsa::new(Key::P256);
        tsa.info_of(&tsa.reply(&Request::new(&hash(), nonce()).to_der()))
    };
    for extensions in ["plain", "also_serves", "not_critical"] {
        let tsa = Tsa::certified(Key::P256, extensions, "20991231235959Z");
        let token = Token::from_der(tsa.sign(&info, &["-cades"])).unwrap();
        let refused = TimestampError::NotForTimeStamping("CN=Test TSA".to_owned());
        assert_eq!(verify(&token, &tsa), Err(refused), "{extensions}");
    }
}

#[test]
fn a_certificate_counts_at_the_time_that_is_stamped() {
    let expired = Tsa::certified(Key::P256, "stamps", "20210101000000Z");
    let token = stamped(&expired);
    assert_eq!(verify(&token, &expired), Err(TimestampError::Expired("CN=Test TSA".to_owned())));
    // Long after the root has ended, what was stamped before still holds.
    let tsa = Tsa::new(Key::P256);
    let token = stamped(&tsa);
    let (hash, anchors) = (hash(), anchors(&tsa));
    assert!(token.verify(&Expectation::of(&hash).trusting(&anchors)).is_ok());
    let much_later = now().plus(Duration::from_secs(20 * 365 * 86_400));
    let skew = token.verify(&Expectation::of(&hash).trusting(&anchors).near(much_later, SKEW));
    assert!(matches!(skew, Err(TimestampError::Skew { .. })), "{skew:?}");
}

#[test]
fn pss_and_larger_digests_are_read() {
    let tsa = Tsa::new(Key::Rsa);
    let info = tsa.info_of(&tsa.reply(&Request::new(&hash(), nonce()).to_der()));
    let pss = ["-cades", "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:digest"];
    for arguments in
        [&pss[..], &["-cades", "-md", "sha512"], &["-cades", "-md", "sha384"], &["-cades", "-keyid"]]
    {
        let token = Token::from_der(tsa.sign(&info, arguments)).unwrap();
        verify(&token, &tsa).unwrap_or_else(|error| unreachable!("{arguments:?}: {error}"));
    }
    let weak = Token::from_der(tsa.sign(&info, &["-cades", "-md", "sha1"])).unwrap();
    assert_eq!(verify(&weak, &tsa), Err(TimestampError::Algorithm("1.3.14.3.2.26".to_owned())));
}

#[test]
fn the_signature_must_name_its_certificate() {
    let tsa = Tsa::new(Key::P256);
    let info = tsa.info_of(&tsa.reply(&Request::new(&hash(), nonce()).to_der()));
    let unnamed = Token::from_der(tsa.sign(&info, &[])).unwrap();
    assert_eq!(verify(&unnamed, &tsa), Err(TimestampError::Attribute("signing-certificate")));
    let bare = Token::from_der(tsa.sign(&info, &["-noattr"]));
    assert!(bare.is_err(), "without signed attributes nothing says that it is a time stamp");
}

#[test]
fn a_token_without_certificates_needs_them_passed() {
    let tsa = Tsa::new(Key::P256);
    let info = tsa.info_of(&tsa.reply(&Request::new(&hash(), nonce()).to_der()));
    let token = Token::from_der(tsa.sign(&info, &["-cades", "-nocerts"])).unwrap();
    // OpenSSL leaves out the signer's certificate only.
    assert_eq!(verify(&token, &tsa), Err(TimestampError::SignerUnknown));
    let (hash, anchors) = (hash(), anchors(&tsa));
    let expected = Expectation::of(&hash).trusting(&anchors);
    let chain = ["tsa.pem", "ca.pem"].map(|name| certificate(&tsa, name));
    assert!(token.verify(&expected.with_certificates(&chain)).is_ok());
}

#[test]
fn nothing_in_a_token_can_be_changed() {
    let tsa = Tsa::new(Key::P256);
    let token = stamped(&tsa);
    let intact = verify(&token, &tsa).unwrap();
    let mut refused = 0;
    for at in 0..token.der().len() {
        let mut der = token.der().to_vec();
        der[at] ^= 0x04;
        match Token::from_der(der).and_then(|token| verify(&token, &tsa)) {
            Ok(stamp) => assert_eq!(stamp, intact, "byte {at} changes what is believed"),
            Err(_) => refused += 1,
        }
    }
    // What is not signed and not looked at: versions, and the list of digests.
    assert!(refused > token.der().len() - 64, "{refused} of {}", token.der().len());
}

#[test]
fn a_refusal_is_told_as_openssl_tells_it() {
    let tsa = Tsa::new(Key::P256);
    let reply = tsa.reply(&tsa.query(&hex::encode(hash()), &["-tspolicy", "1.9.9.9"]));
    let refused = Token::from_response(&reply).unwrap_err();
    assert!(
        matches!(&refused, TimestampError::Refused(why) if why.contains("unacceptedPolicy")),
        "{refused}"
    );
}
