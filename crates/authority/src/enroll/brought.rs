//! What an agent brings along: its certificate, and proof that it holds the key.

use mastio_pki::{Certificate, KeyPair, SigningRequest, pem};
use secrecy::{ExposeSecret, SecretString};

use super::error::{EnrollError, Fields};
use crate::possession::HeldKey;

/// What an agent brings along, as the operator sends it.
#[derive(Debug)]
pub struct Brought {
    /// PEM, leaf first, then the CAs above it.
    pub certificates: String,
    /// That it holds the leaf's key.
    pub possession: Possession,
    /// Whether an agent of this name gets the certificate in place of the one it has.
    pub update_existing: bool,
}

/// Proof that somebody holds the private key of a certificate.
#[derive(Debug)]
pub enum Possession {
    /// The key itself, in PEM: checked and dropped.
    Key(SecretString),
    /// A certificate request with the same key, in PEM: it is signed by it.
    Request(String),
    /// A signature over [`possession_message`](crate::possession::possession_message), in base64url.
    Signature(String),
}

impl Possession {
    fn proves(&self, leaf: &Certificate, fields: Fields) -> Result<(), EnrollError> {
        match self {
            Self::Key(pem) => {
                let key = KeyPair::from_pem(pem.expose_secret()).map_err(|_| EnrollError::Key(fields))?;
                if key.matches(leaf) { Ok(()) } else { Err(EnrollError::KeyMismatch(fields)) }
            }
            Self::Request(pem) => {
                let request = SigningRequest::from_pem(pem)?;
                let same = request.public().spki_der() == leaf.spki_der();
                if same { Ok(()) } else { Err(EnrollError::RequestMismatch(fields)) }
            }
            Self::Signature(signature) => {
                let key =
                    HeldKey::from_spki_der(leaf.spki_der()).map_err(|_| EnrollError::WeakKey(fields))?;
                key.proves_possession(signature).map_err(|_| EnrollError::Proof(fields))
            }
        }
    }
}

/// A leaf whose holder has its key, with the CAs that were sent along.
pub(super) struct Presented {
    pub(super) leaf: Certificate,
    pub(super) above: Vec<Certificate>,
}

impl Brought {
    /// Reads the certificates and checks possession. Nothing is said about who signed them.
    pub(super) fn read(&self, fields: Fields) -> Result<Presented, EnrollError> {
        let mut above =
            pem::certificates(&self.certificates).map_err(|error| EnrollError::Certificate(fields, error))?;
        let leaf = above.remove(0);
        self.possession.proves(&leaf, fields)?;
        if !leaf.key_strength_ok() {
            return Err(EnrollError::WeakKey(fields));
        }
        // A leaf that signed ours is not passed over: the path says what is wrong with it.
        if above.iter().any(|other| !other.is_ca() && !leaf.is_signed_by(other)) {
            return Err(EnrollError::SecondLeaf(fields));
        }
        Ok(Presented { leaf, above })
    }
}
