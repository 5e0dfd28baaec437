//! Time stamps of the audit log in numbers.

use prometheus::{IntCounter, IntGauge, Registry};

/// Whether the log is stamped with the time as it should be.
#[derive(Debug, Clone)]
pub struct AnchorMetrics {
    /// Time stamps that were asked for and not got, or not believed.
    pub failures: IntCounter,
    /// When the newest one came, in seconds since 1970; 0 when there is none.
    pub last: IntGauge,
}

impl AnchorMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "time stamps of the audit log that were not got or not believed";
        let failures = IntCounter::new("cullis_audit_anchor_failures_total", help)?;
        registry.register(Box::new(failures.clone()))?;
        let help = "when the newest time stamp of the audit log came; 0: never";
        let last = IntGauge::new("cullis_audit_last_anchor_timestamp_seconds", help)?;
        registry.register(Box::new(last.clone()))?;
        Ok(Self { failures, last })
    }
}
