//! The parser here that sees bytes before authentication, as a plain function that takes any bytes and must return.

/// The value of `X-SSL-Client-Cert`.
pub fn forwarded_certificate(data: &[u8]) {
    let _ = crate::forwarded::read(data);
}
