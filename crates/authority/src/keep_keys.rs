//! Keys that end by themselves (contract `pki.md` §7): the intermediate and the signing key are rotated before their
//! certificates end. For the root there are warnings only: rotating it is a decision.

use std::{sync::Arc, time::Duration};

use mastio_core::{Event, Stamp, event::catalogue};
use mastio_pki::{Certificate, profile};
use mastio_store::{Unit, expiry};

use crate::{Authority, Outage, expiry::days_left, intermediate::Question, signing_key::GraceDays};

/// How often the keys are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// When this is left, the key is rotated.
const ROTATE_WITHIN: Duration = DAY.saturating_mul(30);
/// When so many days of the intermediate are left, that is told: as a warning, then as an error.
const WARNING_DAYS: u32 = 180;
const CRITICAL_DAYS: u32 = 60;
/// Whom the audit log names.
const BY: &str = "mastio";

impl Authority {
    /// Rotates what ends soon, and retires CAs that have nothing to do any more. Call it every second or so.
    pub async fn keep_keys(self: &Arc<Self>) {
        if !self.rounds.keys.is_due(self.clock.elapsed(), LOOK_EVERY) {
            return;
        }
        if let Err(error) = self.tell_intermediate_ends().await {
            tracing::warn!(%error, "the end of the intermediate could not be told; it is tried again in an hour");
        }
        if self.settings.key_rotation.automatic {
            self.rotate_before_end().await;
        }
        if let Err(error) = self.retire_cas().await {
            tracing::warn!(%error, "superseded CAs could not be retired; it is tried again in an hour");
        }
    }

    /// Half a year and two months before its end, once each.
    async fn tell_intermediate_ends(&self) -> Result<(), Outage> {
        let (trust, now) = (self.trust(), self.clock.now());
        let Some(issuer) = &trust.server_issuer else { return Ok(()) };
        let (cert_thumbprint, not_after) =
            (issuer.certificate().thumbprint(), issuer.certificate().not_after());
        let days = [CRITICAL_DAYS, WARNING_DAYS].into_iter().find(|days| not_after <= now.plus(DAY * *days));
        let (threshold_days, days_left) = match days {
            Some(days) => (days, days_left(not_after, now)),
            None => return Ok(()),
        };
        if expiry::is_noted(&self.store, cert_thumbprint, threshold_days).await? {
            return Ok(());
        }
        let event = if threshold_days == CRITICAL_DAYS {
            tracing::error!(%not_after, days_left, "the intermediate ends soon");
            let ends =
                catalogue::IntermediateEndsCritical { cert_thumbprint, not_after, days_left, threshold_days };
            Event::new(&ends)
        } else {
            tracing::warn!(%not_after, days_left, "the intermediate ends within half a year");
            let ends =
                catalogue::IntermediateEndsWarning { cert_thumbprint, not_after, days_left, threshold_days };
            Event::new(&ends)
        };
        self.commit(Unit::of(event).write(expiry::note(cert_thumbprint, threshold_days, now))).await?;
        Ok(())
    }

    async fn rotate_before_end(self: &Arc<Self>) {
        let (trust, now) = (self.trust(), self.clock.now());
        let Some(issuer) = &trust.server_issuer else { return };
        let (root, issuer) = (&trust.root, issuer.certificate());
        if outlives(issuer, root, profile::INTERMEDIATE_LIFETIME, now) {
            // A new intermediate brings a new signing key. A refusal is in the log, and the next round tries again.
            let told = catalogue::IntermediateAutoRotated {
                cert_thumbprint: issuer.thumbprint(),
                not_after: issuer.not_after(),
                days_left: days_left(issuer.not_after(), now),
                grace_days: GraceDays::FORTNIGHT.get().into(),
            };
            let question = Question { dry_run: false, grace: GraceDays::FORTNIGHT, instead_of: None };
            drop(self.rotate_intermediate_for(question, "expiry", BY, Some(Event::new(&told))).await);
        } else if let Some(leaf) = &trust.signing_leaf
            && outlives(leaf, issuer, profile::LEAF_LIFETIME, now)
        {
            drop(self.rotate_signing_key_for("expiry", BY).await);
        }
    }
}

/// Whether `old` ends soon and one that `issuer` certifies now lives longer: at the end of the root another intermediate
/// would end with it, and so would the next.
fn outlives(old: &Certificate, issuer: &Certificate, lifetime: Duration, now: Stamp) -> bool {
    let next = now.plus(lifetime).min(issuer.not_after());
    old.not_after() <= now.plus(ROTATE_WITHIN) && next > old.not_after().plus(DAY)
}
