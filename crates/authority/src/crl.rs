//! Publishing revocations: `/pki/crl.pem` and `/pki/revoked.json` (design decision 9).
//!
//! Both are made off the request path by one task, when a revocation was committed and when they get old, and served
//! from memory. A list is served only after its number is durable, so that numbers never repeat.

mod document;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use mastio_core::{Event, Stamp, Thumbprint, event::catalogue, sha256};
use mastio_pki::crl::{self, CrlError};
use mastio_store::{ReadError, Unit, crl as numbers, revocations, sqlite::Database};
use tokio::sync::Notify;

use crate::{Authority, Outage, trust::Trust};

/// How old a list may get before it is signed again; it is good for twice that.
const RESIGN_AFTER: Duration = Duration::from_secs(12 * 3600);
/// How long to wait after a failure.
const BACK_OFF: Duration = Duration::from_secs(5);
/// The shortest pause between two publications: what is revoked meanwhile goes into the next one together.
const SETTLE: Duration = Duration::from_millis(100);

/// What is published now, and what waits for it.
#[derive(Default)]
pub struct Crl {
    lists: ArcSwapOption<Lists>,
    revoked: ArcSwapOption<Document>,
    /// Since when something waits to be published, on the monotonic clock.
    waiting: Mutex<Option<Duration>>,
    /// When to look again although nothing waits.
    again_at: Mutex<Option<Stamp>>,
    wake: Notify,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crl").field("lists", &self.lists.load()).finish_non_exhaustive()
    }
}

/// A document that is served from memory.
#[derive(Clone)]
pub struct Document {
    /// What is served.
    pub body: Bytes,
    /// Its entity tag, quotes included.
    pub etag: String,
}

impl Document {
    fn of(body: String) -> Self {
        let etag = format!("\"{}\"", hex::encode(&sha256(body.as_bytes())[..16]));
        Self { body: body.into(), etag }
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("etag", &self.etag).field("bytes", &self.body.len()).finish()
    }
}

/// The lists of all issuers.
#[derive(Debug, Clone)]
pub struct Lists {
    /// One `X509 CRL` section per issuer.
    pub pem: Document,
    /// The facts of each.
    pub lists: Vec<ListFacts>,
    /// When they were signed.
    pub this_update: Stamp,
    /// The certificates that were revoked when they were made.
    carried: HashSet<Thumbprint>,
    /// What they say, whoever signs it and when.
    content: [u8; 32],
}

impl Lists {
    /// Whether a revocation was known when the lists were signed.
    #[must_use]
    pub fn carry(&self, certificate: &Thumbprint) -> bool {
        self.carried.contains(certificate)
    }
}

/// One list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListFacts {
    /// The subject of its issuer.
    pub issuer: String,
    /// The subject key identifier of its issuer, in hex.
    pub issuer_key_id: String,
    /// Its number.
    pub number: i64,
    /// How many certificates it names.
    pub revoked: u64,
    /// When it was signed.
    pub this_update: Stamp,
    /// Until when it is good.
    pub next_update: Stamp,
}

/// Why nothing was published. What was published before stays.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Sign(#[from] CrlError),
    #[error(transparent)]
    Outage(#[from] Outage),
}

/// What was made of the database, not published yet.
struct Draft {
    revoked: Document,
    /// `None` when what is published says the same and is not old, or nothing may be signed.
    lists: Option<Lists>,
}

impl Crl {
    /// The signed lists; `None` before the first ones are signed.
    #[must_use]
    pub fn lists(&self) -> Option<Arc<Lists>> {
        self.lists.load_full()
    }

    /// `/pki/revoked.json`; `None` before it was made first.
    #[must_use]
    pub fn revoked(&self) -> Option<Arc<Document>> {
        self.revoked.load_full()
    }

