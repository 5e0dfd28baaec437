//! The one way to services outside: a POST, its answer, and nothing kept open between two.

use std::{io, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    client::conn::http1,
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;
use url::Url;

const AGENT: &str = concat!("mastio/", env!("CARGO_PKG_VERSION"));

/// Why there is no answer. Addresses are [`shown`] without what may be secret in them.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// Neither http nor https, or without a host.
    #[error("{0} is not an http or https address")]
    Address(String),
    /// The certificates to trust.
    #[error("{0}: TLS cannot be set up: {1}")]
    Trust(String, String),
    /// No connection.
    #[error("{0} cannot be reached: {1}")]
    Connect(String, io::Error),
    /// No TLS: most often a certificate that is not trusted.
    #[error("{0}: TLS failed: {1}")]
    Handshake(String, io::Error),
    /// The conversation broke off.
    #[error("{0} gave no proper answer: {1}")]
    Http(String, String),
    /// It took too long.
    #[error("{0} did not answer within {1:?}")]
    Timeout(String, Duration),
    /// More than was asked for.
    #[error("{0} answered with more than {1} bytes")]
    TooLong(String, usize),
}

/// What is sent, and what it may cost.
#[derive(Debug, Clone)]
pub struct Post<'a> {
    /// `http` or `https`. A user and password in it are sent as Basic credentials.
    pub url: &'a Url,
    /// The media type of the body.
    pub content_type: &'static str,
    /// What is sent.
    pub body: Bytes,
    /// How long all of it may take, connecting included.
    pub timeout: Duration,
    /// Longest body of an answer, in bytes.
    pub max_answer: usize,
}

/// What came back, whatever its status. Redirects are not followed.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its media type, as written.
    pub content_type: Option<String>,
    /// Its body.
    pub body: Bytes,
}

/// Sends `post`. A server with TLS must lead to a root of this system, or to a certificate of `also_trusted` (PEM).
///
/// # Errors
/// When there is no whole answer.
pub async fn post(post: Post<'_>, also_trusted: Option<&str>) -> Result<Answer, OutboundError> {
    let (name, timeout) = (shown(post.url), post.timeout);
    let exchange = tokio::time::timeout(timeout, exchange(post, &name, also_trusted)).await;
    exchange.unwrap_or_else(|_| Err(OutboundError::Timeout(name, timeout)))
}

/// An address as it may be logged and kept: without user, password, query and fragment.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for addresses that have no host, and so no user.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

async fn exchange(post: Post<'_>, name: &str, also_trusted: Option<&str>) -> Result<Answer, OutboundError> {
    let wrong = || OutboundError::Address(name.to_owned());
    let over_tls = match post.url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(wrong()),
    };
    let (host, port) = (post.url.host_str().ok_or_else(wrong)?, post.url.port_or_known_default());
    let connect = |error| OutboundError::Connect(name.to_owned(), error);
    let stream = TcpStream::connect(format!("{host}:{}", port.ok_or_else(wrong)?)).await.map_err(connect)?;
    if !over_tls {
        return speak(TokioIo::new(stream), post, name).await;
    }
    let server = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| wrong())?;
    let trust = |problem| OutboundError::Trust(name.to_owned(), problem);
    let connector = connector(also_trusted).map_err(trust)?;
    let failed = |error| OutboundError::Handshake(name.to_owned(), error);
    speak(TokioIo::new(connector.connect(server, stream).await.map_err(failed)?), post, name).await
}

/// One request and its answer on a stream that is closed after it.
async fn speak<S>(stream: S, post: Post<'_>, name: &str) -> Result<Answer, OutboundError>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let broken = |error: &dyn std::fmt::Display| OutboundError::Http(name.to_owned(), error.to_string());
    let max_answer = post.max_answer;
    let request = compose(post).map_err(|error| broken(&error))?;
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| broken(&error))?;
    // Ends with this function, also when it is given up half way.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let (head, body) = sender.send_request(request).await.map_err(|error| broken(&error))?.into_parts();
    let body = Limited::new(body, max_answer).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            OutboundError::TooLong(name.to_owned(), max_answer)
        } else {
            broken(&error)
        }
    })?;
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    Ok(Answer { status: head.status, content_type: content_type.map(str::to_owned), body: body.to_bytes() })
}

fn compose(post: Post<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
    let url = post.url;
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let mut request = Request::post(format!("{}{query}", url.path()))
        .header(HOST, format!("{}{port}", url.host_str().unwrap_or_default()))
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, post.content_type);
    if !url.username().is_empty() {
        let decoded = |part| percent_decode_str(part).collect::<Vec<u8>>();
        let credentials = [&decoded(url.username())[..], &decoded(url.password().unwrap_or_default())];
        let mut basic = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials.join(&b':'))))?;
        basic.set_sensitive(true);
        request = request.header(AUTHORIZATION, basic);
    }
    request.body(Full::new(post.body))
}

fn connector(also_trusted: Option<&str>) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    // Roots that cannot be read are the system's business; without any, the handshake says what is missing.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in CertificateDer::pem_slice_iter(also_trusted.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
