//! Listeners, who stands in front of them, and the names in the server certificate (design §6).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use url::Url;

use crate::{reader::Reader, variable::variable};

/// The addresses to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// TLS, for everybody.
    pub tls: SocketAddr,
    /// Plain HTTP, for a TLS sidecar, health and metrics; `None`: closed.
    pub plain: Option<SocketAddr>,
}

pub(super) fn listen(read: &mut Reader<'_>) -> Option<Listen> {
    let variable = variable!("MCP_PROXY_HTTP_LISTEN");
    let host: Option<IpAddr> = read.parse(variable!("MCP_PROXY_HOST"), |text| text.parse().ok());
    let port = read.integer(variable!("MCP_PROXY_PORT"));
    let plain = read.parse(variable, |text| match text {
        off if off.eq_ignore_ascii_case("off") => Some(None),
        address => address.parse::<SocketAddr>().ok().map(Some),
    });
    let listen = Listen { tls: SocketAddr::new(host?, port?), plain: plain? };
    if listen.collide() {
        let what = format!("is the TLS listener's port {} too", listen.tls.port());
        read.problem(variable, what, "choose another port here or in MCP_PROXY_PORT");
    }
    Some(listen)
}

impl Listen {
    fn collide(&self) -> bool {
        self.plain.is_some_and(|plain| {
            let one_host =
                plain.ip() == self.tls.ip() || plain.ip().is_unspecified() || self.tls.ip().is_unspecified();
            one_host && plain.port() == self.tls.port() && plain.port() != 0
        })
    }
}

pub(super) fn public_url(read: &mut Reader<'_>) -> Option<Url> {
    let variable = variable!("MCP_PROXY_PROXY_PUBLIC_URL");
    read.required_in_production(variable, "set it to the https address that agents use");
    let url = read.parse(variable, origin)?;
    if read.in_production() && url.scheme() != "https" {
        read.problem(variable, "is not https, and production needs it", "set it to the https address");
    }
    Some(url)
}

/// An address of nothing but scheme, host and port; slashes at its end are forgiven.
fn origin(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim_end_matches('/')).ok()?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && bare && anonymous).then_some(url)
}

pub(super) fn trusted_proxies(read: &mut Reader<'_>) -> Vec<IpNet> {
    let variable = variable!("MCP_PROXY_TRUSTED_PROXIES");
    let networks: Vec<IpNet> =
        read.parse(variable, |text| items(text).map(network).collect()).unwrap_or_default();
    if networks.iter().any(|network| network.prefix_len() == 0) {
        let what = "trusts every address, so anybody who reaches the listener can present any certificate";
        read.warn(variable, what, "name the proxy's own network");
    }
    networks
}

/// A network, or one address of it.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
    Some(network.trunc())
}

pub(super) fn allowed_origins(read: &mut Reader<'_>) -> Vec<String> {
    let variable = variable!("MCP_PROXY_ALLOWED_ORIGINS");
    let origins: Vec<String> =
        read.parse(variable, |text| items(text).map(allowed_origin).collect()).unwrap_or_default();
    if !origins.iter().any(|origin| origin == "*") {
        return origins;
    }
    if read.in_production() {
        read.problem(variable, "allows every origin, which production refuses", "name the origins");
    } else {
        read.warn(variable, "allows every origin", "name the origins before production");
    }
    vec!["*".to_owned()]
}

fn allowed_origin(text: &str) -> Option<String> {
    if text == "*" { Some("*".to_owned()) } else { Some(origin(text)?.origin().ascii_serialization()) }
}

pub(super) fn server_names(read: &mut Reader<'_>) -> Option<String> {
    read.parse(variable!("MCP_PROXY_NGINX_SAN"), |text| {
        let mut names = items(text).peekable();
        names.peek()?;
        names.all(is_server_name).then(|| text.to_owned())
    })
}

/// An IP address, or a host name whose first label may be `*`.
fn is_server_name(name: &str) -> bool {
    let label = |label: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && edge(bytes.first())
            && edge(bytes.last())
    };
    let host = name.strip_prefix("*.").unwrap_or(name);
    name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && host.split('.').all(label))
}

pub(super) fn renew_within(read: &mut Reader<'_>) -> Option<Duration> {
    read.duration(variable!("MCP_PROXY_NGINX_CERT_RENEW_WITHIN_DAYS"), 86_400)
}

pub(super) fn watch_every(read: &mut Reader<'_>) -> Option<Option<Duration>> {
    let enabled = read.boolean(variable!("MCP_PROXY_NGINX_CERT_WATCHER_ENABLED"));
    let interval = read.duration(variable!("MCP_PROXY_NGINX_CERT_WATCHER_INTERVAL_SECONDS"), 1);
    Some(enabled?.then_some(interval?))
}

/// The items of a list separated by commas; empty ones do not count.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_an_origin() {
        for (text, url) in [
            ("https://mastio.example.com:9443", Some("https://mastio.example.com:9443/")),
            ("https://mastio.example.com:443//", Some("https://mastio.example.com/")),
            ("http://[::1]:9100/", Some("http://[::1]:9100/")),
            ("https://mastio.example.com/base", None),
            ("https://mastio.example.com/?q", None),
            ("https://user:hunter2@mastio.example.com", None),
            ("ftp://mastio.example.com", None),
            ("mastio.example.com:9443", None),
            ("https://", None),
        ] {
            assert_eq!(origin(text).as_ref().map(Url::as_str), url, "{text}");
        }
    }

    #[test]
    fn listeners_collide_on_one_port_of_one_host() {
        for (tls, plain, collide) in [
            ("0.0.0.0:9443", "127.0.0.1:9443", true),
            ("10.0.0.1:9443", "10.0.0.1:9443", true),
            ("10.0.0.1:9443", "127.0.0.1:9443", false),
            ("0.0.0.0:9443", "127.0.0.1:9100", false),
            ("0.0.0.0:0", "127.0.0.1:0", false),
        ] {
            let listen = Listen { tls: tls.parse().unwrap(), plain: Some(plain.parse().unwrap()) };
            assert_eq!(listen.collide(), collide, "{tls} {plain}");
        }
    }

    #[test]
    fn server_names_are_hosts_and_addresses() {
        for good in ["mastio.local", "localhost", "a-b.c", "*.example.com", "192.168.1.5", "::1"] {
            assert!(is_server_name(good), "{good}");
        }
        for bad in ["https://x", "a b", "-a", "a..b", "a_b", "*", "a.*.b", "é"] {
            assert!(!is_server_name(bad), "{bad}");
        }
    }
}
