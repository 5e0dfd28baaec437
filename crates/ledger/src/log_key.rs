//! The log's name and the key that signs its checkpoints (design decision 17).
//!
//! Both are made at the first start and kept. The key is not the one that signs tokens: verifiers of the log know it
//! for years, and a rotation of the other leaves it alone. The other vouches for it in the announcement, and whatever takes
//! its place does so again: whoever trusts the root of today finds the log below it.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use mastio_audit::note::{KeyKind, Name, NoteError, NoteKey, NoteSigner};
use mastio_authority::{
    Outage, Refusal,
    trust::{Signer, Trust},
};
use mastio_config::Settings;
use mastio_core::{Event, Kid, OrgId, Rng, Stamp, event::catalogue};
use mastio_custody::{Custody, CustodyError};
use mastio_jose::{Compact, JwsError, SigningError, jws};
use mastio_pki::pem;
use mastio_store::{
    ReadError, Unit,
    audit::{
        origins::{self, OriginRow},
        tree,
    },
    sqlite::Database,
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use crate::Ledger;

/// What custody calls the key in its errors.
const WHAT: &str = "audit-log-key";

/// The `typ` of an announcement.
pub const ANNOUNCEMENT_TYPE: &str = "mastio-log-key+jwt";

/// Why there is no key to sign checkpoints with.
#[derive(Debug, thiserror::Error)]
pub enum LogKeyError {
    /// The stored one does not open.
    #[error("{0}")]
    Custody(#[from] CustodyError),
    /// The stored one is not what its row says, or the origin cannot be one.
    #[error("the key or the origin of the audit log cannot be used: {0}")]
    Note(#[from] NoteError),
    /// It cannot be announced.
    #[error("the key of the audit log cannot be announced: {0}")]
    Announce(#[from] SigningError),
    /// There is no key that could announce it.
    #[error(
        "the audit log has no key yet, because there is no signing key to announce it; see the start of the log"
    )]
    NoSigner,
    /// The tree is not begun although there is a key, or it does not begin where that key was announced for.
    #[error(
        "audit_tree does not begin where the log's key was announced for; stop the server and run mastio audit rebuild-tree"
    )]
    NoTree,
    /// The announcement cannot be read.
    #[error("the announcement of the log's key cannot be read ({0}); restore the newest backup")]
    Announcement(#[from] JwsError),
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl From<ReadError> for LogKeyError {
    fn from(error: ReadError) -> Self {
        Self::Outage(error.into())
    }
}

impl Refusal for LogKeyError {
    fn status(&self) -> u16 {
        match self {
            Self::NoSigner => 503,
            Self::Outage(outage) => outage.status(),
            _ => 500,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoSigner => "no_signing_key",
            Self::Outage(outage) => outage.reason(),
            _ => "log_key_unusable",
        }
    }
}

/// A generation of the log: under which name and key checkpoints are signed.
pub struct LogKey {
    /// From 1; each accepted restore begins the next.
    pub generation: u64,
    /// The `chain_seq` of the tree's first leaf.
    pub base_seq: u64,
    /// Compact JWS by the signing key of then: `{iss, origin, vkey, base_seq, since, iat}`.
    pub announcement: String,
    said: Announcement,
    /// Since when it signs.
    pub started_at: Stamp,
    signer: NoteSigner,
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogKey").field("vkey", &self.vkey().to_string()).finish_non_exhaustive()
    }
}

impl LogKey {
    /// The public key.
    #[must_use]
    pub fn vkey(&self) -> &NoteKey {
        self.signer.key()
    }

    /// The name of the log.
    #[must_use]
    pub fn origin(&self) -> &Name {
        self.vkey().name()
    }

    /// What signs checkpoints.
    pub(crate) fn signer(&self) -> &NoteSigner {
        &self.signer
    }

    /// The generation that `origin` is of this log; `None` when it is another log's.
    #[must_use]
    pub fn generation_of(&self, origin: &Name) -> Option<u64> {
        let rest = origin.as_str().strip_prefix(first_name(self.origin(), self.generation))?;
        match rest.strip_prefix('/') {
            None => rest.is_empty().then_some(1),
            Some(number) => mastio_audit::proof::decimal(number).filter(|number| *number > 1),
        }
    }

    /// The newest generation that is stored; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn stored(database: &Database, custody: &dyn Custody) -> Result<Option<Self>, LogKeyError> {
        let Some(row) = origins::all(database)?.into_iter().next() else { return Ok(None) };
        let pem = custody.unwrap(WHAT, &row.log_key)?;
        let der = pem::private_key(pem.expose_secret()).map_err(|_| NoteError::Key)?;
        let signer = NoteSigner::from_pkcs8(KeyKind::Log, row.vkey.name().clone(), der.secret_der())?;
        if *signer.key() != row.vkey {
            return Err(NoteError::Key.into());
        }
        let said = Announcement::read(&row.announcement)?;
        if tree::stored(database)?.is_none_or(|tree| tree.base_seq != said.base_seq) {
            return Err(LogKeyError::NoTree);
        }
        Ok(Some(Self {
            generation: row.generation,
            base_seq: said.base_seq,
            announcement: row.announcement,
            said,
            started_at: row.started_at,
            signer,
        }))
    }
}

