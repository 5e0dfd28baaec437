//! How much a principal may ask of a class of routes (GCRA; contract `auth.md` §11).

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{
    Quota, RateLimiter, clock::Reference, middleware::NoOpMiddleware, nanos::Nanos,
    state::keyed::DashMapStateStore,
};
use mastio_config::Settings;
use mastio_core::{AgentId, Clock, EnrollmentId};

use crate::Refusal;

/// Classes of routes that are limited by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Anonymous documents: `/pki/ca.crt`, revocation lists, bootstrap, JWKS, public keys. By address.
    Public,
    /// Minting and logging in. By address.
    Mint,
    /// The admin API. By address.
    Admin,
    /// Starting an enrolment by device code. By address.
    Enrollment,
    /// Asking for the outcome of an enrolment that is not known; of one that is, by address and session.
    EnrollmentStatus,
    /// Logging in to the dashboard. By address.
    Login,
    /// Checkpoints of logs that we are a witness of. By address.
    Witness,
    /// Authenticated calls. By agent.
    Call,
    /// Fetching the trust file, beside being calls. By agent.
    TrustBundle,
    /// Renewals, beside being calls: each is written down, and most lengthen a revocation list. By agent.
    Renew,
}

impl Class {
    /// The label in `cullis_rate_limit_reject_total`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Mint => "mint",
            Self::Admin => "admin",
            Self::Enrollment => "enrollment",
            Self::EnrollmentStatus => "enrollment_status",
            Self::Login => "login",
            Self::Witness => "witness",
            Self::Call => "call",
            Self::TrustBundle => "trust_bundle",
            Self::Renew => "renew",
        }
    }

    /// What is exceeded, in words.
    fn limit(self) -> &'static str {
        match self {
            Self::Enrollment => "enrollment rate limit",
            Self::EnrollmentStatus => "enrollment status rate limit",
            Self::TrustBundle => "trust bundle rate limit",
            Self::Renew => "renewal rate limit",
            _ => "Rate limit",
        }
    }
}

/// Over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} exceeded", .class.limit())]
pub struct OverLimit {
    /// Which limit.
    pub class: Class,
    /// When trying again makes sense.
    pub retry_after: Duration,
}

impl Refusal for OverLimit {
    fn status(&self) -> u16 {
        429
    }

    fn reason(&self) -> &'static str {
        "rate_limited"
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_after)
    }
}

/// Our clock as the limiter wants it.
#[derive(Clone)]
struct LimiterClock(Arc<dyn Clock>);

/// Nanoseconds since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Duration);

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration.into()))
    }
}

impl std::ops::Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, other: Nanos) -> Self {
        Self(self.0.saturating_add(other.into()))
    }
}

impl governor::clock::Clock for LimiterClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(self.0.elapsed())
    }
}

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, LimiterClock, NoOpMiddleware<Moment>>;

/// The limits of this process.
pub struct Limits {
    public: Keyed<IpAddr>,
    mint: Keyed<IpAddr>,
    admin: Keyed<IpAddr>,
    enrollment: Keyed<IpAddr>,
    unknown_enrollment: Keyed<IpAddr>,
    known_enrollment: Keyed<(IpAddr, EnrollmentId)>,
    login: Keyed<IpAddr>,
    witness: Keyed<IpAddr>,
    call: Keyed<AgentId>,
    trust_bundle: Keyed<AgentId>,
    renew: Keyed<AgentId>,
    clock: LimiterClock,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Limits")
    }
}

const PUBLIC_PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// With sessions of 30 minutes this also bounds what waits for a decision from one address.
const ENROLLMENTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(5).unwrap();
const ENROLLMENT_POLLS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();
const LOGINS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// A log asks once a minute, and again when it has to learn where the witness is.
const CHECKPOINTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).unwrap();
/// A rotation changes the file a few times; an agent has a handful of processes.
const BUNDLES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(30).unwrap();
/// Enough for an agent that loses answers or is restarted a few times; then one in ten minutes.
const RENEWALS: Quota =
    Quota::per_hour(NonZeroU32::new(6).unwrap()).allow_burst(NonZeroU32::new(10).unwrap());

