//! The trust state: an immutable snapshot of roots, intermediates and signing keys behind an atomic pointer.
//!
//! Loaded from the database at start and whenever somebody else commits; nothing else reads a CA row (design §4).

use std::{collections::HashMap, sync::Arc};

use mastio_core::{Kid, OrgId, Stamp, TrustDomain};
use mastio_custody::{Custody, CustodyError};
use mastio_jose::{Jwk, JwkSet, SigningKey, VerifyingKey};
use mastio_pki::{Anchors, Certificate, Issuer, KeyPair, trust_file};
use mastio_store::{
    ReadError,
    keys::{self, CaKind, KeyState, SigningKeyRow},
    sqlite::Database,
};
use secrecy::ExposeSecret;

use crate::spire;

/// Why minting and issuing are halted. Verifying goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The root permits no CA below it, so nothing that we issue could be verified.
    #[error("signing halted — pending migration 2026-04-23-org-ca-pathlen-1")]
    LegacyPathLen,
    /// A signing key was staged and neither activated nor dropped.
    #[error("signing halted — a rotation of the signing key was interrupted (staged key {0})")]
    StagedRotation(Kid),
}

/// Why the trust state cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A key.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The database.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something stored cannot be used.
    #[error("{what}: {problem}")]
    Unusable {
        /// What.
        what: String,
        /// Why.
        problem: String,
    },
    /// Several signing keys are active where one must be.
    #[error(
        "{0} signing keys are active in mastio_keys; keep one and set deprecated_at and expires_at on the others"
    )]
    SigningKeys(usize),
}

/// The key that signs tokens.
pub struct Signer {
    /// Its name in tokens.
    pub kid: Kid,
    /// The key.
    pub key: SigningKey,
}

/// Whom we trust and what we sign with, at one moment.
pub struct Trust {
    /// Raised with every load.
    pub generation: u64,
    /// Our organisation.
    pub org: OrgId,
    /// Our SPIFFE trust domain.
    pub domain: TrustDomain,
    /// The root.
    pub root: Certificate,
    /// What issues below it, with its key.
    pub issuer: Option<Arc<Issuer<KeyPair>>>,
    /// The certificate of the active signing key, if it is stored and readable.
    pub signing_leaf: Option<Certificate>,
    /// Whom certificate paths may end at.
    pub anchors: Anchors,
    /// The active signing key.
    pub signer: Option<Arc<Signer>>,
    /// Keys whose tokens are accepted, and until when.
    pub verifiers: HashMap<String, (VerifyingKey, Option<Stamp>)>,
    /// `/.well-known/jwks-local.json`.
    pub jwks: JwkSet,
    /// `/pki/ca.crt` and `org-ca.crt`: the root, then the intermediates.
    pub trust_file: String,
    /// Why nothing is signed, if so.
    pub halt: Option<Halt>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("generation", &self.generation)
            .field("root", &self.root.subject())
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// Loads the state; `None` when there is no root.
    ///
    /// # Errors
    /// When something is there that cannot be used.
    pub fn load(
        database: &Database,
        custody: &dyn Custody,
        org: &OrgId,
        domain: &TrustDomain,
        generation: u64,
        now: Stamp,
    ) -> Result<Option<Self>, TrustError> {
        let Some(root) = custody.load(CaKind::Root)? else { return Ok(None) };
        let root = root.certificate;
        let issuer = custody
            .load(CaKind::Intermediate)?
            .map(|ca| Issuer::new(ca.certificate, ca.key).map(Arc::new))
            .transpose()
            .map_err(|error| unusable("the intermediate", error))?;
        let below: Vec<Certificate> = issuer.iter().map(|issuer| issuer.certificate().clone()).collect();
        let own = Anchors::builder().org(std::iter::once(root.clone()).chain(below.clone()));
        let anchors = spire::stored(database, &[std::slice::from_ref(&root), &below].concat())?
            .into_iter()
            .fold(own, |anchors, (domain, bundle)| anchors.spire(domain, bundle))
            .build()
            .map_err(|error| unusable("the trust anchors", error))?;
        let keys = SigningKeys::load(database, custody, now)?;
        let halt = match &keys.staged {
            _ if root.path_len() == Some(0) => Some(Halt::LegacyPathLen),
            Some(kid) => Some(Halt::StagedRotation(kid.clone())),
            None => None,
        };
        Ok(Some(Self {
            generation,
            org: org.clone(),
            domain: domain.clone(),
            trust_file: trust_file(&root, &below),
            root,
            issuer,
            anchors,
            signing_leaf: keys.leaf,
            signer: keys.active,
            verifiers: keys.verifiers,
            jwks: JwkSet::new(keys.published),
            halt,
        }))
    }