/// What an announcement says, and who. Nothing of it is verified.
pub(crate) struct Announcement {
    /// The `chain_seq` of the tree's first leaf.
    pub(crate) base_seq: u64,
    by: Option<Kid>,
    at: Stamp,
}

impl Announcement {
    pub(crate) fn read(announcement: &str) -> Result<Self, JwsError> {
        #[derive(Deserialize)]
        struct Claims {
            base_seq: u64,
            iat: i64,
        }
        let compact = Compact::split(announcement)?;
        let Claims { base_seq, iat } = compact.claims()?;
        Ok(Self { base_seq, by: compact.header()?.kid().map(Kid::from_text), at: Stamp::from_unix(iat) })
    }
}

/// The name of the first generation, out of that of another.
fn first_name(origin: &Name, generation: u64) -> &str {
    let own = format!("/{generation}");
    origin.as_str().strip_suffix(own.as_str()).filter(|_| generation > 1).unwrap_or(origin.as_str())
}

/// The name of generation `generation` of the log that `key` is of.
pub(crate) fn name_of(key: &LogKey, generation: u64) -> Result<Name, NoteError> {
    Name::parse(&format!("{}/{generation}", first_name(key.origin(), key.generation)))
}

/// What a log is called that has no name yet.
fn origin_of(settings: &Settings, org: &OrgId) -> Result<Name, NoteError> {
    if let Some(origin) = &settings.audit.origin {
        return Name::parse(origin);
    }
    let host = settings.public_url.as_ref().and_then(|url| {
        let host = url.host_str()?;
        Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    });
    Name::parse(&format!("{}/audit", host.as_deref().unwrap_or(org.as_str())))
}

/// What a new generation is made with.
pub(crate) struct Maker<'a> {
    pub(crate) org: &'a OrgId,
    pub(crate) signer: &'a Signer,
    pub(crate) custody: &'a dyn Custody,
    pub(crate) rng: &'a dyn Rng,
    pub(crate) now: Stamp,
}

impl Maker<'_> {
    /// A unit that begins a generation with a fresh key and tells it.
    pub(crate) fn begin(&self, generation: u64, origin: Name, base_seq: u64) -> Result<Unit, LogKeyError> {
        let key = NoteSigner::generate(KeyKind::Log, origin, self.rng)?;
        let pem: SecretString = pem::encode("PRIVATE KEY", &key.to_pkcs8()?).into();
        let row = OriginRow {
            generation,
            vkey: key.key().clone(),
            log_key: self.custody.wrap(WHAT, &pem)?,
            announcement: self.announce(key.key(), base_seq, self.now)?,
            started_at: self.now,
        };
        let unit = Unit::of(told(&row.vkey, base_seq, row.announcement.clone()));
        Ok(unit.write(row.insert()))
    }

    /// Has the present signing key vouch for a generation that another vouched for.
    fn again(&self, unit: Unit, row: &OriginRow) -> Result<Unit, LogKeyError> {
        let base_seq = Announcement::read(&row.announcement)?.base_seq;
        let announcement = self.announce(&row.vkey, base_seq, row.started_at)?;
        Ok(unit.write(row.announce(&announcement)).tell(told(&row.vkey, base_seq, announcement)))
    }

    fn announce(&self, vkey: &NoteKey, base_seq: u64, since: Stamp) -> Result<String, SigningError> {
        let header = json!({ "alg": "ES256", "kid": self.signer.kid, "typ": ANNOUNCEMENT_TYPE });
        let claims = json!({
            "iss": self.org,
            "origin": vkey.name().as_str(),
            "vkey": vkey.to_string(),
            "base_seq": base_seq,
            "since": since.unix(),
            "iat": self.now.unix(),
        });
        jws::sign(&self.signer.key, &header, &claims)
    }
}

