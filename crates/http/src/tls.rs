//! The TLS server: its certificate, which can be swapped while it runs, and what it asks of clients.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mastio_authority::peer::{ClientChain, PeerCertificate};
use mastio_pki::Certificate;
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::{
        ClientHello, ResolvesServerCert, ServerSessionMemoryCache,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsAcceptor;

/// The protocols that are offered, the preferred one first (RFC 7301).
pub(crate) const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How many sessions can be resumed; each holds its client's chain, some 2 KiB.
const SESSIONS: usize = 4096;

/// Why a certificate and its key cannot serve. The library's text names no secret.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain is empty or unreadable, the key is of an unknown kind, or the two do not belong together.
    #[error("the server certificate cannot be used: {0}; check that chain and key belong together")]
    Unusable(rustls::Error),
    /// The library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// The TLS server: versions 1.2 and 1.3, HTTP/2 and HTTP/1.1, and a client certificate asked for but not demanded.
///
/// The handshake proves only that the client holds its key: whom it is issued by is judged per request, so that a wrong
/// certificate is answered with its reason and not with an alert (design §6). Sessions are resumed from memory; a
/// resumed one carries the chain of the client's first handshake, which is judged again like any other.
#[derive(Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    certificate: Arc<Swappable>,
    provider: Arc<CryptoProvider>,
}

impl ServerTls {
    /// A server that shows `chain`, its own certificate first.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificate = Arc::new(Swappable(ArcSwap::from_pointee(usable(chain, key, &provider)?)));
        let clients = Arc::new(Possession(provider.signature_verification_algorithms));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::Setup)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(Self { config: Arc::new(config), certificate, provider })
    }

    /// Shows another chain from the next full handshake on. If it cannot be used, the present one stays.
    ///
    /// # Errors
    /// [`TlsError::Unusable`].
    pub fn swap(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        self.certificate.0.store(Arc::new(usable(chain, key, &self.provider)?));
        Ok(())
    }

    /// What accepts connections.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

fn usable(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Unusable)
}

/// Reads what a client presented in its handshake.
pub(crate) fn peer_certificate(presented: Option<&[CertificateDer<'_>]>) -> PeerCertificate {
    let chain = presented.unwrap_or_default().iter().map(|der| Certificate::from_der(der.to_vec()));
    match chain.collect::<Result<Vec<_>, _>>() {
        Ok(chain) => from_chain(chain),
        Err(_) => PeerCertificate::Malformed,
    }
}

/// The client's own certificate is the first.
pub(crate) fn from_chain(chain: Vec<Certificate>) -> PeerCertificate {
    let mut chain = chain.into_iter();
    match chain.next() {
        None => PeerCertificate::None,
        Some(leaf) => PeerCertificate::Chain(Arc::new(ClientChain { leaf, presented: chain.collect() })),
    }
}

/// The certificate that is shown now.
#[derive(Debug)]
struct Swappable(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Swappable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Asks for a client certificate and checks nothing but the signature that proves possession of its key.
#[derive(Debug)]
struct Possession(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: with hints, clients in Go and Java keep back a certificate of another issuer (SPIFFE, BYOCA).
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
