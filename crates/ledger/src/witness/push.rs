//! Having our checkpoints cosigned: each witness is sent the newest one, with a proof from the one that it cosigned
//! last. Nothing waits for it.
//!
//! A witness is also where a rewind shows when the database and the file beside it were both put back (design decision
//! 18). Its answer alone is anybody's word, so it is asked for what it cosigned: that has our own signature, and only
//! that stops us.

use mastio_core::counted;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use mastio_audit::{checkpoint::SignedCheckpoint, note::Name, proof::decimal, witness::AddCheckpoint};
use mastio_authority::Outage;
use mastio_config::Witness;
use mastio_store::{
    Unit,
    audit::{
        checkpoints::{self, Cosignature},
        witness::SplitView,
    },
};
use url::Url;

use crate::{
    Ledger,
    checkpoint_file::Known,
    checkpoints::{CheckpointError, Published},
    outbound::{self, Answer, OutboundError, Post},
    proofs::ProveError,
};

/// How long a witness may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after the first failure; each further one doubles it.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Why a witness did not cosign.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// There is nothing to send.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// There is no proof.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The certificates for https.
    #[error("MCP_PROXY_AUDIT_WITNESS_CA: {0}: {1}")]
    Trust(String, std::io::Error),
    /// It was not reached.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// It does not want it.
    #[error("the witness answered {0}: {1}")]
    Refused(StatusCode, String),
    /// It said yes, but not in writing.
    #[error("the witness sent no cosignature by the key in MCP_PROXY_AUDIT_WITNESSES")]
    Unsigned,
    /// It has other entries of this log than we do.
    #[error("the witness has cosigned {0} entries of this log, and they are not the ones that are here")]
    Contradicted(u64),
    /// The database.
    #[error("{0}")]
    Outage(#[from] Outage),
}

/// One witness, and how far it got.
#[derive(Debug)]
pub struct Pushing {
    witness: Witness,
    /// The size that it cosigned last; `None`: not looked up yet.
    cosigned: Option<u64>,
    pause: Duration,
    again_at: Option<Duration>,
    /// Why it failed last, to say it once.
    trouble: Option<String>,
}

impl Pushing {
    /// To `witness`, at once.
    #[must_use]
    pub fn to(witness: Witness) -> Self {
        Self { witness, cosigned: None, pause: PAUSE, again_at: None, trouble: None }
    }

    fn name(&self) -> &str {
        self.witness.key.name().as_str()
    }

    fn failed(&mut self, error: &PushError, now: Duration) {
        self.again_at = Some(now + self.pause);
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        let text = error.to_string();
        if self.trouble.as_ref() != Some(&text) {
            tracing::warn!(
                witness = self.name(),
                error = text,
                "a checkpoint was not cosigned; it is tried again"
            );
            self.trouble = Some(text);
        }
    }

    fn succeeded(&mut self, size: u64) {
        if self.trouble.take().is_some() {
            tracing::info!(witness = self.name(), size, "the witness cosigns again");
        }
        (self.cosigned, self.pause, self.again_at) = (Some(size), PAUSE, None);
    }
}

impl Ledger {
    /// Sends the newest checkpoint to a witness that has not cosigned it. Call it every second or so.
    pub async fn keep_witness(&self, pushing: &mut Pushing) {
        let (now, metrics) = (self.authority.clock().elapsed(), &self.authority.metrics);
        let newest = u64::try_from(metrics.evidence.checkpoint_size.get()).unwrap_or(0);
        let idle = newest == 0 || pushing.cosigned == Some(newest) || self.is_rolled_back();
        if idle || pushing.again_at.is_some_and(|at| now < at) {
            return;
        }
        match self.push(&pushing.witness).await {
            Ok(size) => {
                metrics.witness.size.with_label_values(&[pushing.name()]).set(size.cast_signed());
                pushing.succeeded(size);
            }
            Err(error) => {
                metrics.witness.failures.with_label_values(&[pushing.name()]).inc();
                pushing.failed(&error, now);
            }
        }
    }

    /// Has the newest checkpoint cosigned; its size.
    async fn push(&self, witness: &Witness) -> Result<u64, PushError> {
        let newest = self.newest_checkpoint().await?.ok_or(CheckpointError::Empty)?;
        let size = newest.head().size;
        if newest.note.cosigned_at(&witness.key).is_ok() {
            return Ok(size);
        }
        let mut old = self.cosigned_through(&newest, witness.key.name()).await?.min(size);
        let mut second = false;
        loop {
            let path = self.consistency(old, Some(size)).await?.proof.path;
            let request = AddCheckpoint { old, path, checkpoint: newest.note.clone() };
            let answer = ask(self, &witness.url, &request).await?;
            match (answer.status, held(&answer)) {
                (StatusCode::OK, _) => return self.keep_cosignature(&newest, witness, &answer).await,
                // It says where to start from.
                (StatusCode::CONFLICT, Some(held)) if held <= size && held != old && !second => {
                    (old, second) = (held, true);
                }
                (StatusCode::CONFLICT, Some(held)) => {
                    return self.contradicted(witness, &request, held).await;
                }
                (StatusCode::UNPROCESSABLE_ENTITY, _) if old > 0 => {
                    return self.contradicted(witness, &request, old).await;
                }
                _ => return Err(refused(&answer)),
            }
        }
    }

