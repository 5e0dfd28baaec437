//! What verifying the audit log found, in numbers (contract `audit-and-database.md`, "better than both" 8).

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

/// How far the audit log was verified, and whether it holds.
#[derive(Debug, Clone)]
pub struct AuditMetrics {
    /// 1 while a chain holds, 0 when it is broken, by `org`.
    pub chain_ok: IntGaugeVec,
    /// The newest entry of our own chain that was verified.
    pub last_seq: IntGauge,
    /// Entries that the present round has not looked at yet.
    pub unverified: IntGauge,
    /// Entries verified since the start.
    pub verified: IntCounter,
}

impl AuditMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let ok = Opts::new("cullis_audit_chain_ok", "1 while the chain of an organisation holds");
        let metrics = Self {
            chain_ok: IntGaugeVec::new(ok, &["org"])?,
            last_seq: IntGauge::new(
                "cullis_audit_last_seq",
                "the newest entry of our chain that was verified",
            )?,
            unverified: IntGauge::new(
                "cullis_audit_unverified_rows",
                "entries that the present round of verification has not looked at",
            )?,
            verified: IntCounter::new("cullis_audit_verified_total", "entries verified since the start")?,
        };
        registry.register(Box::new(metrics.chain_ok.clone()))?;
        registry.register(Box::new(metrics.last_seq.clone()))?;
        registry.register(Box::new(metrics.unverified.clone()))?;
        registry.register(Box::new(metrics.verified.clone()))?;
        Ok(metrics)
    }
}
