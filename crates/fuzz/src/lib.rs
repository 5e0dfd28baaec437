//! The targets: plain functions that take any bytes and must return. The runner in `tests/corpus.rs` calls them on
//! stable Rust; libFuzzer can call the same functions.

/// A target by name. Its seeds lie in `corpus/<name>/`.
pub type Target = (&'static str, fn(&[u8]));

/// Everything that reads bytes before anybody is authenticated (design §8).
pub const TARGETS: &[Target] = &[
    ("add_checkpoint", mastio_audit::fuzz::add_checkpoint),
    ("dpop", mastio_jose::fuzz::dpop),
    ("jwt", mastio_jose::fuzz::jwt),
    ("jwk", mastio_jose::fuzz::jwk),
    ("pem", mastio_pki::fuzz::pem),
    ("x509", mastio_pki::fuzz::x509),
    ("spiffe", mastio_pki::fuzz::spiffe),
    ("path", mastio_pki::fuzz::path),
    ("timestamp", mastio_timestamp::fuzz::timestamp),
    ("forwarded_certificate", mastio_http::fuzz::forwarded_certificate),
    ("session_cookie", mastio_http::fuzz::session_cookie),
    ("login_form", mastio_http::fuzz::login_form),
];
