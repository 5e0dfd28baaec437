//! Rotations with overlap that are ended before their time: by a compromise, in one call, and on a Mastio that is stopped.

use http::Method;
use mastio_pki::KeyPair;
use rcgen::CertificateParams;
use serde_json::{Value, json};

use crate::harness::{Mastio, Place, both, run};

const OVERLAP: &str = "/pki/rotate-ca?mode=mint&transition=overlap";
const COMPROMISE: &str = "/pki/rotate-ca?mode=mint&reason=compromise";

async fn asked(server: &Mastio, method: Method, path: &str) -> (u16, Value) {
    let answer = server.operator(method, path, &json!({})).await;
    (answer.status.as_u16(), answer.json().unwrap())
}

/// Begins one and takes it to `reissue`.
async fn begun(server: &Mastio) -> Value {
    let (status, begun) = asked(server, Method::POST, OVERLAP).await;
    assert_eq!(status, 200, "{begun}");
    let id = begun["rotation_id"].as_str().unwrap();
    let path = format!("/pki/rotations/{id}/advance?from=distribute&force=true");
    assert_eq!(asked(server, Method::POST, &path).await.0, 200);
    begun
}

/// What the command says of a CA of one's own.
fn sign_ca(place: &Place) -> String {
    let key = KeyPair::generate_p256().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    place.write("own-ca.csr", request);
    let [csr, out] = ["own-ca.csr", "own-ca.pem"].map(|name| place.path(name).to_str().unwrap().to_owned());
    run(&mut place.command(&["pki", "sign-csr", "--ca", "--csr", &csr, "--out", &out, "--days", "30"]))
}

fn active_root(place: &Place) -> String {
    place.sql("SELECT thumbprint FROM pki_cas WHERE kind = 'org_ca' AND state = 'active'").trim().to_owned()
}

/// The roots that are believed still, how they are called here.
fn believed(place: &Place) -> String {
    place.sql("SELECT count(*) FROM pki_cas WHERE state <> 'retired' AND cut = 0").trim().to_owned()
}

#[tokio::test]
async fn one_call_ends_an_overlap_for_a_compromise() {
    let place = Place::new();
    let server = place.serve().await;
    let begun = begun(&server).await;
    let (status, plan) = asked(&server, Method::POST, &format!("{COMPROMISE}&dry_run=true")).await;
    let told = plan["consequences"].to_string();
    assert!(status == 200 && told.contains(begun["rotation_id"].as_str().unwrap()), "{plan}");
    assert_eq!(asked(&server, Method::POST, "/pki/rotate-ca?mode=mint").await.0, 409, "a routine cut waits");

    let url = server.url();
    let command = ["pki", "rotate", "--url", &url, "--reason", "compromise"];
    let unasked = place.command(&command).output().unwrap();
    let (told, id) = (both(&unasked), begun["rotation_id"].as_str().unwrap());
    for part in ["a cut for a compromise", &format!("{id} is open, and ends"), "then say --yes"] {
        assert!(unasked.status.code() == Some(1) && told.contains(part), "{part}: {told}");
    }

    let (status, rotated) = asked(&server, Method::POST, COMPROMISE).await;
    assert_eq!((status, &rotated["ended_rotation_id"]), (200, &begun["rotation_id"]), "{rotated}");
    let roots = [&begun["fingerprint_sha256"], &begun["previous_fingerprint_sha256"]];
    let superseded = rotated["superseded"].as_array().unwrap();
    assert!(roots.iter().all(|root| superseded.contains(root)), "{rotated}");
    assert_eq!(
        (active_root(&place).as_str(), believed(&place).as_str()),
        (rotated["fingerprint_sha256"].as_str().unwrap(), "2")
    );
    let path = format!("/pki/rotations/{}", begun["rotation_id"].as_str().unwrap());
    let (_, ended) = asked(&server, Method::GET, &path).await;
    assert_eq!(ended["phase"], "aborted");
    assert!(ended["error"].as_str().unwrap().contains("compromise"), "{ended}");
    assert_eq!(server.stop().await, 0);
    place.verify_audit();
}

#[tokio::test]
async fn a_mastio_that_is_stopped_ends_its_overlap_too() {
    let place = Place::new();
    let server = place.serve().await;
    let first = begun(&server).await;
    let old = first["previous_fingerprint_sha256"].as_str().unwrap();
    let signed = sign_ca(&place);
    assert!(signed.contains("below the root CN=") && signed.contains(old), "{signed}");
    assert!(signed.contains("this root goes at the end of the rotation"), "{signed}");
    let running = place.command(&["pki", "abort", "--offline", "--yes"]).output().unwrap();
    assert_eq!(running.status.code(), Some(1), "{}", both(&running));
    assert_eq!(server.stop().await, 0);
    let unasked = place.command(&["pki", "abort", "--offline"]).output().unwrap();
    assert!(unasked.status.code() == Some(1) && both(&unasked).contains("--yes"), "{}", both(&unasked));
    let online = place.command(&["pki", "rotations"]).output().unwrap();
    assert!(both(&online).contains("--offline"), "{}", both(&online));
    let routine = place.command(&["rotate-org-ca", "--mint"]).output().unwrap();
    assert!(routine.status.code() == Some(1) && both(&routine).contains("--offline"), "{}", both(&routine));
    let said = run(&mut place.command(&["pki", "abort", "--offline", "--yes"]));
    assert!(said.contains("aborted") && said.contains(old), "{said}");
    assert_eq!(active_root(&place), old);
    let healthy = run(&mut place.command(&["pki", "doctor", "--json"]));
    assert!(!healthy.contains("rotation_failed"), "it was wanted: {healthy}");
    let nothing = place.command(&["pki", "abort", "--offline", "--yes"]).output().unwrap();
    assert!(both(&nothing).contains("no rotation is open"), "{}", both(&nothing));

    let server = place.serve().await;
    begun(&server).await;
    assert_eq!(server.stop().await, 0);
    let said = run(&mut place.command(&["rotate-org-ca", "--mint", "--reason", "compromise"]));
    for part in ["open, and ended with it", "clients do not believe this server before"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(active_root(&place) != old && believed(&place) == "2");
    // What is told of it holds together.
    run(&mut place.command(&["pki", "doctor"]));
    let line = run(&mut place.command(&["pki", "lineage", "--json"]));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        line["roots"].as_array().unwrap().last().unwrap()["thumbprint"],
        active_root(&place).as_str(),
        "{line}"
    );
    let server = place.serve().await;
    assert_eq!(asked(&server, Method::GET, "/pki/rotations").await.1[0]["phase"], "done");
    assert_eq!(server.stop().await, 0);
    place.verify_audit();
}
