//! The profiles, in the eyes of OpenSSL and Python.

use std::{fs, path::PathBuf, process::Command};

use mastio_core::{AgentName, SeededRng, SystemRng};
use secrecy::ExposeSecret;

use super::*;
use crate::{
    Anchors, KeyPair, crl, issued_chain, pem,
    testing::{Pki, domain, now, openssl, openssl_with, org},
};

/// PEM files for one `openssl verify`.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// `openssl verify -x509_strict` at `now`: its complaints, or nothing.
fn strict(purpose: &str, root: &str, untrusted: &str, leaf: &str, more: &[&str]) -> Result<(), String> {
    let files = Files::new();
    let at = now().unix().to_string();
    let (root, untrusted) = (files.write("root.pem", root), files.write("untrusted.pem", untrusted));
    let leaf = files.write("leaf.pem", leaf);
    let fixed = ["verify", "-x509_strict", "-check_ss_sig", "-attime", &at, "-purpose", purpose];
    let output = Command::new("openssl")
        .args(fixed)
        .args(["-CAfile", &root, "-untrusted", &untrusted])
        .args(more)
        .arg(&leaf)
        .output()
        .unwrap();
    let complaints = String::from_utf8(output.stderr).unwrap();
    if output.status.success() { Ok(()) } else { Err(complaints) }
}

fn key() -> KeyPair {
    KeyPair::generate_p256().unwrap()
}

fn server_names() -> ServerNames {
    ServerNames::from_settings("mastio.local,::1", Some("192.168.1.5")).unwrap()
}

fn user_id() -> SpiffeId {
    SpiffeId::parse("spiffe://cullis.local/acme/user/mario").unwrap()
}

#[test]
fn every_profile_is_clean_under_strict_rules() {
    let pki = Pki::new();
    let issuer = &pki.intermediate;
    let (root, intermediate) = (pki.root.certificate().pem(), issuer.certificate().pem());
    let mastio = mastio_leaf(issuer, &domain(), &org(), key().spki_der(), now(), &SystemRng).unwrap();
    let server = server(issuer, &server_names(), &org(), key().spki_der(), now(), &SystemRng).unwrap();
    let user = user(issuer, &user_id(), key().spki_der(), USER_LIFETIME, now(), &SystemRng).unwrap();
    let agent = pki.agent("alice");
    let check = |purpose, leaf: &Certificate| strict(purpose, &root, &intermediate, &leaf.pem(), &[]);
    for (purpose, leaf) in [
        ("sslclient", &agent),
        ("sslclient", &user),
        ("sslclient", &mastio),
        ("sslserver", &mastio),
        ("sslserver", &server),
    ] {
        assert_eq!(check(purpose, leaf), Ok(()), "{purpose} {leaf:?}");
    }
    assert!(check("sslserver", &agent).unwrap_err().contains("certificate purpose"));
    assert!(check("sslclient", &server).unwrap_err().contains("certificate purpose"));
    assert_eq!(strict("any", &root, &root, &root, &[]), Ok(()));
}

#[test]
fn what_openssl_prints_is_what_the_contract_asks_for() {
    let pki = Pki::new();
    let text = |certificate: &Certificate| openssl("x509 -noout -text", &certificate.pem());
    let contains = |text: &str, wanted: &[&str]| {
        let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for fragment in wanted {
            assert!(squeezed.contains(fragment), "{fragment} not in {text}");
        }
    };
    let ids = [
        "X509v3 Subject Key Identifier:",
        "X509v3 Authority Key Identifier:",
        "Signature Algorithm: ecdsa-with-SHA256",
    ];
    let ca = "X509v3 Key Usage: critical Certificate Sign, CRL Sign";
    let root = text(pki.root.certificate());
    contains(&root, &ids);
    contains(&root, &["Subject: CN = Cullis Org CA, O = acme", "critical CA:TRUE, pathlen:1", ca]);
    let key_id = hex::encode(&pki.intermediate.certificate().key_id().unwrap()[..4]);
    let intermediate = text(pki.intermediate.certificate());
    contains(&intermediate, &ids);
    let named = format!("Subject: CN = acme Mastio CA {key_id}, O = acme");
    contains(&intermediate, &[&named, "critical CA:TRUE, pathlen:0", ca]);
    let agent = text(&pki.agent("alice"));
    contains(&agent, &ids);
    contains(
        &agent,
        &[
            "Subject: CN = acme::alice, O = acme",
            "X509v3 Basic Constraints: critical CA:FALSE",
            "X509v3 Key Usage: critical Digital Signature",
            "X509v3 Extended Key Usage: TLS Web Client Authentication X509v3",
            "X509v3 Subject Alternative Name: URI:spiffe://cullis.local/acme/alice",
        ],
    );
    let user =
        user(&pki.intermediate, &user_id(), key().spki_der(), USER_LIFETIME, now(), &SystemRng).unwrap();
    contains(
        &text(&user),
        &["Subject: Subject Public", "Alternative Name: critical URI:spiffe://cullis.local/acme/user/mario"],
    );
    let server =
        server(&pki.intermediate, &server_names(), &org(), key().spki_der(), now(), &SystemRng).unwrap();
    contains(
        &text(&server),
        &[
            "Subject: CN = mastio.local, O = acme",
            "Extended Key Usage: TLS Web Server Authentication X509v3",
            "DNS:mastio.local, IP Address:0:0:0:0:0:0:0:1, IP Address:192.168.1.5",
        ],
    );
    assert!(server_names().match_certificate(&server));
    assert!(!ServerNames::from_settings("mastio.local", None).unwrap().match_certificate(&server));
}

