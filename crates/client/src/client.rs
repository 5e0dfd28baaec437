//! Where the Mastio is, whom to trust there, and which certificate to show.

use std::{fmt, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use mastio_pki::pem;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::{
    ClientError, Connection, Identity,
    connection::{Sender, handshake},
};

/// How long an answer may take, unless the builder is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How large an answer may be, unless the builder is told otherwise: many times what the Mastio answers about one thing.
const MAX_ANSWER: usize = 1 << 20;
/// The same of a list of all agents or messages.
const MAX_LIST: usize = 64 << 20;

/// Knows how to reach one Mastio. Cheap to clone; every [`Connection`] is one of its own.
#[derive(Clone)]
pub struct Client(Arc<Endpoint>);

struct Endpoint {
    /// Scheme and authority as the caller wrote them: what DPoP proofs are made for.
    origin: String,
    /// Host and port for the system.
    address: String,
    tls: Option<Tls>,
    limits: Limits,
}

/// What one request may take.
#[derive(Clone, Copy)]
struct Limits {
    timeout: Duration,
    /// Bytes of a body.
    max_answer: usize,
}

/// The server's name, whom to trust about it, and what to show it.
#[derive(Clone)]
struct Tls {
    name: ServerName<'static>,
    /// Whom the caller trusts. What is trusted now may be more: see [`Client::trusting`].
    given: Arc<RootCertStore>,
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

/// Gathers what a [`Client`] needs.
pub struct ClientBuilder<'a> {
    base_url: &'a str,
    ca_pem: Option<&'a str>,
    identity: Option<&'a Identity>,
    limits: Limits,
}

impl Client {
    /// A client of the Mastio at `https://host[:port]`; `http` is for its plain listener.
    #[must_use]
    pub fn builder(base_url: &str) -> ClientBuilder<'_> {
        let limits = Limits { timeout: TIMEOUT, max_answer: MAX_ANSWER };
        ClientBuilder { base_url, ca_pem: None, identity: None, limits }
    }

    /// The same Mastio, for connections that show the certificate of `identity`.
    ///
    /// # Errors
    /// [`ClientError::TlsSetup`].
    pub fn with_identity(&self, identity: &Identity) -> Result<Self, ClientError> {
        let Endpoint { origin, address, tls, limits } = &*self.0;
        let tls = tls.as_ref().map(|tls| tls.showing(identity)).transpose()?;
        let (origin, address) = (origin.clone(), address.clone());
        Ok(Self(Arc::new(Endpoint { origin, address, tls, limits: *limits })))
    }

    /// The same Mastio, shown the same certificate, where connections trust `bundle` (PEM) beside whom the caller trusts.
    /// A bundle that was trusted so before is not any more.
    ///
    /// # Errors
    /// [`ClientError::CaFile`] or [`ClientError::TlsSetup`].
    pub fn trusting(&self, bundle: &str) -> Result<Self, ClientError> {
        let Endpoint { origin, address, tls, limits } = &*self.0;
        let tls = tls.as_ref().map(|tls| tls.trusting(bundle)).transpose()?;
        let (origin, address) = (origin.clone(), address.clone());
        Ok(Self(Arc::new(Endpoint { origin, address, tls, limits: *limits })))
    }

    /// A connection, opened by its first request.
    #[must_use]
    pub fn connect(&self) -> Connection {
        Connection::new(self.clone())
    }

    /// Scheme and authority without a trailing slash, such as `https://localhost:9443`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        self.0.origin.split_once("://").map_or(&self.0.origin, |(_, authority)| authority)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.0.limits.timeout
    }

    /// How large the body of an answer may be, in bytes.
    pub(crate) fn max_answer(&self) -> usize {
        self.0.limits.max_answer
    }

    /// How large the body of an answer may be that grows with the organisation, in bytes.
    pub(crate) fn max_list(&self) -> usize {
        self.max_answer().max(MAX_LIST)
    }

    /// Connects, with TLS unless the URL is a plain one.
    pub(crate) async fn open(&self) -> Result<Sender, ClientError> {
        let Endpoint { address, tls, .. } = &*self.0;
        let connect_error = |source| ClientError::Connect { address: address.clone(), source };
        let stream = TcpStream::connect(address).await.map_err(connect_error)?;
        stream.set_nodelay(true).map_err(connect_error)?;
        match tls {
            None => handshake(TokioIo::new(stream)).await,
            Some(tls) => {
                let stream = TlsConnector::from(Arc::clone(&tls.config))
                    .connect(tls.name.clone(), stream)
                    .await
                    .map_err(|source| ClientError::Handshake { address: address.clone(), source })?;
                handshake(TokioIo::new(stream)).await
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.origin).finish()
    }
}

