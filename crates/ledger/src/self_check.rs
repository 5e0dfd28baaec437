//! The audit log verifies itself: what is new every minute, all of it once in a while, without hurry.
//!
//! A break is told once for each place, also over restarts: what was told stands in the log. When a whole round finds
//! that a chain holds again, that is told too, and the health warning ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mastio_audit::{Break, Head};
use mastio_authority::{Authority, Outage};
use mastio_core::{Event, event::catalogue};
use mastio_store::{
    Unit,
    audit::{self, Chain, ToldBreak, Walk},
};
use tokio::sync::watch;

use crate::Ledger;

/// Rows verified in one piece. It takes some milliseconds.
const PIECE: u32 = 2000;
/// The pause after a piece of a round that has no hurry: one core is busy for a twentieth of the time.
const PAUSE: Duration = Duration::from_millis(100);
/// How often what was appended is verified.
const NEW_EVERY: Duration = Duration::from_secs(60);
/// How often a chain is started anew within a round, because its beginning went into an archive meanwhile.
const ATTEMPTS: u32 = 3;

impl Ledger {
    /// Verifies the log until the server stops. First comes what is newer than the last checkpoint.
    pub async fn keep_self_checking(&self, mut stopping: watch::Receiver<bool>) {
        let Some(every) = self.authority.settings.audit.self_check_every else { return };
        let check = async {
            let mut check = SelfCheck::of(self);
            let mut due = Duration::ZERO;
            loop {
                let now = self.authority.clock().elapsed();
                let checked = match check.new_entries().await {
                    Ok(()) if now >= due => check.round(PAUSE).await,
                    checked => checked,
                };
                match checked {
                    Ok(()) if now >= due => due = now + every,
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, "the audit log could not be verified; it is tried again");
                    }
                }
                tokio::time::sleep(NEW_EVERY.min(every)).await;
            }
        };
        tokio::select! {
            () = check => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }
}

/// What is known of the chains, and the way to learn more.
#[derive(Debug)]
pub struct SelfCheck {
    authority: Arc<Authority>,
    known: BTreeMap<Chain, Found>,
}

/// How a chain was found.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// It held up to here, when it was seen to hold.
    head: Head,
    /// It does not any more. What is appended is not looked at until the next round.
    broken: bool,
}