#[test]
fn dates_begin_five_minutes_ago_and_end_with_the_issuer() {
    let pki = Pki::new();
    let root = pki.root.certificate();
    assert_eq!(root.not_before(), now().minus(Duration::from_secs(300)));
    assert_eq!(root.not_after(), now().plus(DAY * 365 * 15));
    assert_eq!(pki.intermediate.certificate().not_after(), now().plus(DAY * 365 * 5));
    assert_eq!(pki.agent("alice").not_after(), now().plus(DAY * 365));

    let late = root.not_after().minus(DAY);
    let spki = key().spki_der().to_vec();
    let intermediate_then = |at| intermediate(&pki.root, &org(), &spki, at, &SystemRng);
    assert_eq!(intermediate_then(late).unwrap().not_after(), root.not_after());
    assert_eq!(intermediate_then(root.not_after()), Err(IssueError::IssuerExpired(root.not_after())));
}

#[test]
fn serial_numbers_are_128_bits_of_the_generator_without_the_top_one() {
    let signer = key();
    let minted = |seed| root(&org(), &signer, now(), &SeededRng::new(seed)).unwrap();
    for seed in 0..20 {
        let mut octets = [0; 16];
        SeededRng::new(seed).fill(&mut octets);
        octets[0] &= 0x7f;
        assert_eq!(minted(seed).serial(), octets);
    }
    assert_ne!(minted(1).serial(), minted(2).serial());
}

#[test]
fn names_longer_than_rfc_5280_allows_stand_in_the_san_only() {
    let pki = Pki::new();
    let name = AgentName::parse(&"n".repeat(60)).unwrap();
    let (id, spiffe) = (AgentId::new(&org(), &name), SpiffeId::of_agent(&domain(), &org(), &name));
    let leaf = agent(&pki.intermediate, &id, &spiffe, key().spki_der(), DAY, now(), &SystemRng).unwrap();
    assert_eq!((leaf.subject(), leaf.common_name()), ("O=acme", None));
    assert_eq!(leaf.principal().unwrap().agent_id(), Some(id));
}

#[test]
fn agents_may_bring_any_accepted_key_and_no_other() {
    let pki = Pki::new();
    let (id, spiffe) = (AgentId::parse("acme::alice").unwrap(), user_id());
    let issue = |spki: &[u8]| agent(&pki.intermediate, &id, &spiffe, spki, DAY, now(), &SystemRng);
    for arguments in ["EC -pkeyopt ec_paramgen_curve:P-384", "EC -pkeyopt ec_paramgen_curve:P-521", "RSA"] {
        let pem = openssl(&format!("genpkey -algorithm {arguments}"), "");
        let public = openssl("pkey -pubout", &pem);
        let leaf = issue(&pem::public_key(&public).unwrap()).unwrap();
        assert_eq!(leaf.spki_pem(), public);
    }
    let ed25519 = openssl("pkey -pubout", &openssl("genpkey -algorithm ED25519", ""));
    assert!(matches!(issue(&pem::public_key(&ed25519).unwrap()), Err(IssueError::Key(_))));
}

