//! A small app behind real listeners, and clients for it.
#![expect(dead_code, reason = "each test file uses another part of it")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, Router, body::Body, routing::get};
use http::{HeaderMap, HeaderName, Request};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mastio_authority::peer::{Peer, PeerCertificate};
use mastio_core::{AgentId, AgentName, Clock, OrgId, SpiffeId, SystemClock, SystemRng, TrustDomain};
use mastio_http::{
    Trust,
    listen::{self, Limits},
    metrics::{ConnectionMetrics, HttpMetrics},
    middleware::Middleware,
    tls::ServerTls,
};
use mastio_pki::{Certificate, Issuer, KeyPair, ServerNames, profile};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Longest wait of a test for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate and its key, as rustls takes them.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(crate) struct Pki {
    pub(crate) root: Issuer<KeyPair>,
}

fn org() -> OrgId {
    OrgId::parse("acme").unwrap()
}

impl Pki {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_p256().unwrap();
        let root = profile::root(&org(), &key, SystemClock::default().now(), &SystemRng).unwrap();
        Self { root: Issuer::new(root, key).unwrap() }
    }

    pub(crate) fn server(&self) -> Identity {
        let (key, names) =
            (KeyPair::generate_p256().unwrap(), ServerNames::from_settings("localhost", None).unwrap());
        let now = SystemClock::default().now();
        let leaf = profile::server(&self.root, &names, &org(), key.spki_der(), now, &SystemRng).unwrap();
        identity(&leaf, &key)
    }

    pub(crate) fn agent(&self, name: &str) -> Identity {
        let (key, name) = (KeyPair::generate_p256().unwrap(), AgentName::parse(name).unwrap());
        let domain = TrustDomain::parse("cullis.local").unwrap();
        let (id, spiffe) = (AgentId::new(&org(), &name), SpiffeId::of_agent(&domain, &org(), &name));
        let (now, lifetime) = (SystemClock::default().now(), profile::LEAF_LIFETIME);
        let leaf =
            profile::agent(&self.root, &id, &spiffe, key.spki_der(), lifetime, now, &SystemRng).unwrap();
        identity(&leaf, &key)
    }

    /// A client that trusts this root, speaks `protocol` and offers the identity, if any.
    pub(crate) fn client(
        &self,
        identity: Option<Identity>,
        protocol: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.certificate().der().to_vec().into()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Arc::new(config)
    }
}

fn identity(leaf: &Certificate, key: &KeyPair) -> Identity {
    let key = PrivatePkcs8KeyDer::from(key.to_pkcs8_der().to_vec());
    (vec![leaf.der().to_vec().into()], key.into())
}

/// A running listener.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ServerTls>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) served: JoinHandle<()>,
    /// A request to `/slow` has begun.
    pub(crate) begun: Arc<Notify>,
    /// Lets it end.
    pub(crate) release: Arc<Notify>,
    registry: prometheus::Registry,
}

pub(crate) enum Door {
    Tls,
    Plain(Trust),
}

pub(crate) async fn start(pki: &Pki, door: Door, limits: Limits) -> Server {
    let (begun, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = app(Arc::clone(&begun), Arc::clone(&release));
    let (chain, key) = pki.server();
    let tls = Arc::new(ServerTls::new(chain, key).unwrap());
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let registry = prometheus::Registry::new();
    let metrics = ConnectionMetrics::register(&registry).unwrap();
    let (stop, shutdown) = watch::channel(false);
    let served = match door {
        Door::Tls => {
            tokio::spawn(listen::serve_tls(listener, Arc::clone(&tls), router, limits, metrics, shutdown))
        }
        Door::Plain(trust) => {
            tokio::spawn(listen::serve_plain(listener, router, trust, limits, metrics, shutdown))
        }
    };
    Server { address, tls, stop, served, begun, release, registry }
}

fn app(begun: Arc<Notify>, release: Arc<Notify>) -> Router {
    let routes = Router::new()
        .route("/peer", get(async |Extension(peer): Extension<Arc<Peer>>| describe(&peer)))
        .route(
            "/headers",
            get(async |headers: HeaderMap| {
                headers.keys().map(HeaderName::as_str).collect::<Vec<_>>().join("\n")
            }),
        )
        .route("/echo", axum::routing::post(async |body: String| body))
        .route(
            "/slow",
            get(async move || {
                begun.notify_one();
                release.notified().await;
                "done"
            }),
        );
    let metrics = HttpMetrics::register(&prometheus::Registry::new()).unwrap();
    let clock = Arc::new(SystemClock::default());
    Middleware::new(clock, Arc::new(SystemRng), metrics, 1000, None).around(routes)
}

fn describe(peer: &Peer) -> String {
    let certificate = match &peer.certificate {
        PeerCertificate::Chain(chain) => chain.leaf.common_name().unwrap_or("unnamed").to_owned(),
        other => format!("{other:?}"),
    };
    format!("{} {certificate}", peer.address)
}

impl Server {
    /// How many connections were closed for the bound `reason`.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let name = format!("cullis_http_connections_refused_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn handshake(
        &self,
        client: &Arc<ClientConfig>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = "localhost".try_into().unwrap();
        TlsConnector::from(Arc::clone(client)).connect(name, self.tcp().await).await
    }

    /// `GET` over a connection of its own: status and body.
    pub(crate) async fn get_tls(&self, client: &Arc<ClientConfig>, path: &str) -> (u16, String) {
        let stream = self.handshake(client).await.unwrap();
        let request = Request::get(format!("https://localhost{path}")).header("host", "localhost");
        let request = request.header("x-ssl-client-verify", "SUCCESS").body(Body::empty()).unwrap();
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            send2(stream, request).await
        } else {
            send(stream, request).await
        }
    }
}

/// One request over HTTP/1.1.
pub(crate) async fn send<S>(stream: S, request: Request<Body>) -> (u16, String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    text(sender.send_request(request).await.unwrap()).await
}

async fn send2(stream: TlsStream<TcpStream>, request: Request<Body>) -> (u16, String) {
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    text(sender.send_request(request).await.unwrap()).await
}

async fn text(response: http::Response<hyper::body::Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(Body::new(response.into_body()), usize::MAX).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}
