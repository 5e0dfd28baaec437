//! The audit log as others see it: what it proves, and what is handed out.

pub(crate) mod export;
pub(crate) mod query;
pub(crate) mod search;
