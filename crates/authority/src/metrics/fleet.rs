//! Revocation, expiry and enrolment in numbers (contract `enrollment.md`, "better than both" 2 and 13).

use prometheus::{Histogram, HistogramOpts, IntGauge, IntGaugeVec, Opts, Registry};

/// How fast revocations are published, and how the fleet ages.
#[derive(Debug, Clone)]
pub struct FleetMetrics {
    /// From the commit of a revocation to its publication in the lists, in seconds.
    pub propagation: Histogram,
    /// Seconds since the revocation lists were signed.
    pub crl_age: IntGauge,
    /// Certificates in the revocation lists.
    pub crl_entries: IntGauge,
    /// Certificates of active agents, by how long they last: `expired`, `1d`, `7d`, `30d`, `90d`.
    pub agent_certs: IntGaugeVec,
    /// Whole days until a certificate of ours ends, by `tier`.
    pub days_left: IntGaugeVec,
    /// Enrolments, by `status`.
    pub enrollments: IntGaugeVec,
}

impl FleetMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let gauges = |name: &str, help: &str, label: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let seconds = vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0];
        let help = "from the commit of a revocation to its publication in the lists";
        let options = HistogramOpts::new("mastio_revocation_propagation_seconds", help).buckets(seconds);
        let propagation = Histogram::with_opts(options)?;
        registry.register(Box::new(propagation.clone()))?;
        Ok(Self {
            propagation,
            crl_age: gauge("mastio_crl_age_seconds", "since the revocation lists were signed")?,
            crl_entries: gauge("mastio_crl_entries", "certificates in the revocation lists")?,
            agent_certs: gauges(
                "mastio_agent_cert_expiry_seconds",
                "certificates of active agents by how long they last",
                "bucket",
            )?,
            days_left: gauges(
                "mastio_cert_days_left",
                "whole days until a certificate of ours ends",
                "tier",
            )?,
            enrollments: gauges("mastio_enrollments", "enrolments by state", "status")?,
        })
    }
}
