//! The audit chain: canonical entries, hashes, verification. Pure.
