//! Certificates: reading, issuing by profile, path validation. Pure.
//!
//! [`Certificate`] is what was read; [`KeyPair`] and [`Issuer`] sign; [`profile`] says what every certificate of ours
//! looks like; [`lineage`] joins one root to the next; [`Anchors`] decide whom to believe. Nothing here does I/O, and
//! time and serial numbers come in as arguments.

mod anchors;
mod bundle;
mod certificate;
pub mod crl;
mod csr;
mod extensions;
pub mod fuzz;
mod issuer;
mod key;
pub mod lineage;
mod name;
mod path;
pub mod pem;
pub mod profile;
mod public_key;
mod server_names;
mod spire;
mod strict;
#[cfg(test)]
mod testing;

pub use anchors::{AnchorError, Anchors, AnchorsBuilder, Group};
pub use bundle::{issued_chain, trust_file};
pub use certificate::{Certificate, CertificateError};
pub use csr::{CsrError, CsrKind, SigningRequest, request_for, sign_csr};
pub use issuer::{IssueError, Issuer, IssuerError};
pub use key::{KeyError, KeyPair};
pub use name::NameError;
pub use path::{MAX_PRESENTED, PathError, ValidPath};
pub use pem::PemError;
pub use public_key::{KeyKind, PublicKey, PublicKeyError, spki_short_id};
pub use rcgen::{PublicKeyData, SigningKey};
pub use server_names::{ServerName, ServerNames, ServerNamesError};
pub use spire::{BundleError, spire_bundle, trust_domain_of};
pub use strict::StrictFault;
