//! Signing a certificate request with the root, for organisations that bring their own CA (design decision 5). It works on
//! the database, whether or not a server runs beside it.

use mastio_core::{Clock, Event, Rng, event::catalogue};
use mastio_custody::{Custody, CustodyError};
use mastio_pki::{Certificate, CsrError, CsrKind, IssueError, Issuer, IssuerError, SigningRequest, sign_csr};
use mastio_store::{
    Rejection, Store, Unit, WriteError, cas,
    keys::CaKind,
    rotations::{self, Rotation},
};

use crate::{
    Outage,
    trust::{Halt, TrustError},
};

/// Why a request was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request.
    #[error(transparent)]
    Request(#[from] CsrError),
    /// The root's key is not to be had.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// There is none.
    #[error("there is no Org CA yet; start the Mastio once")]
    NoRoot,
    /// Nothing is signed.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// Whether something halts signing cannot be seen.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Another root took its place before the signature counted.
    #[error("the Org CA was replaced at the same moment, and nothing was signed; sign again")]
    Replaced,
    /// The root cannot issue.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The database.
    #[error(transparent)]
    Outage(#[from] Outage),
}

/// A request that was signed.
#[derive(Debug)]
pub struct Signed {
    /// What came of it.
    pub certificate: Certificate,
    /// The root that signed it.
    pub root: Certificate,
    /// The rotation with overlap at whose end that root goes, and all below it.
    pub ends_with: Option<Rotation>,
}

/// Signs `pem` with the root. The signature counts only once the audit log has it, and that takes it only while this root
/// is the active one.
///
/// # Errors
/// When the request does not hold, signing is halted, or the root's key is not to be had.
pub async fn sign_request(
    store: &Store,
    custody: &dyn Custody,
    (clock, rng): (&dyn Clock, &dyn Rng),
    pem: &str,
    kind: &CsrKind,
) -> Result<Signed, SignError> {
    let request = SigningRequest::from_pem(pem)?;
    if let Some(halt) = Halt::stored(store.database(), custody, clock.now())? {
        return Err(halt.into());
    }
    let root = custody.load(CaKind::Root)?.ok_or(SignError::NoRoot)?;
    let issuer = Issuer::new(root.certificate, root.key)?;
    let certificate = sign_csr(&issuer, &request, kind, clock.now(), rng)?;
    let event = catalogue::CsrSigned {
        fingerprint_sha256: certificate.thumbprint(),
        subject: certificate.subject().to_owned(),
        ca: certificate.is_ca(),
        not_after: certificate.not_after(),
    };
    let root = issuer.certificate().clone();
    // Once it counts nothing may fail any more.
    let open = rotations::open(store.database()).map_err(Outage::from)?;
    let ends_with = open.filter(|rotation| rotation.old_root == root.thumbprint());
    let unit = Unit::of(Event::new(&event)).write(cas::is_active(root.thumbprint()));
    match store.submit(unit).await {
        Ok(_) => Ok(Signed { certificate, root, ends_with }),
        Err(WriteError::Rejected(Rejection::Rows { .. })) => Err(SignError::Replaced),
        Err(error) => Err(Outage::from(error).into()),
    }
}
