//! What is proved of the audit log, in numbers.

use prometheus::{IntCounter, IntGauge, Registry};

/// The tree, its checkpoints, and what contradicts them.
#[derive(Debug, Clone)]
pub struct EvidenceMetrics {
    /// Entries in the tree.
    pub tree_size: IntGauge,
    /// Entries in the tree of the newest checkpoint.
    pub checkpoint_size: IntGauge,
    /// When the newest checkpoint was signed, in seconds since the epoch.
    pub checkpoint_at: IntGauge,
    /// Checkpoints that could not be written into the file beside the database.
    pub checkpoint_file_errors: IntCounter,
    /// 1 while entries wait too long for a checkpoint.
    pub checkpoint_late: IntGauge,
    /// 1 while the log is behind a checkpoint that it published, or contradicts it.
    pub rolled_back: IntGauge,
}

impl EvidenceMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            tree_size: gauge("cullis_audit_tree_size", "entries in the tree over the audit log")?,
            checkpoint_size: gauge(
                "cullis_audit_checkpoint_size",
                "entries in the tree of the newest signed checkpoint",
            )?,
            checkpoint_at: gauge(
                "cullis_audit_checkpoint_timestamp_seconds",
                "when the newest checkpoint was signed",
            )?,
            checkpoint_file_errors: counter(
                "cullis_audit_checkpoint_file_errors_total",
                "checkpoints that could not be written into the file beside the database",
            )?,
            checkpoint_late: gauge(
                "cullis_audit_checkpoint_late",
                "1 while there are entries that no checkpoint has covered for too long",
            )?,
            rolled_back: gauge(
                "cullis_audit_rolled_back",
                "1 while the log is behind a checkpoint that it published, or contradicts it",
            )?,
        })
    }
}
