//! The session cookie on the wire. Its value is a quoted string in the spelling of Python's `http.cookies`, which is
//! how scripts have read it until now (contract `auth.md` §10).

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, header::COOKIE};
use mastio_authority::dashboard::SESSION_LIFETIME;

const NAME: &str = "mcp_proxy_session";

/// Sets the cookie to `value` for as long as a session lasts.
pub(super) fn set(value: &str, secure: bool) -> Option<HeaderValue> {
    attributes(&quote(value), SESSION_LIFETIME.as_secs(), secure)
}

/// Takes the cookie away.
pub(super) fn clear(secure: bool) -> Option<HeaderValue> {
    attributes("\"\"", 0, secure)
}

fn attributes(quoted: &str, max_age: u64, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{NAME}={quoted}; HttpOnly; Max-Age={max_age}; Path=/; SameSite=Strict{secure}");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Every value that the request has under our name: a browser may send one for each path it was set for.
pub(crate) fn find(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let pairs =
        headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    pairs.filter_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('=')).map(unquote)
}

/// Quotation marks and backslashes get a backslash; what may not stand in a cookie becomes three octal digits.
fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 32);
    quoted.push('"');
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => {
                quoted.push('\\');
                quoted.push(byte.into());
            }
            b',' | b';' | 0..0x20 | 0x7f.. => {
                // Writing into a text cannot fail.
                let _ = write!(quoted, "\\{byte:03o}");
            }
            _ => quoted.push(byte.into()),
        }
    }
    quoted.push('"');
    quoted
}

/// Undoes [`quote`]; a value without quotation marks stands for itself.
fn unquote(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return text.to_owned();
    };
    let mut plain = Vec::with_capacity(inner.len());
    let mut rest = inner.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            (b'\\', [escaped, after @ ..]) => (*escaped, after),
            (byte, after) => (byte, after),
        };
        plain.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // `auth-vectors.json`, `dashboard_cookie`
    const VALUE: &str = "{\"role\": \"admin\", \"roles\": [\"admin\"], \"exp\": 1767254400}.bafa";
    const WIRE: &str = "\"{\\\"role\\\": \\\"admin\\\"\\054 \\\"roles\\\": [\\\"admin\\\"]\\054 \\\"exp\\\": 1767254400}.bafa\"";

    #[test]
    fn the_spelling_is_that_of_the_existing_system() {
        assert_eq!(quote(VALUE), WIRE);
        assert_eq!(unquote(WIRE), VALUE);
        assert_eq!(unquote(VALUE), VALUE);
    }

    #[test]
    fn it_is_found_among_others() {
        let mut headers = HeaderMap::new();
        let line = format!("theme=dark; {NAME}={WIRE}; x{NAME}=no");
        headers.append(COOKIE, line.parse().unwrap());
        headers.append(COOKIE, HeaderValue::from_static("mcp_proxy_session=second"));
        assert_eq!(find(&headers).collect::<Vec<_>>(), [VALUE, "second"]);
    }

    #[test]
    fn it_is_kept_from_scripts_and_other_sites() {
        let text = |value: Option<HeaderValue>| value.unwrap().to_str().unwrap().to_owned();
        let plain = text(set("v", false));
        assert_eq!(plain, "mcp_proxy_session=\"v\"; HttpOnly; Max-Age=28800; Path=/; SameSite=Strict");
        assert!(text(set("v", true)).ends_with("; Secure"));
        assert!(text(clear(true)).contains("Max-Age=0"));
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in "\\PC*") {
            let quoted = quote(&value);
            prop_assert!(quoted.is_ascii() && !quoted.contains([';', ',']));
            prop_assert_eq!(unquote(&quoted), value);
        }

        #[test]
        fn anything_can_be_read(text in ".*") {
            unquote(&text);
        }
    }
}
