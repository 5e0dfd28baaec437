//! Certificates: reading, issuing by profile, path validation. Pure.
