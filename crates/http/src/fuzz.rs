//! The parsers here that see bytes before authentication, as plain functions that take any bytes and must return.

/// The value of `X-SSL-Client-Cert`.
pub fn forwarded_certificate(data: &[u8]) {
    let _ = crate::forwarded::read(data);
}

/// The `Cookie` header with a session of the dashboard.
pub fn session_cookie(data: &[u8]) {
    let Ok(value) = http::HeaderValue::from_bytes(data) else { return };
    let headers = http::HeaderMap::from_iter([(http::header::COOKIE, value)]);
    crate::dashboard::cookies(&headers).for_each(drop);
}

/// The form of a login.
pub fn login_form(data: &[u8]) {
    drop(crate::dashboard::login_form(data));
}
