//! The audit log over HTTP (contract `audit-and-database.md` §1.7, §1.8): what it proves, and what is handed out.

pub(crate) mod archive;
pub(crate) mod bundle;
pub(crate) mod export;
mod portions;
pub(crate) mod proofs;
pub(crate) mod query;
pub(crate) mod search;
pub(crate) mod session;
pub(crate) mod witness;