impl SelfCheck {
    /// Nothing is known yet.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        Self { authority: Arc::clone(ledger.authority()), known: BTreeMap::new() }
    }

    /// Verifies every chain from its beginning or its newest archive mark, with a pause after each piece.
    ///
    /// # Errors
    /// When the database cannot be read, or a finding cannot be written. A broken chain is a finding.
    pub async fn round(&mut self, pause: Duration) -> Result<(), Outage> {
        let database = Arc::clone(self.authority.store().database());
        let stored = audit::chains(&database)?;
        // A chain that held and is gone was cut off. One that was broken stays so.
        let held = self.known.iter().filter(|(_, found)| !found.broken);
        let chains: BTreeSet<Chain> =
            stored.into_iter().chain(held.map(|(chain, _)| chain.clone())).collect();
        let mut rest = 0;
        for chain in &chains {
            let start = audit::start(&database, chain)?;
            let last = audit::last_seq(&database, chain)?;
            rest += last.saturating_sub(start.seq);
        }
        self.authority.metrics.audit.unverified.set(rest.cast_signed());
        for chain in chains {
            let found = self.whole(&chain, pause).await?;
            self.note(chain, found, true).await?;
        }
        self.authority.metrics.audit.unverified.set(0);
        self.authority.audit_chain_found(!audit::told_breaks(&database)?.is_empty());
        Ok(())
    }

    /// Verifies what was appended since. Of our chain, when nothing is known yet, what no checkpoint covers.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn new_entries(&mut self) -> Result<(), Outage> {
        let org = self.authority.trust().org.to_string();
        let database = self.authority.store().database();
        let covered = audit::checkpointed(database, &org)?;
        if let Some(head) = covered {
            self.known.entry(Chain::Organisation(org)).or_insert(Found { head, broken: false });
        }
        let intact = self.known.iter().filter(|(_, found)| !found.broken);
        let known: Vec<_> = intact.map(|(chain, found)| (chain.clone(), *found)).collect();
        for (chain, Found { head, .. }) in known {
            match self.walk(Walk::new(chain.clone(), head, None), Duration::ZERO).await? {
                Ok(head) => self.note(chain, Ok(head), false).await?,
                // Where it begins is seen from the beginning.
                Err(_) => {
                    let found = self.whole(&chain, Duration::ZERO).await?;
                    self.note(chain, found, true).await?;
                }
            }
        }
        Ok(())
    }

    /// Verifies all of a chain. If entries went into an archive while it was read, it is read again from there.
    async fn whole(&self, chain: &Chain, pause: Duration) -> Result<Result<Head, Break>, Outage> {
        let database = Arc::clone(self.authority.store().database());
        let known = match self.known.get(chain) {
            Some(found) if found.head != Head::GENESIS => Some(found.head),
            _ => audit::sealed_head(&database, chain)?,
        };
        let mut attempt = 1;
        loop {
            let start = audit::start(&database, chain)?;
            let whole = Walk::new(chain.clone(), start, known).as_signed(&database)?;
            let found = self.walk(whole, pause).await?;
            let moved = audit::start(&database, chain)? != start;
            if found.is_ok() || !moved || attempt == ATTEMPTS {
                return Ok(found);
            }
            attempt += 1;
        }
    }

    /// Goes to the end of a chain.
    async fn walk(&self, mut walk: Walk, pause: Duration) -> Result<Result<Head, Break>, Outage> {
        let metrics = &self.authority.metrics.audit;
        loop {
            let database = Arc::clone(self.authority.store().database());
            let step = move || {
                let advanced = walk.advance(&database, PIECE);
                (walk, advanced)
            };
            let (went, advanced) = tokio::task::spawn_blocking(step).await.map_err(Outage::internal)?;
            walk = went;
            match advanced? {
                Ok(0) => return Ok(Ok(walk.head())),
                Ok(rows) => {
                    metrics.verified.inc_by(rows);
                    metrics.unverified.set((metrics.unverified.get() - rows.cast_signed()).max(0));
                }
                Err(broken) => return Ok(Err(broken)),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Keeps what was found, and tells what is news.
    async fn note(&mut self, chain: Chain, found: Result<Head, Break>, whole: bool) -> Result<(), Outage> {
        let (name, metrics) = (chain.name().to_owned(), &self.authority.metrics.audit);
        metrics.chain_ok.with_label_values(&[&name]).set(found.is_ok().into());
        let told = audit::told_breaks(self.authority.store().database())?;
        let news = match &found {
            Ok(head) if whole && told.iter().any(|told| told.chain == name) => {
                Some(Event::new(&catalogue::ChainBreakMended { chain: name, last_seq: head.seq }))
            }
            Ok(_) => None,
            Err(broken) => {
                self.authority.audit_chain_found(true);
                let place = ToldBreak { chain: name.clone(), seq: broken.seq };
                let problem = broken.problem.to_string();
                (!told.contains(&place)).then(|| {
                    Event::new(&catalogue::ChainBreakDetected { chain: name, seq: broken.seq, problem })
                })
            }
        };
        if let Ok(head) = &found
            && chain.name() == self.authority.trust().org.as_str()
        {
            metrics.last_seq.set(head.seq.cast_signed());
        }
        let before = self.known.get(&chain).map_or(Head::GENESIS, |found| found.head);
        let broken = found.is_err();
        self.known.insert(chain, Found { head: found.unwrap_or(before), broken });
        if let Some(event) = news {
            self.authority.commit(Unit::of(event)).await?;
        }
        Ok(())
    }
}