impl Limits {
    pub(crate) fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        let clock = LimiterClock(clock);
        let per_agent = settings.limits.per_agent_per_minute;
        let by_address = |per_minute| keyed(per_minute, &clock);
        Self {
            public: by_address(PUBLIC_PER_MINUTE),
            mint: by_address(per_agent),
            admin: by_address(per_agent),
            enrollment: by_address(ENROLLMENTS_PER_MINUTE),
            unknown_enrollment: by_address(ENROLLMENT_POLLS_PER_MINUTE),
            known_enrollment: keyed(ENROLLMENT_POLLS_PER_MINUTE, &clock),
            login: by_address(LOGINS_PER_MINUTE),
            witness: by_address(CHECKPOINTS_PER_MINUTE),
            call: keyed(per_agent, &clock),
            trust_bundle: keyed(BUNDLES_PER_MINUTE, &clock),
            renew: paced(RENEWALS, &clock),
            clock,
        }
    }

    /// Counts a request from `address`.
    ///
    /// # Errors
    /// When it is one too many.
    pub fn by_address(&self, class: Class, address: IpAddr) -> Result<(), OverLimit> {
        let limiter = match class {
            Class::Public => &self.public,
            Class::Mint => &self.mint,
            Class::Enrollment => &self.enrollment,
            Class::EnrollmentStatus => &self.unknown_enrollment,
            Class::Login => &self.login,
            Class::Witness => &self.witness,
            Class::Admin | Class::Call | Class::TrustBundle | Class::Renew => &self.admin,
        };
        limiter.check_key(&network(address)).map_err(|not_until| self.over(class, &not_until))
    }

    /// Counts a question of `address` for the outcome of an enrolment that is known.
    ///
    /// # Errors
    /// When it is one too many.
    pub fn by_enrollment(&self, address: IpAddr, session: &EnrollmentId) -> Result<(), OverLimit> {
        let checked = self.known_enrollment.check_key(&(network(address), session.clone()));
        checked.map_err(|not_until| self.over(Class::EnrollmentStatus, &not_until))
    }

    /// Counts a call of `agent`.
    ///
    /// # Errors
    /// When it is one too many.
    pub fn by_agent(&self, agent: &AgentId) -> Result<(), OverLimit> {
        self.call.check_key(agent).map_err(|not_until| self.over(Class::Call, &not_until))
    }

    /// Counts a renewal of `agent`.
    ///
    /// # Errors
    /// When it is one too many.
    pub(crate) fn by_renewing_agent(&self, agent: &AgentId) -> Result<(), OverLimit> {
        self.renew.check_key(agent).map_err(|not_until| self.over(Class::Renew, &not_until))
    }

    /// Counts an agent that fetches the trust file.
    ///
    /// # Errors
    /// When it is one too many.
    pub fn by_fetching_agent(&self, agent: &AgentId) -> Result<(), OverLimit> {
        self.trust_bundle.check_key(agent).map_err(|not_until| self.over(Class::TrustBundle, &not_until))
    }

    fn over(&self, class: Class, not_until: &governor::NotUntil<Moment>) -> OverLimit {
        OverLimit { class, retry_after: not_until.wait_time_from(governor::clock::Clock::now(&self.clock)) }
    }

    /// Drops the counts of those that have been quiet.
    pub(crate) fn forget_idle(&self) {
        self.public.retain_recent();
        self.mint.retain_recent();
        self.admin.retain_recent();
        self.enrollment.retain_recent();
        self.unknown_enrollment.retain_recent();
        self.known_enrollment.retain_recent();
        self.login.retain_recent();
        self.witness.retain_recent();
        self.call.retain_recent();
        self.trust_bundle.retain_recent();
        self.renew.retain_recent();
    }
}

fn keyed<K: std::hash::Hash + Eq + Clone>(per_minute: NonZeroU32, clock: &LimiterClock) -> Keyed<K> {
    paced(Quota::per_minute(per_minute), clock)
}

fn paced<K: std::hash::Hash + Eq + Clone>(quota: Quota, clock: &LimiterClock) -> Keyed<K> {
    RateLimiter::new(quota, DashMapStateStore::default(), clock.clone())
}

/// An IPv6 client has a whole /64: it counts as one.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}