    async fn cosigned_through(&self, newest: &Published, witness: &Name) -> Result<u64, PushError> {
        let (origin, witness) = (newest.note.unverified().origin.clone(), witness.clone());
        let read = self.reading(move |database| {
            Ok::<_, Outage>(checkpoints::cosigned_through(database, &origin, witness.as_str())?)
        });
        Ok(read.await?)
    }

    async fn keep_cosignature(
        &self,
        newest: &Published,
        witness: &Witness,
        answer: &Answer,
    ) -> Result<u64, PushError> {
        let (text, checkpoint) = (String::from_utf8_lossy(&answer.body), newest.note.unverified());
        // Lines by keys that we do not know are nobody's.
        let by_witness = |line: &&str| {
            newest.note.with_line(line).is_ok_and(|note| note.cosigned_at(&witness.key).is_ok())
        };
        let line = text.lines().find(by_witness).ok_or(PushError::Unsigned)?;
        let cosignature = Cosignature {
            witness: witness.key.name().to_string(),
            line: line.to_owned(),
            received_at: self.authority.clock().now(),
        };
        let size = checkpoint.head.size;
        let unit =
            Unit::default().write(checkpoints::put_cosignature(&checkpoint.origin, size, &cosignature));
        self.authority.commit(unit).await.map_err(Outage::from)?;
        Ok(size)
    }

    /// The witness has something else than we do. With a checkpoint that we signed that is a rewind; without one it is
    /// a warning.
    async fn contradicted(
        &self,
        witness: &Witness,
        request: &AddCheckpoint,
        held: u64,
    ) -> Result<u64, PushError> {
        let name = witness.key.name().as_str();
        if let Some(note) = self.cosigned_by(witness, request).await? {
            return match self.compare_with(name, Known { note, at: None }).await? {
                true => Err(PushError::Contradicted(held)),
                // Another process of ours was faster; the next checkpoint continues both.
                false => Err(PushError::Refused(
                    StatusCode::CONFLICT,
                    format!("it has {}", counted(held, "entry", "entries")),
                )),
            };
        }
        let split = SplitView {
            origin: request.checkpoint.unverified().origin.to_string(),
            known: request.checkpoint.to_string(),
            other: format!(
                "the witness {name} says that it cosigned {} which this checkpoint does not continue",
                counted(held, "entry", "entries")
            ),
            seen_at: self.authority.clock().now(),
            suspected_size: None,
        };
        self.keep_split_view(split).await?;
        Err(PushError::Contradicted(held))
    }

    /// What the witness cosigned last, if it says so and we signed it.
    async fn cosigned_by(
        &self,
        witness: &Witness,
        request: &AddCheckpoint,
    ) -> Result<Option<SignedCheckpoint>, PushError> {
        let Ok(url) = witness.url.join("cosigned") else { return Ok(None) };
        let answer = ask(self, &url, request).await?;
        let note = SignedCheckpoint::parse(&String::from_utf8_lossy(&answer.body)).ok();
        let key = self.log_key().await.map_err(CheckpointError::from)?;
        let ours = |note: &SignedCheckpoint| note.verify(key.vkey()).is_ok();
        Ok(note.filter(|note| answer.status == StatusCode::OK && ours(note)))
    }
}

async fn ask(ledger: &Ledger, url: &Url, request: &AddCheckpoint) -> Result<Answer, PushError> {
    let trusted = match &ledger.authority.settings.audit.witnessing.ca {
        Some(path) => Some(
            tokio::fs::read_to_string(path)
                .await
                .map_err(|error| PushError::Trust(path.display().to_string(), error))?,
        ),
        None => None,
    };
    let post = Post {
        url,
        content_type: "text/plain; charset=utf-8",
        body: Bytes::from(request.to_string()),
        timeout: TIMEOUT,
        max_answer: MAX_ANSWER,
    };
    Ok(outbound::post(post, trusted.as_deref()).await?)
}

/// The size in the answer of a witness that holds another one.
fn held(answer: &Answer) -> Option<u64> {
    let kind = answer.content_type.as_deref()?.split(';').next()?.trim();
    let text = std::str::from_utf8(&answer.body).ok()?;
    (kind == "text/x.tlog.size").then(|| decimal(text.strip_suffix('\n')?)).flatten()
}

fn refused(answer: &Answer) -> PushError {
    let text = String::from_utf8_lossy(&answer.body);
    let shown = text.chars().filter(|unit| !unit.is_control()).take(200).collect();
    PushError::Refused(answer.status, shown)
}
