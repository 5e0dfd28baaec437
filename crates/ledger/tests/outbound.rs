//! Services outside, as their callers meet them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use mastio_core::{Clock, OrgId, SystemClock, SystemRng};
use mastio_ledger::outbound::{Answer, OutboundError, Post, post, shown};
use mastio_pki::{Issuer, KeyPair, ServerNames, profile};
use mastio_testing::responder::{Reply, Responder};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use url::Url;

async fn send(url: &str, trusted: Option<&str>) -> Result<Answer, OutboundError> {
    let url = Url::parse(url).unwrap();
    let request = Post {
        url: &url,
        content_type: "application/x-test",
        body: "ping".into(),
        timeout: Duration::from_secs(10),
        max_answer: 16,
    };
    post(request, trusted).await
}

#[tokio::test]
async fn a_request_says_who_sends_what() {
    let responder = Responder::start(|seen| {
        let told =
            ["user-agent", "content-type", "authorization"].map(|name| seen.header(name).unwrap_or("-"));
        let whole = format!("{}|{}|{}", seen.head[0], told.join("|"), String::from_utf8_lossy(&seen.body));
        let fits = whole.ends_with("|application/x-test|Basic dTpwQHNz|ping")
            && whole.starts_with("POST /a/b?key=k HTTP/1.1|mastio/");
        Some(Reply::ok("text/plain", if fits { b"yes".to_vec() } else { b"no".to_vec() }))
    });
    let url = format!("{}/a/b?key=k", responder.url().replace("http://", "http://u:p%40ss@"));
    let answer = send(&url, None).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.content_type.as_deref()), (200, Some("text/plain")));
    assert_eq!(answer.body, "yes");
    assert_eq!(shown(&Url::parse(&url).unwrap()), format!("{}/a/b", responder.url()));
}

#[tokio::test]
async fn redirects_floods_and_silence_end_here() {
    let responder = Responder::start(|seen| match seen.head[0].split(' ').nth(1) {
        Some("/redirect") => Some(Reply { headers: vec!["location: /".into()], ..Reply::status(307) }),
        Some("/flood") => Some(Reply::ok("text/plain", vec![b'x'; 17])),
        _ => None,
    });
    assert_eq!(send(&format!("{}/redirect", responder.url()), None).await.unwrap().status, 307);
    let flood = send(&format!("{}/flood", responder.url()), None).await.unwrap_err();
    assert!(matches!(flood, OutboundError::TooLong(_, 16)), "{flood}");
    let url = Url::parse(&responder.url().replace("http://", "http://u:hunter2@")).unwrap();
    let impatient = Post {
        url: &url,
        content_type: "text/plain",
        body: "".into(),
        timeout: Duration::from_millis(50),
        max_answer: 16,
    };
    let silence = post(impatient, None).await.unwrap_err();
    assert!(matches!(silence, OutboundError::Timeout(..)), "{silence}");
    assert!(!silence.to_string().contains("hunter2"), "{silence}");
    drop(responder);
    let gone = send(url.as_str(), None).await.unwrap_err();
    assert!(matches!(&gone, OutboundError::Connect(..)) && !gone.to_string().contains("hunter2"), "{gone}");
    assert!(matches!(send("ftp://127.0.0.1/", None).await, Err(OutboundError::Address(_))));
}

#[tokio::test]
async fn tls_needs_a_root_that_is_trusted() {
    let (org, now) = (OrgId::parse("acme").unwrap(), SystemClock::default().now());
    let key = KeyPair::generate_p256().unwrap();
    let root = Issuer::new(profile::root(&org, &key, now, &SystemRng).unwrap(), key).unwrap();
    let key = KeyPair::generate_p256().unwrap();
    let names = ServerNames::from_settings("localhost", None).unwrap();
    let leaf = profile::server(&root, &names, &org, key.spki_der(), now, &SystemRng).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(leaf.der().to_vec())],
            PrivatePkcs8KeyDer::from(key.to_pkcs8_der().to_vec()).into(),
        )
        .unwrap();
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut seen = Vec::new();
            while !seen.ends_with(b"ping") {
                stream.read_buf(&mut seen).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    let stranger = send(&url, None).await.unwrap_err();
    assert!(matches!(stranger, OutboundError::Handshake(..)), "{stranger}");
    let answer = send(&url, Some(&root.certificate().pem())).await.unwrap();
    assert_eq!(answer.body, "pong");
}