fn told(vkey: &NoteKey, base_seq: u64, announcement: String) -> Event {
    let (origin, vkey) = (vkey.name().to_string(), vkey.to_string());
    Event::new(&catalogue::LogKeyAnnounced { origin, vkey, base_seq, announcement })
}

/// The key of the newest generation, once it was loaded.
#[derive(Debug, Default)]
pub(crate) struct KeyCell {
    loaded: ArcSwapOption<LogKey>,
    making: tokio::sync::Mutex<()>,
}

impl KeyCell {
    pub(crate) fn get(&self) -> Option<Arc<LogKey>> {
        self.loaded.load_full()
    }

    /// Somebody else may have begun another generation: it is loaded when it is needed next.
    pub(crate) fn forget(&self) {
        self.loaded.store(None);
    }
}

impl Ledger {
    /// The key of the newest generation, announced by what signs tokens now. The first time of all it is made.
    ///
    /// # Errors
    /// When the stored one cannot be used, or none can be made.
    pub async fn log_key(&self) -> Result<Arc<LogKey>, LogKeyError> {
        let announced = |key: &Arc<LogKey>| self.is_announced(key);
        if let Some(key) = self.log.key.get().filter(announced) {
            return Ok(key);
        }
        let _one = self.log.key.making.lock().await;
        if let Some(key) = self.log.key.get().filter(announced) {
            return Ok(key);
        }
        let stored = self.stored_key().await?;
        match &stored {
            None => self.make_first_key().await?,
            Some(key) if self.is_announced(key) => {}
            Some(_) => self.announce_again().await?,
        }
        let key = match stored {
            Some(key) if self.is_announced(&key) => key,
            _ => self.stored_key().await?.ok_or(LogKeyError::NoTree)?,
        };
        let key = Arc::new(key);
        self.log.key.loaded.store(Some(Arc::clone(&key)));
        Ok(key)
    }

    async fn stored_key(&self) -> Result<Option<LogKey>, LogKeyError> {
        let custody = Arc::clone(self.authority.custody());
        self.reading(move |database| LogKey::stored(database, custody.as_ref())).await
    }

    fn is_announced(&self, key: &LogKey) -> bool {
        let (said, now) = (&key.said, self.authority.clock().now());
        self.authority.trust().vouches_for(said.by.as_ref(), said.at, now)
    }

    fn maker<'a>(&'a self, trust: &'a Trust) -> Result<Maker<'a>, LogKeyError> {
        Ok(Maker {
            org: &trust.org,
            signer: trust.signer.as_deref().ok_or(LogKeyError::NoSigner)?,
            custody: self.authority.custody().as_ref(),
            rng: self.authority.rng().as_ref(),
            now: self.authority.clock().now(),
        })
    }

    /// Every generation, since the names before the last restore are proved by theirs.
    async fn announce_again(&self) -> Result<(), LogKeyError> {
        let trust = self.authority.trust();
        let maker = self.maker(&trust)?;
        let rows = self.reading(|database| Ok::<_, LogKeyError>(origins::all(database)?)).await?;
        // The newest last: it is the one that is found in the log.
        let unit = rows.iter().rev().try_fold(Unit::default(), |unit, row| maker.again(unit, row))?;
        self.begun(unit).await
    }

    async fn make_first_key(&self) -> Result<(), LogKeyError> {
        let (authority, trust) = (&self.authority, self.authority.trust());
        let maker = self.maker(&trust)?;
        let org = trust.org.clone();
        let bounds =
            self.reading(move |database| Ok::<_, LogKeyError>(tree::bounds(database, &org)?)).await?;
        let base_seq = bounds.map_or(1, |(first, _)| first);
        let origin = origin_of(&authority.settings, &trust.org)?;
        self.begun(maker.begin(1, origin, base_seq)?.write(tree::begin(base_seq))).await
    }

    async fn begun(&self, unit: Unit) -> Result<(), LogKeyError> {
        match self.authority.commit(unit).await.map_err(Outage::from) {
            // Another process did the same at the same time: that counts.
            Ok(_) | Err(Outage::Contended) => Ok(()),
            Err(outage) => Err(outage.into()),
        }
    }
}
