//! Witnesses of audit logs (C2SP tlog-witness), and other places where checkpoints go.

use std::path::PathBuf;

use mastio_audit::note::{KeyKind, Name, NoteKey};
use url::Url;

use crate::{reader::Reader, variable::variable};

/// Whose checkpoints are cosigned, who cosigns ours, and where else they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessing {
    /// The logs that we are a witness of; a log may have several keys.
    pub logs: Vec<NoteKey>,
    /// Our name as a witness.
    pub name: Option<Name>,
    /// Who cosigns our checkpoints.
    pub witnesses: Vec<Witness>,
    /// A PEM file of certificates that are trusted for them beside those of the system.
    pub ca: Option<PathBuf>,
    /// The system log that is told of every checkpoint.
    pub syslog: Option<Syslog>,
}

/// A witness of our log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Where checkpoints go: `http` or `https`, ends with `/add-checkpoint`.
    pub url: Url,
    /// The key that cosigns.
    pub key: NoteKey,
}

/// Where a system log takes messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Syslog {
    /// Host and port, for datagrams.
    Udp(String, u16),
    /// A socket on this host, for datagrams.
    Unix(PathBuf),
}

pub(super) fn witnessing(read: &mut Reader<'_>) -> Witnessing {
    let logs = read.parse(variable!("MCP_PROXY_AUDIT_WITNESS_FOR"), logs);
    let name = read.parse(variable!("MCP_PROXY_AUDIT_WITNESS_NAME"), |text| Name::parse(text).ok());
    let witnesses = read.parse(variable!("MCP_PROXY_AUDIT_WITNESSES"), witnesses);
    let ca = read.path(variable!("MCP_PROXY_AUDIT_WITNESS_CA"));
    let syslog = read.parse(variable!("MCP_PROXY_AUDIT_SYSLOG"), syslog);
    Witnessing { logs: logs.unwrap_or_default(), name, witnesses: witnesses.unwrap_or_default(), ca, syslog }
}

fn key(text: &str, kind: KeyKind) -> Option<NoteKey> {
    text.parse().ok().filter(|key: &NoteKey| key.kind() == kind)
}

fn logs(text: &str) -> Option<Vec<NoteKey>> {
    let items = text.split(|unit: char| unit == ',' || unit.is_whitespace()).filter(|item| !item.is_empty());
    items.map(|item| key(item, KeyKind::Log)).collect()
}

fn witnesses(text: &str) -> Option<Vec<Witness>> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(witness).collect()
}

fn witness(text: &str) -> Option<Witness> {
    let (url, vkey) = text.split_once(char::is_whitespace)?;
    let url = Url::parse(&format!("{}/add-checkpoint", url.trim_end_matches('/'))).ok()?;
    let plain = url.username().is_empty() && url.password().is_none();
    let plain = plain && url.query().is_none() && url.fragment().is_none();
    let usable = matches!(url.scheme(), "http" | "https") && url.has_host() && plain;
    Some(Witness { url: usable.then_some(url)?, key: key(vkey.trim(), KeyKind::Witness)? })
}

fn syslog(text: &str) -> Option<Syslog> {
    if let Some(path) = text.strip_prefix("unix://") {
        return path.starts_with('/').then(|| Syslog::Unix(path.into()));
    }
    let (host, port) = text.strip_prefix("udp://")?.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    (!host.is_empty()).then(|| Syslog::Udp(host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of C2SP tlog-cosignature's form, made once.
    fn vkey(kind: KeyKind) -> String {
        let name = Name::parse("acme.example/audit").unwrap();
        mastio_audit::note::NoteSigner::generate(kind, name, &mastio_core::SystemRng)
            .unwrap()
            .key()
            .to_string()
    }

    #[test]
    fn logs_are_log_keys_between_commas_or_spaces() {
        let (a, b) = (vkey(KeyKind::Log), vkey(KeyKind::Log));
        assert_eq!(logs(&format!("{a}, {b}\n")).unwrap().len(), 2);
        assert_eq!(logs(&vkey(KeyKind::Witness)), None, "a witness's key signs no checkpoints");
        assert_eq!(logs("acme.example/audit"), None);
    }

    #[test]
    fn witnesses_have_an_address_and_a_key() {
        let key = vkey(KeyKind::Witness);
        let read = witnesses(&format!("https://b.example:9443/audit/witness/ {key} ,")).unwrap();
        assert_eq!(read[0].url.as_str(), "https://b.example:9443/audit/witness/add-checkpoint");
        for bad in ["https://b.example", "ftp://b.example KEY", "https://u:p@b.example KEY", "b.example KEY"]
        {
            assert_eq!(witnesses(&bad.replace("KEY", &key)), None, "{bad}");
        }
        assert_eq!(witnesses(&format!("https://b.example {}", vkey(KeyKind::Log))), None);
    }

    #[test]
    fn syslogs_take_datagrams() {
        assert_eq!(syslog("udp://loghost:514"), Some(Syslog::Udp("loghost".into(), 514)));
        assert_eq!(syslog("udp://[::1]:514"), Some(Syslog::Udp("::1".into(), 514)));
        assert_eq!(syslog("unix:///dev/log"), Some(Syslog::Unix("/dev/log".into())));
        for bad in ["udp://loghost", "udp://:514", "tcp://loghost:514", "unix://dev/log", "loghost:514"] {
            assert_eq!(syslog(bad), None, "{bad}");
        }
    }
}
