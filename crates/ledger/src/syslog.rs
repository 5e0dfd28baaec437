//! Checkpoints for a system log (RFC 5424): one more place that a restored database does not take back.
//!
//! Datagrams, so nobody is asked whether they arrived: it is a copy for whoever collects logs, not a proof by itself.
//! The line has all that the note has, so the note can be made of it again.

use std::{io, net::SocketAddr, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_config::Syslog;
use tokio::net::{UdpSocket, UnixDatagram, lookup_host};

use crate::{Ledger, checkpoints::Published};

/// Facility 10 (security and authorization), severity 5 (normal but significant).
const PRIORITY: u8 = 10 * 8 + 5;

/// What the system log was told.
#[derive(Debug, Default)]
pub struct Told {
    size: u64,
    /// Why it failed last, to say it once.
    trouble: Option<String>,
}

impl Ledger {
    /// Tells the system log of the newest checkpoint, if it was not told yet. Call it every second or so.
    pub async fn keep_syslog(&self, told: &mut Told) {
        let newest = self.authority.metrics.evidence.checkpoint_size.get().cast_unsigned();
        let Some(place) =
            self.authority.settings.audit.witnessing.syslog.as_ref().filter(|_| newest != told.size)
        else {
            return;
        };
        let Ok(Some(newest)) = self.newest_checkpoint().await else { return };
        match send(place, &message(&newest, &self.host())).await {
            Ok(()) => *told = Told { size: newest.head().size, trouble: None },
            Err(error) => {
                let text = error.to_string();
                if told.trouble.as_ref() != Some(&text) {
                    tracing::warn!(%error, "a checkpoint could not be sent to the system log; it is tried again");
                }
                told.trouble = Some(text);
            }
        }
    }

    fn host(&self) -> String {
        let url = self.authority.settings.public_url.as_ref();
        url.and_then(url::Url::host_str).unwrap_or("-").to_owned()
    }
}

/// The message: header, no structured data, and `name=value` pairs. The signature is that of the note's line: key id and
/// Ed25519 signature in base64.
fn message(published: &Published, host: &str) -> String {
    let checkpoint = published.note.unverified();
    let log = format!("— {} ", checkpoint.origin);
    let note = published.note.as_str();
    let signature = note.lines().find_map(|line| line.strip_prefix(&*log)).unwrap_or_default();
    format!(
        "<{PRIORITY}>1 {} {host} mastio {} audit-checkpoint - origin={} size={} root={} signature={signature}",
        published.signed_at,
        std::process::id(),
        checkpoint.origin,
        checkpoint.head.size,
        STANDARD.encode(checkpoint.head.root),
    )
}

async fn send(place: &Syslog, message: &str) -> io::Result<()> {
    match place {
        Syslog::Udp(host, port) => {
            let mut found = lookup_host((host.as_str(), *port)).await?;
            let to = found.next().ok_or_else(|| io::Error::other(format!("{host} has no address")))?;
            send_to(to, message).await
        }
        Syslog::Unix(path) => send_into(path, message).await,
    }
}

async fn send_to(to: SocketAddr, message: &str) -> io::Result<()> {
    let any: SocketAddr =
        if to.is_ipv4() { ([0; 4], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.send_to(message.as_bytes(), to).await.map(drop)
}

async fn send_into(path: &Path, message: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to(message.as_bytes(), path).await.map(drop)
}
