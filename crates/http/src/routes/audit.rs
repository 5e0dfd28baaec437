//! The audit log over HTTP (contract `audit-and-database.md` §1.7, §1.8).

pub(super) mod session;