impl<'a> ClientBuilder<'a> {
    /// The certificates to trust, in PEM, and no others. Required for `https`.
    #[must_use]
    pub fn ca_pem(mut self, pem: &'a str) -> Self {
        self.ca_pem = Some(pem);
        self
    }

    /// The certificate to show to the server.
    #[must_use]
    pub fn identity(mut self, identity: &'a Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// How long one request may take, connecting included; 30 s by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = timeout;
        self
    }

    /// How large the body of an answer may be, in bytes; 1 MiB by default. Lists of all agents or messages may be 64 MiB
    /// in any case.
    #[must_use]
    pub fn max_answer(mut self, bytes: usize) -> Self {
        self.limits.max_answer = bytes;
        self
    }

    /// Checks everything; nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientError::BaseUrl`], [`ClientError::NoCa`], [`ClientError::CaFile`] or [`ClientError::TlsSetup`].
    pub fn build(self) -> Result<Client, ClientError> {
        let wrong = || ClientError::BaseUrl(self.base_url.to_owned());
        let url = Url::parse(self.base_url).map_err(|_| wrong())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let userless = url.username().is_empty() && url.password().is_none();
        let (Some(host), Some(port), true) = (url.host_str(), url.port_or_known_default(), bare && userless)
        else {
            return Err(wrong());
        };
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let name =
                    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| wrong())?;
                let mut roots = RootCertStore::empty();
                add(&mut roots, self.ca_pem.ok_or(ClientError::NoCa)?)?;
                Some(Tls::new(name, Arc::new(roots), self.identity)?)
            }
            _ => return Err(wrong()),
        };
        Ok(Client(Arc::new(Endpoint {
            origin: self.base_url.trim_end_matches('/').to_owned(),
            address: format!("{host}:{port}"),
            tls,
            limits: self.limits,
        })))
    }
}

fn add(roots: &mut RootCertStore, pem: &str) -> Result<(), ClientError> {
    for certificate in pem::certificates(pem)? {
        roots.add(CertificateDer::from(certificate.der()))?;
    }
    Ok(())
}

impl Tls {
    fn new(
        name: ServerName<'static>,
        roots: Arc<RootCertStore>,
        identity: Option<&Identity>,
    ) -> Result<Self, ClientError> {
        let trusting = Self::config(&roots)?;
        let config = match identity {
            None => trusting.with_no_client_auth(),
            Some(identity) => {
                let chain = identity.chain().iter();
                let chain =
                    chain.map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
                let key = PrivatePkcs8KeyDer::from(identity.key().to_pkcs8_der().to_vec());
                trusting.with_client_auth_cert(chain, key.into())?
            }
        };
        Ok(Self { name, given: Arc::clone(&roots), roots, config: one_protocol(config) })
    }

    fn config(
        roots: &Arc<RootCertStore>,
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, ClientError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(Arc::clone(roots)))
    }

    fn showing(&self, identity: &Identity) -> Result<Self, ClientError> {
        let shown = Self::new(self.name.clone(), Arc::clone(&self.roots), Some(identity))?;
        Ok(Self { given: Arc::clone(&self.given), ..shown })
    }

    fn trusting(&self, bundle: &str) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::clone(&self.given);
        add(&mut roots, bundle)?;
        let roots = Arc::new(roots);
        let shown = Arc::clone(&self.config.client_auth_cert_resolver);
        let config = Self::config(&roots)?.with_client_cert_resolver(shown);
        Ok(Self {
            name: self.name.clone(),
            given: Arc::clone(&self.given),
            roots,
            config: one_protocol(config),
        })
    }
}

fn one_protocol(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Pki;

    #[test]
    fn base_urls_are_origins() {
        let client = Client::builder("http://localhost:9100/").build().unwrap();
        assert_eq!((client.origin(), client.authority()), ("http://localhost:9100", "localhost:9100"));
        for bad in ["localhost:9443", "ftp://x", "http://x/v1", "http://x?q", "http://u:secret@x", "http://"]
        {
            assert!(matches!(Client::builder(bad).build(), Err(ClientError::BaseUrl(_))), "{bad}");
        }
    }

    #[test]
    fn https_needs_a_trust_file_and_takes_an_identity() {
        let url = "https://localhost:9443";
        assert!(matches!(Client::builder(url).build(), Err(ClientError::NoCa)));
        assert!(matches!(Client::builder(url).ca_pem("").build(), Err(ClientError::CaFile(_))));
        let pki = Pki::new();
        let (root, alice) = (pki.root_and_key().0.pem(), pki.identity("alice"));
        assert!(Client::builder(url).ca_pem(&root).identity(&alice).build().is_ok());
        assert!(Client::builder("https://[::1]:9443").ca_pem(&root).build().is_ok());
    }
}
