//! Time stamps of the log by an authority outside (RFC 3161; contract `audit-and-database.md` §1.9).
//!
//! Who can rewrite the database can rewrite the chain, but not what somebody else has stamped. The hash of an entry
//! covers all entries before it, so one stamp now and then is enough; an idle log needs none.

use std::{io, path::PathBuf, time::Duration};

use http::StatusCode;
use mastio_authority::{Outage, Refusal};
use mastio_config::Tsa;
use mastio_core::{Event, event::catalogue, hash_from_hex};
use mastio_pki::Certificate;
use mastio_store::{
    Unit, WriteError,
    audit::{
        Newest,
        anchors::{self, Anchor},
    },
};
use mastio_timestamp::{
    Anchors, AnchorsError, Expectation, MAX_LENGTH, Nonce, Request, TimeStamp, TimestampError, Token,
};
use tokio::sync::watch;

use crate::{
    Ledger,
    outbound::{self, OutboundError, Post, shown},
};

/// How long an authority may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause after a first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// Why there is no time stamp.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// No authority is set.
    #[error("time stamps are off: set MCP_PROXY_AUDIT_TSA_URL")]
    Off,
    /// The file of trusted roots cannot be read.
    #[error("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH: {} cannot be read: {source}", path.display())]
    TrustFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file of trusted roots holds something else.
    #[error("MCP_PROXY_AUDIT_TSA_TRUST_ANCHOR_PATH: {}: {source}", path.display())]
    TrustAnchors {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: AnchorsError,
    },
    /// The authority did not answer.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The authority answered something else than a time stamp.
    #[error("{url} answered with status {status}")]
    Status {
        /// Who.
        url: String,
        /// With what.
        status: StatusCode,
    },
    /// The answer is not believed.
    #[error("the answer of {url} is not believed: {source}")]
    Timestamp {
        /// Whose.
        url: String,
        /// Why.
        source: TimestampError,
    },
    /// No entry there to stamp.
    #[error("the log holds no entry {0}: it was archived, or is still to come")]
    NoEntry(i64),
    /// An entry is not what was stamped.
    #[error("entry {0} is not the one that was stamped: the log was changed; run `mastio audit verify`")]
    Changed(i64),
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for AnchorError {
    fn status(&self) -> u16 {
        match self {
            Self::Off | Self::Changed(_) => 409,
            Self::NoEntry(_) => 404,
            Self::TrustFile { .. } | Self::TrustAnchors { .. } => 503,
            Self::Outbound(_) | Self::Status { .. } | Self::Timestamp { .. } => 502,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Off => "time_stamps_off",
            Self::Changed(_) => "entry_changed",
            Self::NoEntry(_) => "no_such_entry",
            Self::TrustFile { .. } | Self::TrustAnchors { .. } => "tsa_trust_unreadable",
            Self::Outbound(_) | Self::Status { .. } => "tsa_unavailable",
            Self::Timestamp { .. } => "tsa_not_believed",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

/// The roots that the authority must lead to, and the text that they were read from.
struct Trusted {
    pem: String,
    anchors: Anchors,
}

impl Ledger {
    /// Whether the file of trusted roots is good, if one is set: to be known before there is anything to stamp.
    ///
    /// # Errors
    /// [`AnchorError::TrustFile`] or [`AnchorError::TrustAnchors`].
    pub async fn check_tsa_trust(&self) -> Result<(), AnchorError> {
        match &self.authority.settings.audit.tsa {
            Some(tsa) => trusted(tsa).await.map(drop),
            None => Ok(()),
        }
    }

    /// The time stamp over the entry at `seq`: the one that is kept, or a new one.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub async fn stamp(&self, seq: i64) -> Result<Anchor, AnchorError> {
        let (store, org) = (self.authority.store(), &self.authority.trust().org);
        let entry = anchors::entry_at(store, org, seq).await.map_err(Outage::from)?;
        let entry = entry.ok_or(AnchorError::NoEntry(seq))?;
        match self.kept(&entry).await? {
            Some(anchor) => Ok(anchor),
            None => self.stamp_entry(entry).await,
        }
    }

    /// Stamps the head of the log, if anything happened since the newest stamp.
    ///
    /// # Errors
    /// [`AnchorError`].
    pub async fn stamp_head(&self) -> Result<Option<Anchor>, AnchorError> {
        let (store, org) = (self.authority.store(), &self.authority.trust().org);
        match anchors::head_to_stamp(store, org).await.map_err(Outage::from)? {
            Some(head) => self.stamp_entry(head).await.map(Some),
            None => Ok(None),
        }
    }

    /// Stamps the log again and again until the server stops; does nothing when no authority is set. A failure is
    /// counted, told once, and tried again after a pause that doubles up to the interval. Nobody waits for it.
    pub async fn keep_anchors(self, mut stopping: watch::Receiver<bool>) {
        let Some(tsa) = self.authority.settings.audit.tsa.clone() else { return };
        let mut failed = 0_u32;
        loop {
            let stamped = tokio::select! {
                stamped = self.stamp_if_due(tsa.every) => stamped,
                _ = stopping.wait_for(|stop| *stop) => return,
            };
            let pause = match stamped {
                Ok(pause) => {
                    if failed > 0 {
                        tracing::info!("the audit log is stamped with the time again");
                    }
                    failed = 0;
                    pause
                }
                Err(error) => {
                    self.authority.metrics.anchors.failures.inc();
                    if failed == 0 {
                        tracing::warn!(%error, "the audit log could not be stamped with the time; trying on");
                    }
                    failed = failed.saturating_add(1);
                    retry_after(failed).min(tsa.every)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Stamps the head when the newest stamp is older than `every`; how long until it is due again.
    async fn stamp_if_due(&self, every: Duration) -> Result<Duration, AnchorError> {
        let (store, org) = (self.authority.store(), &self.authority.trust().org);
        let newest = anchors::newest(store, org).await.map_err(Outage::from)?;
        if let Some(newest) = newest {
            self.authority.metrics.anchors.last.set(newest.created_at.unix());
            let age = self.authority.clock().now().since(newest.created_at);
            if age < every {
                return Ok(every - age);
            }
        }
        self.stamp_head().await.map(|_| every)
    }

    /// The stamp that is kept over `entry`.
    async fn kept(&self, entry: &Newest) -> Result<Option<Anchor>, AnchorError> {
        let (store, org) = (self.authority.store(), &self.authority.trust().org);
        let kept = anchors::of(store, org, entry.chain_seq).await.map_err(Outage::from)?;
        match kept {
            Some(anchor) if anchor.row_hash != entry.entry_hash => Err(AnchorError::Changed(entry.chain_seq)),
            kept => Ok(kept),
        }
    }

    async fn stamp_entry(&self, entry: Newest) -> Result<Anchor, AnchorError> {
        let tsa = self.authority.settings.audit.tsa.as_ref().ok_or(AnchorError::Off)?;
        let trusted = trusted(tsa).await?;
        let (token, stamp) = self.ask(tsa, trusted.as_ref(), &entry.entry_hash).await?;
        let anchor = Anchor {
            chain_seq: entry.chain_seq,
            row_hash: entry.entry_hash.clone(),
            token: token.der().to_vec(),
            tsa_url: shown(&tsa.url),
            tsa_cert_chain: Some(stamp.chain.iter().map(Certificate::pem).collect()),
            created_at: self.authority.clock().now(),
        };
        let event = anchored(&anchor, stamp, trusted.is_some());
        let unit = Unit::of(event).write(anchors::keep(&self.authority.trust().org, &anchor));
        match self.authority.commit(unit).await {
            Ok(_) => {
                self.authority.metrics.anchors.last.set(anchor.created_at.unix());
                Ok(anchor)
            }
            // Somebody else stamped the same entry meanwhile, or it left for an archive.
            Err(WriteError::Rejected(_)) => {
                self.kept(&entry).await?.ok_or(AnchorError::NoEntry(entry.chain_seq))
            }
            Err(error) => Err(Outage::from(error).into()),
        }
    }

    /// Asks for a stamp over a hash in hex, and verifies it.
    async fn ask(
        &self,
        tsa: &Tsa,
        trusted: Option<&Trusted>,
        row_hash: &str,
    ) -> Result<(Token, TimeStamp), AnchorError> {
        let hash = hash_from_hex(row_hash).map_err(Outage::internal)?;
        let nonce = Nonce::random(self.authority.rng().as_ref());
        let request = Post {
            url: &tsa.url,
            content_type: "application/timestamp-query",
            body: Request::new(&hash, nonce).to_der().into(),
            timeout: PATIENCE,
            max_answer: MAX_LENGTH,
        };
        let answer = outbound::post(request, trusted.map(|trusted| trusted.pem.as_str())).await?;
        if answer.status != StatusCode::OK {
            return Err(AnchorError::Status { url: shown(&tsa.url), status: answer.status });
        }
        let mut expected =
            Expectation::of(&hash).answering(nonce).near(self.authority.clock().now(), tsa.max_skew);
        if let Some(trusted) = trusted {
            expected = expected.trusting(&trusted.anchors);
        }
        let verified = Token::from_response(&answer.body)
            .and_then(|token| token.verify(&expected).map(|stamp| (token, stamp)));
        verified.map_err(|source| AnchorError::Timestamp { url: shown(&tsa.url), source })
    }
}

/// Reads the file of trusted roots; it is read each time, so that it can be replaced while the server runs.
async fn trusted(tsa: &Tsa) -> Result<Option<Trusted>, AnchorError> {
    let Some(path) = &tsa.trust_anchors else { return Ok(None) };
    let read = tokio::fs::read_to_string(path).await;
    let pem = read.map_err(|source| AnchorError::TrustFile { path: path.clone(), source })?;
    let anchors =
        Anchors::from_pem(&pem).map_err(|source| AnchorError::TrustAnchors { path: path.clone(), source })?;
    Ok(Some(Trusted { pem, anchors }))
}

fn anchored(anchor: &Anchor, stamp: TimeStamp, trusted: bool) -> Event {
    let TimeStamp { gen_time, authority, serial, policy, .. } = stamp;
    Event::new(&catalogue::AuditAnchored {
        chain_seq: anchor.chain_seq,
        row_hash: anchor.row_hash.clone(),
        gen_time,
        authority,
        serial,
        policy,
        url: anchor.tsa_url.clone(),
        trusted,
    })
}

/// The pause after so many failures in a row.
fn retry_after(failed: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double() {
        let seconds = |failed| retry_after(failed).as_secs();
        assert_eq!([1, 2, 3, 4].map(seconds), [10, 20, 40, 80]);
        assert!(retry_after(u32::MAX) > Duration::from_secs(3600));
    }
}
