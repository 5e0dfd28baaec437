//! A TLS server that answers by script, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use mastio_jose::{DpopError, Expectation, HtuSet, NonceCheck, Proof, VerifiedProof, Window};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{NOW, Pki};

/// A request, as the server got it.
#[derive(Clone)]
pub(crate) struct Seen {
    /// Counts connections from 1.
    pub(crate) connection: usize,
    /// The leaf that the client showed, in DER.
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Verifies the proof at [`NOW`], with a nonce if one is wanted.
    pub(crate) fn proof(
        &self,
        origin: &str,
        token: Option<&str>,
        nonce: Option<&str>,
    ) -> Result<VerifiedProof, DpopError> {
        let accepts = |shown: &str| nonce == Some(shown);
        let nonce = if nonce.is_some() { NonceCheck::Required(&accepts) } else { NonceCheck::NotRequired };
        Proof::parse(self.header("dpop").unwrap())?.verify(&Expectation {
            method: self.method.as_str(),
            htu: &HtuSet::new([origin]).unwrap(),
            path: &self.path,
            access_token: token,
            nonce,
            now: NOW,
            window: Window::default(),
        })
    }
}

pub(crate) type Reply = Response<Full<Bytes>>;
type Script = dyn Fn(&str, &Seen) -> Reply + Send + Sync;

/// A reply with a status, headers and a JSON body.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &Value) -> Reply {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    reply.body(Full::new(body.to_string().into())).unwrap()
}

/// Runs as long as the test's runtime.
pub(crate) struct Server {
    pub(crate) origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Listens on a free port; the script gets the server's origin and each request.
    pub(crate) async fn start(
        pki: &Pki,
        script: impl Fn(&str, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let origin = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (acceptor, seen) = (acceptor(pki), Arc::<Mutex<Vec<Seen>>>::default());
        let shared: (Arc<str>, Arc<Script>) = (origin.as_str().into(), Arc::new(script));
        let remembered = seen.clone();
        tokio::spawn(async move {
            for connection in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, shared, seen) = (acceptor.clone(), shared.clone(), remembered.clone());
                tokio::spawn(serve(connection, stream, acceptor, shared, seen));
            }
        });
        Self { origin, seen }
    }

    /// Everything asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    connection: usize,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    (origin, script): (Arc<str>, Arc<Script>),
    remembered: Arc<Mutex<Vec<Seen>>>,
) {
    // A client that does not trust us leaves here.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let certificate = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
    let service = service_fn(|request: Request<Incoming>| {
        let (origin, script, seen) = (origin.clone(), script.clone(), remembered.clone());
        let certificate = certificate.clone();
        async move {
            let (head, body) = request.into_parts();
            let (method, path, headers) = (head.method, head.uri.path().to_owned(), head.headers);
            let body = body.collect().await?.to_bytes();
            let request = Seen { connection, certificate, method, path, headers, body };
            let reply = script(&origin, &request);
            seen.lock().unwrap().push(request);
            Ok::<_, hyper::Error>(reply)
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Asks for a client certificate, and believes those of `pki`.
fn acceptor(pki: &Pki) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(pki.root_and_key().0.der())).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let (chain, key) = pki.server();
    let chain = chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.to_pkcs8_der().to_vec()).into())
        .unwrap();
    Arc::new(config).into()
}