    /// Waits until something is to be published.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Something was revoked, or the trust state is another one. `now` is of the monotonic clock.
    pub(crate) fn is_due(&self, now: Duration) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        self.wake.notify_one();
    }

    fn take_waiting(&self) -> Option<Duration> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_old(&self, now: Stamp) -> bool {
        let again_at = *self.again_at.lock().unwrap_or_else(PoisonError::into_inner);
        again_at.is_none_or(|at| at <= now)
    }

    fn look_again(&self, at: Stamp) {
        *self.again_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

impl Authority {
    /// Publishes what waits for it, and signs again what got old. Returns how long to wait before the next time, so
    /// that publishing never takes more than half of a processor. Call it when [`Crl::woken`], and every second or so.
    pub async fn keep_crl(&self) -> Duration {
        let _one = self.crl.one_at_a_time.lock().await;
        let (start, now) = (self.clock.elapsed(), self.clock.now());
        let (waiting, old) = (self.crl.take_waiting(), self.crl.is_old(now));
        let published = if waiting.is_some() || old { self.publish(now).await } else { Ok(false) };
        match (published, waiting) {
            (Ok(true), Some(since)) => {
                let took = self.clock.elapsed().saturating_sub(since);
                self.metrics.fleet.propagation.observe(took.as_secs_f64());
            }
            (Ok(_), _) => {}
            (Err(error), since) => {
                tracing::error!(%error, "the revocation lists could not be published; the last ones stay, and it is tried again");
                if let Some(since) = since {
                    self.crl.waiting.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(since);
                }
                self.crl.look_again(now.plus(BACK_OFF));
                return BACK_OFF;
            }
        }
        if let Some(lists) = self.crl.lists() {
            let age = now.since(lists.this_update).as_secs();
            self.metrics.fleet.crl_age.set(i64::try_from(age).unwrap_or(i64::MAX));
        }
        self.clock.elapsed().saturating_sub(start).max(SETTLE)
    }

    /// Whether the lists say something else than before.
    async fn publish(&self, now: Stamp) -> Result<bool, PublishError> {
        let (trust, database) = (self.trust(), Arc::clone(self.store.database()));
        let before = self.crl.lists();
        let halted = trust.halt.is_some();
        let content = before.as_ref().map(|lists| lists.content);
        let make = move || Draft::make(&database, &trust, before.as_deref(), now);
        let draft = tokio::task::spawn_blocking(make).await.map_err(Outage::internal)??;
        self.crl.revoked.store(Some(Arc::new(draft.revoked)));
        let changed =
            draft.lists.as_ref().is_some_and(|lists| content.is_some_and(|old| old != lists.content));
        if let Some(lists) = draft.lists {
            self.commit(numbering(&lists)).await.map_err(Outage::from)?;
            let entries: u64 = lists.lists.iter().map(|list| list.revoked).sum();
            self.metrics.fleet.crl_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
            self.crl.lists.store(Some(Arc::new(lists)));
        }
        if halted {
            tracing::warn!(
                "signing is halted: the last revocation lists stay, later revocations are not in them"
            );
        }
        let signed_at = self.crl.lists().filter(|_| !halted).map_or(now, |lists| lists.this_update);
        self.crl.look_again(signed_at.plus(RESIGN_AFTER));
        Ok(changed)
    }
}

/// Makes the numbers of `lists` durable and tells of them.
fn numbering(lists: &Lists) -> Unit {
    lists.lists.iter().fold(Unit::default(), |unit, list| {
        let event = catalogue::CrlPublished {
            issuer: list.issuer.clone(),
            issuer_key_id: list.issuer_key_id.clone(),
            number: list.number,
            revoked: list.revoked,
            next_update: list.next_update,
        };
        unit.write(numbers::use_number(&list.issuer_key_id, list.number)).tell(Event::new(&event))
    })
}

impl Draft {
    /// Whether what is published says `content`, is not old, and has the numbers that are stored: they are raised after
    /// a restore, and then the lists are signed again under the new ones.
    fn is_fresh(
        database: &Database,
        before: Option<&Lists>,
        content: &[u8; 32],
        now: Stamp,
    ) -> Result<bool, ReadError> {
        let Some(before) = before else { return Ok(false) };
        for list in &before.lists {
            if numbers::number(database, &list.issuer_key_id)? != list.number {
                return Ok(false);
            }
        }
        Ok(before.content == *content && before.this_update.plus(RESIGN_AFTER) > now)
    }

    fn make(
        database: &Database,
        trust: &Trust,
        before: Option<&Lists>,
        now: Stamp,
    ) -> Result<Self, PublishError> {
        let revoked = revocations::unexpired(database, now)?;
        let document = Document::of(document::revoked_json(&revoked, now));
        let issuers: Vec<(String, _)> = trust
            .crl_issuers()
            .map(|issuer| (hex::encode(issuer.certificate().key_id().unwrap_or_default()), issuer))
            .collect();
        let content = document::content(issuers.iter().map(|(key_id, _)| key_id.as_str()), &revoked);
        if trust.halt.is_some() || Self::is_fresh(database, before, &content, now)? {
            return Ok(Self { revoked: document, lists: None });
        }
        let (mut pem, mut lists) = (String::new(), Vec::new());
        for (issuer_key_id, issuer) in issuers {
            let entries = document::entries(&issuer_key_id, &revoked);
            let number = numbers::number(database, &issuer_key_id)? + 1;
            pem.push_str(&crl::sign(issuer, number.cast_unsigned(), &entries, now)?);
            lists.push(ListFacts {
                issuer: issuer.certificate().subject().to_owned(),
                issuer_key_id,
                number,
                revoked: entries.len() as u64,
                this_update: now,
                next_update: now.plus(crl::LIFETIME),
            });
        }
        let carried = revoked.iter().map(|revocation| revocation.thumbprint).collect();
        let lists = Lists { pem: Document::of(pem), lists, this_update: now, carried, content };
        Ok(Self { revoked: document, lists: Some(lists) })
    }
}
