//! The TLS listener, met by real clients.
#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

mod support;

use std::{sync::Arc, time::Duration};

use mastio_http::listen::Limits;
use rustls::{
    ClientConfig, HandshakeKind,
    pki_types::{CertificateDer, PrivateKeyDer},
    version::{TLS12, TLS13},
};
use support::{Door, Pki, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_client_certificate_reaches_the_handler() {
    let pki = Pki::new();
    let server = start(&pki, Door::Tls, Limits::default()).await;
    for version in [&TLS12, &TLS13] {
        for protocol in ["h2", "http/1.1"] {
            let agent = pki.client(Some(pki.agent("buyer")), protocol, &[version]);
            assert_eq!(server.get_tls(&agent, "/peer").await, (200, "127.0.0.1 acme::buyer".into()));
            let nobody = pki.client(None, protocol, &[version]);
            assert_eq!(server.get_tls(&nobody, "/peer").await, (200, "127.0.0.1 None".into()));
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_root_is_not_an_alert() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let server = start(&pki, Door::Tls, Limits::default()).await;
    let client = pki.client(Some(foreign.agent("stranger")), "h2", &[&TLS13]);
    assert_eq!(server.get_tls(&client, "/peer").await, (200, "127.0.0.1 acme::stranger".into()));
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let pki = Pki::new();
    let server = start(&pki, Door::Tls, Limits::default()).await;
    for version in [&TLS12, &TLS13] {
        let (chain, key) = pki.agent("victim");
        for (key, accepted) in [(key, true), (pki.agent("thief").1, false)] {
            let mut client = ClientConfig::clone(&pki.client(None, "http/1.1", &[version]));
            client.client_auth_cert_resolver = Arc::new(Offered(chain.clone(), key));
            let mut answer = Vec::new();
            // In TLS 1.3 the client learns of a refusal only when it reads.
            if let Ok(mut stream) = server.handshake(&client.into()).await {
                let request = b"GET /peer HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(request).await;
                let _ = stream.read_to_end(&mut answer).await;
            }
            assert_eq!(answer.starts_with(b"HTTP/1.1 200"), accepted, "{version:?}");
        }
    }
}

/// Offers a certificate and signs with a key that need not be its own.
#[derive(Debug)]
struct Offered(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl rustls::client::ResolvesClientCert for Offered {
    fn resolve(
        &self,
        hints: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        assert!(hints.is_empty(), "the server must not send hints");
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&self.1).unwrap();
        Some(Arc::new(rustls::sign::CertifiedKey::new(self.0.clone(), key)))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_resumed_session_keeps_the_client_certificate() {
    let pki = Pki::new();
    let server = start(&pki, Door::Tls, Limits::default()).await;
    for version in [&TLS12, &TLS13] {
        let client = pki.client(Some(pki.agent("buyer")), "http/1.1", &[version]);
        server.get_tls(&client, "/peer").await;
        let stream = server.handshake(&client).await.unwrap();
        let request =
            http::Request::get("/peer").header("host", "localhost").body(axum::body::Body::empty()).unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(support::send(stream, request).await, (200, "127.0.0.1 acme::buyer".into()));
    }
}

#[tokio::test]
async fn a_swapped_certificate_is_shown_to_the_next_handshake() {
    let pki = Pki::new();
    let server = start(&pki, Door::Tls, Limits::default()).await;
    let shown = async || {
        let stream = server.handshake(&pki.client(None, "h2", &[&TLS13])).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown().await;
    let (chain, key) = pki.server();
    server.tls.swap(chain.clone(), key).unwrap();
    assert_eq!(shown().await, chain[0].to_vec());
    assert_ne!(first, chain[0].to_vec());

    let (other, _) = pki.server();
    let (_, wrong_key) = pki.server();
    assert!(server.tls.swap(other, wrong_key).is_err());
    assert!(server.tls.swap(Vec::new(), pki.server().1).is_err());
    assert_eq!(shown().await, chain[0].to_vec(), "a refused swap changes nothing");
}

#[tokio::test]
async fn forwarded_headers_are_removed() {
    let pki = Pki::new();
    let server = start(&pki, Door::Tls, Limits::default()).await;
    let (status, names) = server.get_tls(&pki.client(None, "http/1.1", &[&TLS13]), "/headers").await;
    assert_eq!((status, names.as_str()), (200, "host"));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut() {
    let pki = Pki::new();
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let server = start(&pki, Door::Tls, limits).await;
    let mut silent = server.tcp().await;
    let read = tokio::time::timeout(support::PATIENCE, silent.read(&mut [0; 8])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
}

#[tokio::test]
async fn one_address_too_many_times_is_closed_before_the_handshake() {
    let pki = Pki::new();
    let server = start(&pki, Door::Tls, Limits { per_address: 1, ..Limits::default() }).await;
    let client = pki.client(None, "http/1.1", &[&TLS13]);
    let _first = server.handshake(&client).await.unwrap();
    server.handshake(&client).await.unwrap_err();
    assert_eq!(server.refused("address"), 1);
}