#[test]
fn roots_of_every_accepted_kind_sign() {
    for arguments in [
        "EC -pkeyopt ec_paramgen_curve:P-384",
        "EC -pkeyopt ec_paramgen_curve:P-521",
        "RSA -pkeyopt rsa_keygen_bits:2048",
    ] {
        let signer = KeyPair::from_pem(&openssl(&format!("genpkey -algorithm {arguments}"), "")).unwrap();
        let minted = root(&org(), &signer, now(), &SystemRng).unwrap();
        let issuer = Issuer::new(minted, signer).unwrap();
        let below = Pki::intermediate_of(&issuer);
        assert!(below.certificate().is_signed_by(issuer.certificate()), "{arguments}");
        let root = issuer.certificate().pem();
        assert_eq!(strict("any", &root, &root, &below.certificate().pem(), &[]), Ok(()), "{arguments}");
    }
}

#[test]
fn a_link_makes_the_new_root_believable_to_holders_of_the_old_one() {
    let pki = Pki::new();
    let old = pki.root.certificate();
    let new_key = key();
    let renewed = successor(old, &new_key, now().plus(ROOT_LIFETIME), now(), &SystemRng).unwrap();
    let link = link(&pki.root, &renewed, now(), &SystemRng).unwrap();
    assert_eq!((renewed.subject(), link.is_self_issued()), (old.subject(), true));

    let new_root = Issuer::new(renewed, new_key).unwrap();
    let below = Pki::intermediate_of(&new_root);
    let leaf = pki.agent_of("alice", &below);
    let sent = issued_chain(below.certificate(), &[link]);
    for trusted in [old, new_root.certificate()] {
        assert_eq!(strict("sslclient", &trusted.pem(), &sent, &leaf.pem(), &[]), Ok(()));
    }
}

#[test]
fn a_link_needs_room_below_the_old_root() {
    let pki = Pki::new();
    let signer = key();
    let other = root(&OrgId::parse("other").unwrap(), &signer, now(), &SystemRng).unwrap();
    assert_eq!(link(&pki.root, &other, now(), &SystemRng), Err(IssueError::PathLength));
    let same_name =
        successor(pki.intermediate.certificate(), &signer, now().plus(DAY), now(), &SystemRng).unwrap();
    assert_eq!(link(&pki.intermediate, &same_name, now(), &SystemRng), Err(IssueError::PathLength));
}

#[test]
fn a_foreign_ca_vouches_for_clients_and_for_no_server() {
    let (pki, signer) = (Pki::new(), key());
    let name = Pki::intermediate_of(&pki.root).certificate().subject_raw().to_vec();
    let ca = foreign_ca(&pki.root, &name, signer.spki_der(), DAY, now(), &SystemRng).unwrap();
    let below = Issuer::new(ca.clone(), signer).unwrap();
    let client = pki.agent_of("alice", &below);
    let server = server(&below, &server_names(), &org(), key().spki_der(), now(), &SystemRng).unwrap();
    let root = pki.root.certificate();
    let check = |purpose, leaf: &Certificate| strict(purpose, &root.pem(), &ca.pem(), &leaf.pem(), &[]);
    assert_eq!(check("sslclient", &client), Ok(()));
    let complaint = check("sslserver", &server).unwrap_err();
    assert!(complaint.contains("unsuitable certificate purpose"), "{complaint}");

    let trusted = Anchors::builder().org([root.clone()]).build().unwrap();
    assert_eq!(trusted.validate(&client, std::slice::from_ref(&ca), now()).unwrap().issuer, ca);
}

#[test]
fn reissuing_a_root_with_its_own_key_keeps_every_chain() {
    let pki = Pki::new();
    let old = pki.root.certificate();
    let repaired = successor(old, pki.root.key(), old.not_after(), now(), &SystemRng).unwrap();
    assert_ne!(repaired.thumbprint(), old.thumbprint());
    let chain = (repaired.pem(), pki.intermediate.certificate().pem(), pki.agent("alice").pem());
    assert_eq!(strict("sslclient", &chain.0, &chain.1, &chain.2, &[]), Ok(()));
}

#[test]
fn revocation_lists_are_believed_by_openssl() {
    let pki = Pki::new();
    let (good, bad) = (pki.agent("alice"), pki.agent("mallory"));
    let revoked =
        crl::Revoked { serial: bad.serial().to_vec(), at: now(), reason: crl::Reason::KeyCompromise };
    let list = crl::sign(&pki.intermediate, 7, &[revoked], now()).unwrap();
    let printed = openssl("crl -noout -text", &list);
    for wanted in ["X509v3 CRL Number: \n                7", "Key Compromise", "CN = acme Mastio CA"] {
        assert!(printed.contains(wanted), "{wanted} not in {printed}");
    }
    let files = Files::new();
    let file = files.write("crl.pem", &list);
    let (root, intermediate) = (pki.root.certificate().pem(), pki.intermediate.certificate().pem());
    let check = |leaf: &Certificate| {
        strict("sslclient", &root, &intermediate, &leaf.pem(), &["-crl_check", "-CRLfile", &file])
    };
    assert_eq!(check(&good), Ok(()));
    assert!(check(&bad).unwrap_err().contains("certificate revoked"));
    assert!(crl::sign(&pki.intermediate, 8, &[], now()).is_ok());
}

