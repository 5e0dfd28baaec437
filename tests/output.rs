//! What commands say: to a reader that goes away, and of what others wrote.

use std::{
    io,
    process::{Command, Stdio},
};

use mastio_core::{Clock, SystemClock, is_deceptive};
use mastio_pki::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose};
use secrecy::ExposeSecret;

use crate::harness::{Place, both, run};

/// Runs `command` with a standard output that nobody reads; exit code and standard error.
fn unread(command: &mut Command) -> (Option<i32>, String) {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(Stdio::from(writer)).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_nothing_and_panics_nobody() {
    let place = Place::new();
    assert_eq!(place.serve().await.stop().await, 0);
    for command in [
        &["config", "show"][..],
        &["config", "check"],
        &["pki", "doctor"],
        &["pki", "lineage"],
        &["audit", "verify"],
        &["audit", "explain", "1"],
        &["rotate-org-ca", "--mint", "--dry-run"],
    ] {
        assert_eq!(unread(&mut place.command(command)), (Some(0), String::new()), "{command:?}");
    }
    // What it was asked to do is done.
    let before = place.sql("SELECT thumbprint FROM pki_cas WHERE state = 'active' ORDER BY kind");
    assert_eq!(unread(&mut place.command(&["rotate-org-ca", "--mint"])), (Some(0), String::new()));
    assert_ne!(place.sql("SELECT thumbprint FROM pki_cas WHERE state = 'active' ORDER BY kind"), before);
}

/// A root whose subject would clear the screen, and turn round what follows it.
fn hostile_root(place: &Place) {
    let (key, now) = (KeyPair::generate_p256().unwrap(), SystemClock::default().now());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "\u{1b}[2J\u{202e}AC tseb eht\u{9b}1m");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_after = now.plus(std::time::Duration::from_secs(86_400 * 365)).to_date_time();
    place.write("own.pem", params.self_signed(&key).unwrap().pem());
    place.write("own-key.pem", key.to_pkcs8_pem().expose_secret());
}

#[tokio::test]
async fn what_others_wrote_does_not_steer_a_terminal() {
    let place = Place::new();
    assert_eq!(place.serve().await.stop().await, 0);
    hostile_root(&place);
    let [cert, key] = ["own.pem", "own-key.pem"].map(|name| place.path(name).display().to_string());
    let brought = ["rotate-org-ca", "--cert", &cert, "--key", &key];
    let mut said = run(&mut place.command(&[&brought[..], &["--dry-run"]].concat()));
    said += &run(&mut place.command(&brought));
    said += &both(&place.command(&["pki", "doctor"]).output().unwrap());
    said += &both(&place.command(&["pki", "lineage"]).output().unwrap());
    let newest = place.sql("SELECT max(chain_seq) FROM local_audit WHERE event_type = 'org_ca.rotated'");
    said += &run(&mut place.command(&["audit", "explain", newest.trim()]));
    assert!(said.contains("tseb"), "{said}");
    let raw: Vec<_> = said.chars().filter(|unit| is_deceptive(*unit) && !"\n\t".contains(*unit)).collect();
    assert!(raw.is_empty(), "{raw:?} in {said}");
}
