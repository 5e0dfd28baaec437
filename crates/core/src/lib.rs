//! The words that every layer of Mastio shares: identities, digests, time, randomness, canonical JSON and events.
//!
//! Nothing here does I/O. Time and randomness come in as [`Clock`] and [`Rng`], so that everything above can be
//! tested by vectors.

pub mod canonical;
mod digest;
pub mod event;
mod id;
mod rng;
mod spiffe;
mod stamp;
mod text;
mod words;

pub use digest::{DigestError, Jkt, Kid, Thumbprint, hash_from_hex, sha256};
pub use event::Event;
pub use id::{AgentId, AgentName, EnrollmentId, IdError, OrgId, Principal, PrincipalKind};
pub use rng::{Rng, SeededRng, SystemRng};
pub use spiffe::{SpiffeError, SpiffeId, TrustDomain};
pub use stamp::{Clock, ManualClock, Stamp, StampError, SystemClock};
pub use text::is_deceptive;
pub use words::{Count, counted, plural};
