//! What is counted. Names are those of contract `operations.md` §6.

mod anchors;
mod audit;
mod disk;
mod evidence;
mod fleet;
mod witness;

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

pub use anchors::AnchorMetrics;
pub use audit::AuditMetrics;
pub use disk::DiskMetrics;
pub use evidence::EvidenceMetrics;
pub use fleet::FleetMetrics;
pub use witness::WitnessMetrics;

/// The counters and gauges of trust, registered once.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Where they are registered.
    pub registry: Registry,
    /// Requests whose credentials held, by `method`.
    pub auth_success: IntCounterVec,
    /// Requests whose credentials did not, by `reason`.
    pub auth_deny: IntCounterVec,
    /// Requests over a limit, by `class`.
    pub rate_limit_reject: IntCounterVec,
    /// Enrolments by device code, by `outcome`: started, approved, rejected.
    pub enrollments: IntCounterVec,
    /// Requests that wait for a decision on an enrolment.
    pub enrollment_waiters: IntGauge,
    /// Events told, by `event`.
    pub events: IntCounterVec,
    /// 1 while the trust state in memory is older than the stored one.
    pub trust_stale: IntGauge,
    /// 1 while minting and issuing are halted.
    pub sign_halted: IntGauge,
    /// 1 while a rotation of the signing key is half done.
    pub rotation_staged: IntGauge,
    /// 1 when the root permits no CA below it.
    pub legacy_pathlen_zero: IntGauge,
    /// Framework updates, by `status`: pending, applied, failed, rolled_back.
    pub updates: IntGaugeVec,
    /// 1 when private keys lie unencrypted in the database.
    pub keys_in_plaintext: IntGauge,
    /// Units waiting for the writer.
    pub queue_depth: IntGauge,
    /// 1 while the audit log can be written.
    pub audit_writable: IntGauge,
    /// Seconds until the TLS server certificate ends.
    pub server_cert_seconds_left: IntGauge,
    /// Time stamps.
    pub anchors: AnchorMetrics,
    /// Revocation, expiry, enrolment.
    pub fleet: FleetMetrics,
    /// The proofs of the audit log.
    pub evidence: EvidenceMetrics,
    /// Verification of the audit log.
    pub audit: AuditMetrics,
    /// Witnesses of the audit log.
    pub witness: WitnessMetrics,
    /// The disk of the database.
    pub disk: DiskMetrics,
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// When a name is registered twice.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let updates = Opts::new("cullis_pending_updates_total", "framework updates by state");
        let updates = IntGaugeVec::new(updates, &["status"])?;
        registry.register(Box::new(updates.clone()))?;
        Ok(Self {
            updates,
            auth_success: counter("cullis_auth_success_total", "requests whose credentials held", "method")?,
            auth_deny: counter("cullis_auth_deny_total", "requests refused for their credentials", "reason")?,
            rate_limit_reject: counter("cullis_rate_limit_reject_total", "requests over a limit", "class")?,
            enrollments: counter("cullis_enrollments_total", "enrolments by device code", "outcome")?,
            enrollment_waiters: gauge(
                "cullis_enrollment_waiters",
                "requests that wait for a decision on an enrolment",
            )?,
            events: counter("cullis_audit_events_total", "audit entries written", "event")?,
            trust_stale: gauge(
                "cullis_mastio_trust_stale",
                "1 while the trust state in memory is older than the stored one",
            )?,
            sign_halted: gauge("cullis_mastio_sign_halted", "1 while minting and issuing are halted")?,
            rotation_staged: gauge(
                "cullis_mastio_rotation_staged",
                "1 while a signing key rotation is half done",
            )?,
            legacy_pathlen_zero: gauge(
                "cullis_proxy_legacy_ca_pathlen_zero",
                "1 when the Org CA has pathLen 0",
            )?,
            keys_in_plaintext: gauge(
                "cullis_keys_in_plaintext",
                "1 when private keys lie unencrypted in the database",
            )?,
            queue_depth: gauge("cullis_audit_queue_depth", "changes waiting for the writer")?,
            audit_writable: gauge("cullis_audit_writable", "1 while the audit log can be written")?,
            server_cert_seconds_left: gauge(
                "cullis_server_cert_seconds_left",
                "seconds until the TLS server certificate ends",
            )?,
            anchors: AnchorMetrics::register(&registry)?,
            fleet: FleetMetrics::register(&registry)?,
            evidence: EvidenceMetrics::register(&registry)?,
            audit: AuditMetrics::register(&registry)?,
            witness: WitnessMetrics::register(&registry)?,
            disk: DiskMetrics::register(&registry)?,
            registry,
        })
    }
}
