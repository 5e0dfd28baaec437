//! The value of the session cookie: `<json>.<hex HMAC-SHA256(key, json)>` (contract `auth.md` §10).

use std::time::Duration;

use aws_lc_rs::hmac;
use mastio_core::{Rng, Stamp};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// How long a session lasts.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(8 * 3600);

/// What the cookie says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Claims {
    pub(crate) csrf_token: String,
    /// When it runs out, in seconds since 1970.
    pub(crate) exp: i64,
    /// The secret of the session's row.
    pub(crate) sid: String,
}

impl Claims {
    pub(crate) fn fresh(now: Stamp, rng: &dyn Rng) -> Self {
        let (mut csrf_token, mut sid) = ([0; 16], [0; 32]);
        rng.fill(&mut csrf_token);
        rng.fill(&mut sid);
        Self {
            csrf_token: hex::encode(csrf_token),
            exp: now.plus(SESSION_LIFETIME).unix(),
            sid: hex::encode(sid),
        }
    }

    /// The members of the existing system first, in its order and spacing.
    fn to_json(&self) -> String {
        let Self { csrf_token, exp, sid } = self;
        format!(
            r#"{{"role": "admin", "roles": ["admin"], "csrf_token": "{csrf_token}", "exp": {exp}, "sid": "{sid}"}}"#
        )
    }
}

/// Signs cookies. Its bytes are the UTF-8 of the text that the operator set; hex is not decoded.
pub(crate) struct CookieKey(hmac::Key);

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieKey(..)")
    }
}

impl CookieKey {
    pub(crate) fn new(text: &SecretString) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, text.expose_secret().as_bytes()))
    }

    /// Another key has another mark, by which a changed one is noticed. It may lie in the database: whoever finds the
    /// key by it still lacks the secret of a live session.
    pub(crate) fn mark(&self) -> String {
        hex::encode(&self.tag("mastio dashboard signing key").as_ref()[..16])
    }

    pub(crate) fn seal(&self, claims: &Claims) -> SecretString {
        let json = claims.to_json();
        let tag = hex::encode(self.tag(&json));
        format!("{json}.{tag}").into()
    }

    /// The claims of a cookie that this key signed and that has not run out.
    pub(crate) fn open(&self, cookie: &str, now: Stamp) -> Option<Claims> {
        let (json, tag) = cookie.rsplit_once('.')?;
        hmac::verify(&self.0, json.as_bytes(), &hex::decode(tag).ok()?).ok()?;
        let claims: Claims = serde_json::from_str(json).ok()?;
        (claims.exp > now.unix()).then_some(claims)
    }

    fn tag(&self, text: &str) -> hmac::Tag {
        hmac::sign(&self.0, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use mastio_core::SeededRng;

    use super::*;

    const NOW: Stamp = Stamp::from_unix(1_767_225_600);

    fn key(text: &str) -> CookieKey {
        CookieKey::new(&text.to_owned().into())
    }

    #[test]
    fn cookies_are_signed_as_the_existing_system_signs_them() {
        // `auth-vectors.json`, `dashboard_cookie`
        let payload = "{\"role\": \"admin\", \"roles\": [\"admin\"], \
            \"csrf_token\": \"00112233445566778899aabbccddeeff\", \"exp\": 1767254400}";
        let tag = key(&"0f".repeat(32)).tag(payload);
        assert_eq!(hex::encode(tag), "bafaf3ddfd20e2a049cf8bd4a4e1716be924150fea769da2d931a777ea74b976");
    }

    #[test]
    fn a_cookie_opens_with_its_key_alone_until_it_runs_out() {
        let (ours, other) = (key("a key of ours, long enough"), key("a key of others, long enough"));
        let claims = Claims::fresh(NOW, &SeededRng::new(1));
        let sealed = ours.seal(&claims);
        let cookie = sealed.expose_secret();
        assert!(cookie.starts_with(r#"{"role": "admin", "roles": ["admin"], "csrf_token": ""#), "{cookie}");
        assert_eq!(ours.open(cookie, NOW), Some(claims));
        assert_eq!(other.open(cookie, NOW), None);
        assert_ne!(ours.mark(), other.mark());
        assert_eq!(ours.open(cookie, NOW.plus(SESSION_LIFETIME)), None);
        assert_eq!(ours.open(&cookie.replace("admin", "owner"), NOW), None);
        for nothing in ["", ".", "{}", "{}.", "{}.zz", "null.00"] {
            assert_eq!(ours.open(nothing, NOW), None, "{nothing}");
        }
    }

    #[test]
    fn a_cookie_of_the_existing_system_opens_nothing() {
        let ours = key("a key of ours, long enough");
        let json = r#"{"role": "admin", "roles": ["admin"], "csrf_token": "00", "exp": 9999999999}"#;
        let cookie = format!("{json}.{}", hex::encode(ours.tag(json)));
        assert_eq!(ours.open(&cookie, NOW), None, "it has no session of ours behind it");
    }
}
