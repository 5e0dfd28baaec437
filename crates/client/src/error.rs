//! Why a call brought no answer, or not the one that was asked for.

use std::io;

use http::StatusCode;
use mastio_jose::SigningError;

use crate::{IdentityError, MessageError};

/// Why a call failed. Requests are named by method and path; tokens, proofs and secrets never appear.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL is none.
    #[error("not a base URL of a Mastio: use https://host[:port] without a path, got '{0}'")]
    BaseUrl(String),
    /// The trust file or the client certificate cannot be used for TLS.
    #[error("TLS cannot be set up: {0}")]
    TlsSetup(#[from] rustls::Error),
    /// The trust file holds no certificates.
    #[error("the CA file cannot be used: {0}")]
    CaFile(#[from] mastio_pki::PemError),
    /// An `https` URL without a CA file: the system's roots are not asked.
    #[error("no CA to trust: give the client the Mastio's CA file")]
    NoCa,
    /// Nobody listens there.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The server is another one than the CA file vouches for, or does not take part in the handshake.
    #[error("TLS handshake with {address} failed, check the CA file: {source}")]
    Handshake {
        /// Host and port.
        address: String,
        /// What rustls says.
        source: io::Error,
    },
    /// The connection broke while a request was on it. Whether the server acted on it is unknown.
    #[error("the connection broke, check whether the request was carried out: {0}")]
    Transport(#[from] hyper::Error),
    /// No answer in time. Whether the server acted on the request is unknown.
    #[error("no answer to {0} in time, check whether it was carried out")]
    Timeout(String),
    /// The answer is more than this client reads. Whether the server acted on the request is unknown.
    #[error("the answer to {request} is larger than {limit} bytes, more than is read of one")]
    TooLarge {
        /// Method and path.
        request: String,
        /// How large its body may be, in bytes.
        limit: usize,
    },
    /// The path or a header of the request has characters that HTTP forbids.
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
    /// An answer with another status than success.
    #[error("{request} was refused with {status}: {detail}")]
    Refused {
        /// Method and path.
        request: String,
        /// The status of the answer.
        status: StatusCode,
        /// Its `detail`, see [`crate::Answer::detail`].
        detail: String,
    },
    /// A success whose body is not what the contract says.
    #[error("the answer to {request} is malformed: {source}")]
    Malformed {
        /// Method and path.
        request: String,
        /// What the reader missed.
        source: serde_json::Error,
    },
    /// A call with a token, before there is one.
    #[error("no access token yet: log in first")]
    NotLoggedIn,
    /// A certificate or key that the server sent, or that lies on disk.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A message that cannot be signed, or must not be believed.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A proof or assertion could not be signed.
    #[error(transparent)]
    Signing(#[from] SigningError),
}
