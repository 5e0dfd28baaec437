//! The authority as a whole, on a real database in a folder of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod authentication;
mod boot;
mod byoca;
mod damaged_cas;
mod dashboard;
mod decommission;
mod device;
mod doctor;
mod endings;
mod enrolled_again;
mod expiry;
mod fleet;
mod forge;
mod interleaving;
mod intermediates;
mod kept_keys;
mod lifecycle;
mod links;
mod once;
mod overlap;
mod overlap_uploads;
mod renewal;
mod revocation_lists;
mod rotation;
mod rotation_ends;
mod rotation_races;
mod rotation_steps;
mod rotation_trial;
mod shut_out;
mod sign_csr;
mod signing_keys;
mod spiffe;
mod updates;
mod world;