    /// Whether a replaced signing key is still held and published although its grace is over.
    pub(crate) fn holds_ended_key(&self, now: Stamp) -> bool {
        self.verifiers.values().any(|(_, until)| until.is_some_and(|until| until <= now))
    }

    /// The root and what issues below it.
    pub(crate) fn own_cas(&self) -> Vec<Certificate> {
        let below = self.issuer.iter().map(|issuer| issuer.certificate().clone());
        std::iter::once(self.root.clone()).chain(below).collect()
    }

    /// The value of the `iss` claim.
    #[must_use]
    pub fn token_issuer(&self) -> String {
        format!("cullis-mastio:{}", self.org)
    }

    /// Who signs revocation lists: every intermediate with leaves that have not ended.
    pub fn crl_issuers(&self) -> impl Iterator<Item = &Issuer<KeyPair>> {
        self.issuer.iter().map(Arc::as_ref).filter(|issuer| issuer.certificate().may_sign_crls())
    }

    /// Whether an intermediate of ours signed `leaf`.
    pub(crate) fn issued(&self, leaf: &Certificate) -> bool {
        self.issuer.iter().any(|issuer| leaf.is_signed_by(issuer.certificate()))
    }

    /// What an issuing answer returns for `leaf`: leaf and intermediate.
    #[must_use]
    pub fn chain_of(&self, leaf: &Certificate) -> String {
        let above: Vec<_> = self.issuer.iter().map(|issuer| issuer.certificate().clone()).collect();
        mastio_pki::issued_chain(leaf, &above)
    }
}

#[derive(Default)]
struct SigningKeys {
    active: Option<Arc<Signer>>,
    leaf: Option<Certificate>,
    staged: Option<Kid>,
    verifiers: HashMap<String, (VerifyingKey, Option<Stamp>)>,
    published: Vec<(Kid, Jwk)>,
}

impl SigningKeys {
    fn load(database: &Database, custody: &dyn Custody, now: Stamp) -> Result<Self, TrustError> {
        let mut keys = Self::default();
        let mut active = 0;
        for row in keys::signing_keys(database)? {
            match row.state {
                KeyState::Staged => keys.staged = Some(row.kid),
                KeyState::Active => {
                    active += 1;
                    keys.accept(&row, None)?;
                    keys.leaf = row.certificate.as_deref().and_then(|pem| Certificate::from_pem(pem).ok());
                    keys.active = Some(Arc::new(signer(custody, row)?));
                }
                KeyState::Grace(Some(until)) if until > now => keys.accept(&row, Some(until))?,
                KeyState::Grace(Some(_)) => {}
                KeyState::Grace(None) => keys.accept(&row, None)?,
            }
        }
        if active > 1 {
            return Err(TrustError::SigningKeys(active));
        }
        Ok(keys)
    }

    fn accept(&mut self, row: &SigningKeyRow, until: Option<Stamp>) -> Result<(), TrustError> {
        let what = || format!("signing key {}", row.kid);
        let public =
            mastio_pki::PublicKey::from_pem(&row.public_pem).map_err(|error| unusable(&what(), error))?;
        let jwk = Jwk::from_spki_der(public.spki_der()).map_err(|error| unusable(&what(), error))?;
        self.verifiers.insert(row.kid.as_str().to_owned(), (jwk.verifying_key(), until));
        self.published.push((row.kid.clone(), jwk));
        Ok(())
    }
}

fn signer(custody: &dyn Custody, row: SigningKeyRow) -> Result<Signer, TrustError> {
    let what = format!("signing key {}", row.kid);
    let pem = custody.unwrap(&what, &row.private)?;
    let pair = KeyPair::from_pem(pem.expose_secret()).map_err(|error| unusable(&what, error))?;
    let key = SigningKey::from_pkcs8_der(&pair.to_pkcs8_der()).map_err(|error| unusable(&what, error))?;
    if key.kid() != row.kid {
        return Err(unusable(&what, "its private key has another kid"));
    }
    Ok(Signer { kid: row.kid, key })
}

fn unusable(what: &str, problem: impl ToString) -> TrustError {
    TrustError::Unusable { what: what.to_owned(), problem: problem.to_string() }
}
