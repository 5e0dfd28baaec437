//! Who is at the other end, as far as the connection tells.

use std::{net::IpAddr, sync::Arc};

use mastio_pki::Certificate;

/// The certificates that a client presented: its own and those it sent along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientChain {
    /// Its own.
    pub leaf: Certificate,
    /// What it sent along, in its order.
    pub presented: Vec<Certificate>,
}

/// What is known of a client's certificate. Its path, pin and revocation are judged per request, by
/// [`authenticate`](crate::authenticate).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerCertificate {
    /// None was presented.
    None,
    /// The client proved that it holds the key of this chain's leaf.
    Chain(Arc<ClientChain>),
    /// The trusted proxy did not verify it: what its `X-SSL-Client-Verify` says.
    NotVerified(String),
    /// The trusted proxy says SUCCESS, but forwards no certificate.
    HeaderMissing,
    /// What was presented or forwarded is not a certificate.
    Malformed,
}

/// The other end of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The client's address: that of the socket, or the right-most untrusted hop behind a trusted proxy.
    pub address: IpAddr,
    /// Its certificate.
    pub certificate: PeerCertificate,
}
