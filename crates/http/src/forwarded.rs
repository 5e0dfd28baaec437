//! What a reverse proxy says of its client, and whether it is believed.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use mastio_authority::peer::{Peer, PeerCertificate};
use mastio_core::sha256;
use mastio_pki::pem;
use moka::sync::Cache;
use percent_encoding::percent_decode;
use secrecy::{ExposeSecret, SecretString};

use crate::tls::from_chain;

const CLIENT_CERT: HeaderName = HeaderName::from_static("x-ssl-client-cert");
const CLIENT_VERIFY: HeaderName = HeaderName::from_static("x-ssl-client-verify");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const EDGE_SECRET: HeaderName = HeaderName::from_static("x-mastio-edge-secret");

/// Everything that a proxy may say, none of which reaches a handler: it is read into the [`Peer`] or not believed.
const FORWARDED: [HeaderName; 8] = [
    CLIENT_CERT,
    CLIENT_VERIFY,
    FORWARDED_FOR,
    REAL_IP,
    EDGE_SECRET,
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    http::header::FORWARDED,
];

/// How many forwarded certificates are kept parsed: a proxy repeats them with every request.
const CACHED: u64 = 1024;

/// Longest part of `X-SSL-Client-Verify` that is kept, in characters.
const MAX_VERIFY: usize = 200;

/// Whom the plain listener believes.
#[derive(Debug)]
pub struct Trust {
    proxies: Vec<IpNet>,
    edge_secret: Option<SecretString>,
    parsed: Cache<[u8; 32], PeerCertificate>,
}

impl Trust {
    /// Proxies in these networks, which must also send the secret in `X-Mastio-Edge-Secret` if there is one.
    /// No network is implied, not even the loopback (design §6).
    #[must_use]
    pub fn new(proxies: Vec<IpNet>, edge_secret: Option<SecretString>) -> Self {
        Self { proxies, edge_secret, parsed: Cache::new(CACHED) }
    }

    /// The other end of a request that came over a connection from `socket`.
    pub(crate) fn peer(&self, socket: IpAddr, headers: &HeaderMap) -> Peer {
        let socket = socket.to_canonical();
        if !self.believes(socket, headers) {
            return Peer { address: socket, certificate: PeerCertificate::None };
        }
        Peer { address: self.client(socket, headers), certificate: self.certificate(headers) }
    }

    fn believes(&self, socket: IpAddr, headers: &HeaderMap) -> bool {
        let Some(expected) = &self.edge_secret else { return self.is_proxy(socket) };
        let secret = single(headers, &EDGE_SECRET).map_or(&[][..], HeaderValue::as_bytes);
        self.is_proxy(socket) && verify_slices_are_equal(secret, expected.expose_secret().as_bytes()).is_ok()
    }

    pub(crate) fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// The right-most hop that is not one of our proxies: what stands left of it, anybody may have written. A hop that
    /// is no address ends the search at the last one that was believed.
    fn client(&self, socket: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut believed = socket;
        let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
        for hop in lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            let Some(address) = hop_address(hop) else { return believed };
            believed = address;
            if !self.is_proxy(address) {
                return believed;
            }
        }
        match single(headers, &REAL_IP) {
            Some(value) if lines.is_empty() => hop_address(value.as_bytes()).unwrap_or(socket),
            _ => believed,
        }
    }

    fn certificate(&self, headers: &HeaderMap) -> PeerCertificate {
        let verify = single(headers, &CLIENT_VERIFY).map_or(&[][..], HeaderValue::as_bytes);
        match (verify, single(headers, &CLIENT_CERT)) {
            (b"SUCCESS", Some(value)) => {
                self.parsed.get_with(sha256(value.as_bytes()), || read(value.as_bytes()))
            }
            (b"SUCCESS", None) if headers.contains_key(CLIENT_CERT) => PeerCertificate::Malformed,
            (b"SUCCESS", None) => PeerCertificate::HeaderMissing,
            (b"" | b"NONE", None) => PeerCertificate::None,
            (other, _) => PeerCertificate::NotVerified(
                String::from_utf8_lossy(other).chars().take(MAX_VERIFY).collect(),
            ),
        }
    }
}

/// Removes everything that a proxy may say.
pub(crate) fn strip(headers: &mut HeaderMap) {
    for name in FORWARDED {
        headers.remove(name);
    }
}

/// The value of a header that stands there once and is not blank. Proxies blank what they do not forward.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|value| !value.is_empty() && values.next().is_none())
}

/// An address of `X-Forwarded-For`, with or without a port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// Percent-encoded PEM (nginx `$ssl_client_escaped_cert`), the leaf first.
pub(crate) fn read(value: &[u8]) -> PeerCertificate {
    if value.len() > pem::MAX_TEXT {
        return PeerCertificate::Malformed;
    }
    let text = percent_decode(value).decode_utf8().ok();
    match text.map(|text| pem::certificates(&text)) {
        Some(Ok(chain)) => from_chain(chain),
        _ => PeerCertificate::Malformed,
    }
}

#[cfg(test)]
#[path = "forwarded/tests.rs"]
mod tests;
