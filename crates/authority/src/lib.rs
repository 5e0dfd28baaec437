//! Use cases of trust: first boot, enrolment, authentication, tokens.
//!
//! [`Authority`] is the whole; each use case is a module that adds methods to it. [`boot`] makes it from the settings,
//! [`trust`] is what it believes, [`registry`] whom it knows. A request goes [`peer`] → [`authenticate`] → use case.

pub mod admin;
mod auth_error;
pub mod authenticate;
mod authority;
pub mod boot;
mod certified;
pub mod contain;
pub mod crl;
pub mod dashboard;
pub mod decommission;
pub mod denials;
pub mod device;
pub mod doctor;
pub mod enroll;
pub mod evidence;
pub mod expiry;
pub mod files;
pub mod fleet;
mod fresh;
pub mod intermediate;
mod keep_keys;
pub mod lifecycle;
pub mod lifetime;
pub mod limits;
pub mod lineage;
pub mod login;
pub mod metrics;
pub mod mint;
mod moves;
pub mod nonces;
pub mod once;
mod paths;
pub mod peer;
pub mod possession;
pub mod proofs;
mod refusal;
pub mod registry;
pub mod renew;
mod replay;
mod retire;
pub mod rotation;
pub mod sign_csr;
pub mod signing_key;
pub mod spire;
mod svid;
pub mod trust;
pub mod trust_bundle;
pub mod updates;
mod upkeep;

pub use authority::{Authority, Stale};
pub use refusal::{Outage, Refusal, seconds_up};
