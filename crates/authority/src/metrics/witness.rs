//! Witnesses in numbers.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// What witnesses of our log know, and what we saw as one.
#[derive(Debug, Clone)]
pub struct WitnessMetrics {
    /// Pairs of checkpoints of which at most one can be true, not acknowledged yet.
    pub split_views: IntGauge,
    /// The size of the checkpoint that a witness cosigned last, by `witness`.
    pub size: IntGaugeVec,
    /// Checkpoints that a witness did not cosign, by `witness`.
    pub failures: IntCounterVec,
    /// Checkpoints that came to us with a proof that does not hold, by the `origin` of their log.
    pub unproved: IntCounterVec,
}

impl WitnessMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "pairs of checkpoints of which at most one can be true, not acknowledged";
        let split_views = IntGauge::new("cullis_audit_split_views", help)?;
        let size =
            Opts::new("cullis_audit_witness_size", "entries in the checkpoint that a witness cosigned last");
        let size = IntGaugeVec::new(size, &["witness"])?;
        let failures =
            Opts::new("cullis_audit_witness_failures_total", "checkpoints that a witness did not cosign");
        let failures = IntCounterVec::new(failures, &["witness"])?;
        let unproved = Opts::new(
            "cullis_audit_witness_unproved_total",
            "checkpoints that came to this witness with a proof that does not hold",
        );
        let unproved = IntCounterVec::new(unproved, &["origin"])?;
        registry.register(Box::new(unproved.clone()))?;
        registry.register(Box::new(split_views.clone()))?;
        registry.register(Box::new(size.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Self { split_views, size, failures, unproved })
    }
}
