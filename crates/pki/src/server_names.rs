//! The names that the TLS server answers to.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use rustls_pki_types::DnsName;

use crate::Certificate;

/// One name of the server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerName {
    /// A DNS name in lower case, possibly with `*` for its first label.
    Host(String),
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
}

impl ServerName {
    fn parse(text: &str) -> Result<Self, ServerNamesError> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Self::Address(address));
        }
        match DnsName::try_from(text.strip_prefix("*.").unwrap_or(text)) {
            Ok(_) => Ok(Self::Host(text.to_ascii_lowercase())),
            Err(_) => Err(ServerNamesError::NotAName(text.to_owned())),
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => f.write_str(host),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// Why settings do not name a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerNamesError {
    /// Nothing at all.
    #[error("no server name: set MCP_PROXY_NGINX_SAN or MCP_PROXY_PROXY_PUBLIC_URL")]
    Empty,
    /// One that is neither a DNS name nor an address.
    #[error("not a DNS name or IP address for the server certificate: {0:?}")]
    NotAName(String),
}

/// The names of the server, at least one, in order, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNames(Vec<ServerName>);

impl ServerNames {
    /// From `MCP_PROXY_NGINX_SAN` (comma-separated) and the host of the public URL: blanks and empty parts are
    /// dropped, the host is appended if it is not there yet (contract `operations.md` §3). IPv6 may be in brackets.
    ///
    /// # Errors
    /// [`ServerNamesError`].
    pub fn from_settings(csv: &str, public_url_host: Option<&str>) -> Result<Self, ServerNamesError> {
        let mut names = Vec::new();
        let texts = csv.split(',').chain(public_url_host).map(str::trim).filter(|text| !text.is_empty());
        for text in texts {
            let name = ServerName::parse(text)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.is_empty() { Err(ServerNamesError::Empty) } else { Ok(Self(names)) }
    }

    /// The names, in order.
    pub fn iter(&self) -> impl Iterator<Item = &ServerName> {
        self.0.iter()
    }

    /// The first name: the common name of the certificate.
    #[must_use]
    pub fn first(&self) -> &ServerName {
        &self.0[0]
    }

    /// Whether the certificate carries these names and no others, by type and whatever the order.
    #[must_use]
    pub fn match_certificate(&self, certificate: &Certificate) -> bool {
        let hosts = certificate.dns_sans().iter().map(|host| ServerName::Host(host.to_ascii_lowercase()));
        let addresses = certificate.ip_sans().iter().copied().map(ServerName::Address);
        let theirs = hosts.chain(addresses).collect::<BTreeSet<_>>();
        theirs == self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(csv: &str, host: Option<&str>) -> Vec<String> {
        ServerNames::from_settings(csv, host).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_contract_vector() {
        assert_eq!(names("mastio.local, a.b ,", Some("192.168.1.5")), ["mastio.local", "a.b", "192.168.1.5"]);
    }

    #[test]
    fn names_appear_once_and_addresses_are_addresses() {
        assert_eq!(names("Mastio.local,mastio.local", Some("mastio.local")), ["mastio.local"]);
        assert_eq!(names("::1", Some("[::1]")), ["::1"]);
        assert_eq!(names("*.mastio.local", None), ["*.mastio.local"]);
        let six = ServerNames::from_settings("", Some("[2001:db8::1]")).unwrap();
        assert_eq!(six.first(), &ServerName::Address("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        assert_eq!(ServerNames::from_settings(" , ", None), Err(ServerNamesError::Empty));
        for bad in ["a b", "https://mastio.local", "mastio.local:9443", "*.*.local", "-", "é.local"] {
            let refused = ServerNames::from_settings(bad, None);
            assert_eq!(refused, Err(ServerNamesError::NotAName(bad.to_owned())));
        }
    }
}