#[test]
fn an_issuer_needs_a_ca_certificate_and_its_key() {
    let pki = Pki::new();
    use crate::IssuerError;
    let name = pki.agent("alice").subject().to_owned();
    assert_eq!(Issuer::new(pki.agent("alice"), key()).unwrap_err(), IssuerError::NotCa(name));
    let root = pki.root.certificate().clone();
    let mismatch = IssuerError::KeyMismatch(root.subject().to_owned());
    assert_eq!(Issuer::new(root, key()).unwrap_err(), mismatch);
}

#[test]
fn names_that_cannot_be_repeated_are_refused_before_anything_is_signed() {
    let signer = key();
    let pem = signer.to_pkcs8_pem();
    let made = |subject: &str, more: &[&str]| {
        let fixed = ["req", "-x509", "-new", "-key", "/dev/stdin", "-days", "3650", "-subj", subject];
        let text = openssl_with(&[&fixed[..], more].concat(), pem.expose_secret());
        Certificate::from_pem(&text).unwrap()
    };
    let plain = made("/C=IT/ST=Lazio/O=Acme/OU=Security/CN=Acme Root", &[]);
    Pki::intermediate_of(&Issuer::new(plain, KeyPair::from_pem(pem.expose_secret()).unwrap()).unwrap());
    for (subject, more) in
        [("/DC=com/DC=acme/CN=Root", &[][..]), ("/O=Acme+OU=Two/CN=Root", &["-multivalue-rdn"])]
    {
        let root = made(subject, more);
        let refused = Issuer::new(root, KeyPair::from_pem(pem.expose_secret()).unwrap()).unwrap_err();
        assert!(matches!(refused, crate::IssuerError::Name(_)), "{subject}: {refused}");
    }
}

/// A TLS handshake in Python with the flags that 3.13 made the default, both sides verifying the other.
#[test]
fn python_with_strict_flags_shakes_hands() {
    let pki = Pki::new();
    let (server_key, agent_key) = (key(), key());
    let server =
        server(&pki.intermediate, &server_names(), &org(), server_key.spki_der(), now(), &SystemRng).unwrap();
    let agent = {
        let (id, name) = (AgentId::parse("acme::alice").unwrap(), AgentName::parse("alice").unwrap());
        let spiffe = SpiffeId::of_agent(&domain(), &org(), &name);
        agent(&pki.intermediate, &id, &spiffe, agent_key.spki_der(), DAY, now(), &SystemRng).unwrap()
    };
    let files = Files::new();
    let above = std::slice::from_ref(pki.intermediate.certificate());
    let pair = |name: &str, leaf: &Certificate, key: &KeyPair| {
        files.write(name, &format!("{}{}", issued_chain(leaf, above), key.to_pkcs8_pem().expose_secret()))
    };
    let arguments = [
        files.write("root.pem", &pki.root.certificate().pem()),
        pair("server.pem", &server, &server_key),
        pair("agent.pem", &agent, &agent_key),
    ];
    let output = Command::new("python3").args(["-c", HANDSHAKE]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The flags are those of Python 3.13, and one more that leaves dates out: Python knows no time but the machine's.
const HANDSHAKE: &str = r"
import ssl, sys
root, server, agent = sys.argv[1:]
NO_CHECK_TIME = 0x200000
def context(protocol, pair):
    made = ssl.SSLContext(protocol)
    made.load_verify_locations(root)
    made.load_cert_chain(pair)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT | 0x80000 | NO_CHECK_TIME
    return made
a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
client = context(ssl.PROTOCOL_TLS_CLIENT, agent).wrap_bio(a, b, server_hostname='mastio.local')
peer = context(ssl.PROTOCOL_TLS_SERVER, server).wrap_bio(b, a, server_side=True)
def step(side):
    try:
        side.do_handshake()
        return True
    except ssl.SSLWantReadError:
        return False
for _ in range(10):
    if step(client) & step(peer):
        break
else:
    sys.exit('no handshake')
subject = dict(pair[0] for pair in peer.getpeercert()['subject'])
assert subject['commonName'] == 'acme::alice', subject
";
