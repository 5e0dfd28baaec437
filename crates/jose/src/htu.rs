//! The URLs under which clients may reach us, to compare `htu` claims with (RFC 9449 §4.3).
//!
//! Clients sign the URL that *they* used: an alias, a container name, the public name behind a proxy. What is
//! accepted is configured, never derived from the `Host` header (contract `auth.md` §17-2, §18-3).

use percent_encoding::percent_decode_str;

/// Why a text is not a base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HtuError {
    /// This one is not.
    #[error("'{0}' is not a base URL: expected https://host[:port], without query, fragment or user")]
    NotBase(String),
    /// There is none at all.
    #[error("no base URL: set the public URL")]
    Empty,
}

/// Our own base URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HtuSet {
    public: String,
    bases: Vec<Base>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    tls: bool,
    authority: String,
    /// Empty, or the path below which a proxy shows us, without trailing slash.
    prefix: String,
}

/// An absolute URL, cut into what is compared. Query and fragment are gone.
struct Parts<'a> {
    tls: bool,
    /// With user and port as written, but without the scheme's default port.
    authority: &'a str,
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is = |names: [&str; 2]| names.into_iter().any(|name| scheme.eq_ignore_ascii_case(name));
        let (tls, default_port) = match scheme {
            _ if is(["https", "wss"]) => (true, ":443"),
            _ if is(["http", "ws"]) => (false, ":80"),
            _ => return None,
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Some(Self { tls, authority: authority.strip_suffix(default_port).unwrap_or(authority), path })
    }
}

impl HtuSet {
    /// The set of `bases`; the first one is the public URL, which error messages name.
    ///
    /// # Errors
    /// When there is none, or one is not `http(s)://authority[/prefix]`.
    pub fn new<T: AsRef<str>>(bases: impl IntoIterator<Item = T>) -> Result<Self, HtuError> {
        let mut set = Self { public: String::new(), bases: Vec::new() };
        for text in bases {
            let url = text.as_ref().trim_end_matches('/');
            let parts = Parts::of(url).filter(|parts| {
                !parts.authority.is_empty()
                    && !url.contains(['@', '?', '#'])
                    && !url.contains(char::is_whitespace)
            });
            let parts = parts.ok_or_else(|| HtuError::NotBase(text.as_ref().to_owned()))?;
            let base = Base {
                tls: parts.tls,
                authority: parts.authority.to_ascii_lowercase(),
                prefix: parts.path.to_owned(),
            };
            if set.bases.is_empty() {
                url.clone_into(&mut set.public);
            }
            if !set.bases.contains(&base) {
                set.bases.push(base);
            }
        }
        if set.bases.is_empty() { Err(HtuError::Empty) } else { Ok(set) }
    }

    /// The public URL, without trailing slash.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.public
    }

    /// Whether `htu` names the resource at `path` (the request's path as received, without query) below one of the
    /// bases. Paths are equal as written or when both are percent-decoded: some clients sign `::` where others sign
    /// `%3A%3A`.
    #[must_use]
    pub fn matches(&self, htu: &str, path: &str) -> bool {
        let Some(got) = Parts::of(htu) else { return false };
        self.bases.iter().any(|base| {
            base.tls == got.tls
                && base.authority.eq_ignore_ascii_case(got.authority)
                && got.path.strip_prefix(&*base.prefix).is_some_and(|got| same_path(got, path))
        })
    }
}

fn same_path(got: &str, path: &str) -> bool {
    let got = if got.is_empty() { "/" } else { got };
    got == path || percent_decode_str(got).eq(percent_decode_str(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/v1/auth/token";

    fn set() -> HtuSet {
        HtuSet::new(["https://mastio.example.com:9443/", "https://localhost:443", "http://[::1]:80"]).unwrap()
    }

    #[test]
    fn aliases_schemes_case_and_default_ports_are_folded() {
        for htu in [
            "https://mastio.example.com:9443/v1/auth/token",
            "HTTPS://MASTIO.example.COM:9443/v1/auth/token",
            "wss://mastio.example.com:9443/v1/auth/token",
            "https://mastio.example.com:9443/v1/auth/token?limit=1#x",
            "https://localhost/v1/auth/token",
            "https://localhost:443/v1/auth/token",
            "ws://[::1]/v1/auth/token",
        ] {
            assert!(set().matches(htu, PATH), "{htu}");
        }
    }

    #[test]
    fn everything_else_is_somewhere_else() {
        for htu in [
            "",
            "/v1/auth/token",
            "https://mastio.example.com/v1/auth/token",
            "http://mastio.example.com:9443/v1/auth/token",
            "https://mastio.example.com:94430/v1/auth/token",
            "https://mastio.example.com:9443.evil.org/v1/auth/token",
            "https://user@mastio.example.com:9443/v1/auth/token",
            "https://mastio.example.com:9443@evil.org/v1/auth/token",
            "https://mastio.example.com:9443/v1/auth/token/",
            "https://mastio.example.com:9443//v1/auth/token",
            "https://mastio.example.com:9443/V1/auth/token",
            "https://mastio.example.com:9443?/v1/auth/token",
            "http://localhost:443/v1/auth/token",
            "ftp://localhost/v1/auth/token",
        ] {
            assert!(!set().matches(htu, PATH), "{htu}");
        }
    }

    #[test]
    fn paths_match_literally_and_decoded() {
        for (signed, received) in [
            ("/v1/agents/acme::alice", "/v1/agents/acme::alice"),
            ("/v1/agents/acme::alice", "/v1/agents/acme%3A%3Aalice"),
            ("/v1/agents/acme%3a%3aalice", "/v1/agents/acme::alice"),
            ("/v1/agents/acme%3a%3aalice", "/v1/agents/acme%3A%3Aalice"),
            ("", "/"),
        ] {
            assert!(set().matches(&format!("https://localhost{signed}"), received), "{signed} {received}");
        }
        assert!(!set().matches("https://localhost/v1/agents/acme%253A", "/v1/agents/acme:"));
    }

    #[test]
    fn a_proxy_may_show_us_below_a_path() {
        let set = HtuSet::new(["https://edge.example.com/mastio/"]).unwrap();
        assert_eq!(set.public_url(), "https://edge.example.com/mastio");
        assert!(set.matches("https://edge.example.com/mastio/v1/auth/token", PATH));
        assert!(!set.matches("https://edge.example.com/v1/auth/token", PATH));
        assert!(!set.matches("https://edge.example.com/mastiov1/auth/token", PATH));
    }

    #[test]
    fn bases_are_checked() {
        for bad in [
            "",
            "mastio:9443",
            "ftp://x",
            "https://",
            "https://a@b",
            "https://a?b",
            "https://a#b",
            "https://a b",
        ] {
            assert_eq!(HtuSet::new([bad]), Err(HtuError::NotBase(bad.into())), "{bad}");
        }
        assert_eq!(HtuSet::new::<&str>([]), Err(HtuError::Empty));
    }
}
