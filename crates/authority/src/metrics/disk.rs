//! The disk of the database in numbers.

use prometheus::{Gauge, IntGauge, Registry};

/// How full the disk of the database is.
#[derive(Debug, Clone)]
pub struct DiskMetrics {
    /// Which part of its file system is used, from 0 to 1.
    pub used_ratio: Gauge,
    /// Bytes of the database and its write-ahead log.
    pub database_bytes: IntGauge,
    /// 1 while the file system is fuller than `MCP_PROXY_AUDIT_DISK_WARN_PERCENT`.
    pub low: IntGauge,
}

impl DiskMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let used_ratio =
            Gauge::new("cullis_disk_used_ratio", "used part of the file system of the database")?;
        registry.register(Box::new(used_ratio.clone()))?;
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            used_ratio,
            database_bytes: gauge("cullis_database_bytes", "bytes of the database and its write-ahead log")?,
            low: gauge("cullis_audit_disk_low", "1 while the disk of the database fills up")?,
        })
    }
}
