//! What any custody provider must do. Each provider runs the same functions.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::PathBuf, sync::Arc};

use mastio_core::{Clock, OrgId, Rng, Stamp, SystemClock, SystemRng};
use mastio_custody::{CaKey, Custody, CustodyError, Local};
use mastio_pki::{KeyPair, profile};
use mastio_store::{OpenOptions, Store, Unit, keys::CaKind, sqlite::Database};
use secrecy::{ExposeSecret, SecretString};

struct Place {
    store: Store,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/mcp_proxy.db");
        let backups = dir.path().join("backups");
        let now = Stamp::from_unix(1_790_000_000);
        let database = Database::open(&OpenOptions { path: &path, backups: &backups, now }).unwrap().0;
        let org = OrgId::parse("acme").unwrap();
        let store = Store::start(database, org, Arc::new(SystemClock::default()), &SystemRng).unwrap();
        Self { store, path, _dir: dir }
    }

    fn local(&self, passphrase: Option<&str>) -> Local {
        let (clock, rng): (Arc<dyn Clock>, Arc<dyn Rng>) =
            (Arc::new(SystemClock::default()), Arc::new(SystemRng));
        let passphrase = passphrase.map(SecretString::from);
        Local::new(Arc::clone(self.store.database()), passphrase.as_ref(), clock, rng)
    }

    async fn keep(&self, custody: &dyn Custody, ca: &CaKey) {
        let statements = custody.keep(CaKind::Root, ca, Stamp::from_unix(1)).unwrap();
        self.store.submit(Unit::default().write_all(statements)).await.unwrap();
    }

    fn sql(&self, sql: &str) {
        rusqlite::Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
    }
}

const PASSPHRASE: &str = "correct horse battery staple";

fn root() -> CaKey {
    let key = KeyPair::generate_p256().unwrap();
    let org = OrgId::parse("acme").unwrap();
    let certificate = profile::root(&org, &key, SystemClock::default().now(), &SystemRng).unwrap();
    CaKey { certificate, key }
}

async fn keeps_what_it_is_given(passphrase: Option<&str>) {
    let place = Place::new();
    let custody = place.local(passphrase);
    assert_eq!(custody.is_sealed(), passphrase.is_some());
    assert!(custody.load(CaKind::Root).unwrap().is_none(), "nothing yet");
    let ca = root();
    place.keep(&custody, &ca).await;
    let loaded = place.local(passphrase).load(CaKind::Root).unwrap().unwrap();
    assert_eq!(loaded.certificate, ca.certificate);
    assert_eq!(loaded.key.spki_der(), ca.key.spki_der());
    assert!(custody.load(CaKind::Intermediate).unwrap().is_none(), "kinds are apart");
    let again = custody.keep(CaKind::Root, &root(), Stamp::from_unix(2)).unwrap();
    assert!(
        place.store.submit(Unit::default().write_all(again)).await.is_err(),
        "a CA is never written over"
    );
    let next = root();
    let replaced = custody.replace(CaKind::Root, &next, Stamp::from_unix(3)).unwrap();
    place.store.submit(Unit::default().write_all(replaced)).await.unwrap();
    assert_eq!(custody.load(CaKind::Root).unwrap().unwrap().certificate, next.certificate);
    let back = custody.replace(CaKind::Root, &ca, Stamp::from_unix(4)).unwrap();
    place.store.submit(Unit::default().write_all(back)).await.unwrap();
    assert_eq!(custody.load(CaKind::Root).unwrap().unwrap().certificate, ca.certificate, "a way back");
    let secret: SecretString = "a secret".into();
    let wrapped = custody.wrap("it", &secret).unwrap();
    assert_eq!(wrapped.expose_secret().contains("a secret"), passphrase.is_none());
    assert_eq!(custody.unwrap("it", &wrapped).unwrap().expose_secret(), "a secret");
    assert_eq!(
        custody.unwrap("it", &secret).unwrap().expose_secret(),
        "a secret",
        "what was stored bare is read"
    );
    assert!(!format!("{custody:?}{loaded:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn local_in_plaintext() {
    keeps_what_it_is_given(None).await;
}

#[tokio::test]
async fn local_sealed() {
    keeps_what_it_is_given(Some(PASSPHRASE)).await;
}

#[tokio::test]
async fn what_cannot_be_opened_is_an_error_and_never_nothing() {
    let place = Place::new();
    place.keep(&place.local(Some(PASSPHRASE)), &root()).await;
    assert!(matches!(place.local(None).load(CaKind::Root), Err(CustodyError::NoPassphrase { .. })));
    let wrong = place.local(Some("another passphrase")).load(CaKind::Root);
    assert!(matches!(wrong, Err(CustodyError::WrongPassphrase { .. })));
}

#[tokio::test]
async fn halves_and_doubles_are_named() {
    let place = Place::new();
    place.keep(&place.local(None), &root()).await;
    place.sql("UPDATE proxy_config SET value = '' WHERE key = 'org_ca_key'");
    assert!(matches!(place.local(None).load(CaKind::Root), Err(CustodyError::Incomplete { .. })));
    place.sql(&format!(
        "UPDATE proxy_config SET value = '{}' WHERE key = 'org_ca_key'",
        root().key.to_pkcs8_pem().expose_secret()
    ));
    assert!(
        matches!(place.local(None).load(CaKind::Root), Err(CustodyError::Unusable { .. })),
        "another key"
    );
    let sealed = Place::new();
    sealed.keep(&sealed.local(Some(PASSPHRASE)), &root()).await;
    sealed.sql("INSERT INTO pki_key_store SELECT 'twin', key_type, ciphertext, cert_pem, created_at, activated_at, NULL, NULL FROM pki_key_store");
    let twice = sealed.local(Some(PASSPHRASE)).load(CaKind::Root);
    assert!(matches!(twice, Err(CustodyError::Ambiguous { count: 2, .. })));
}

#[tokio::test]
async fn bare_keys_are_sealed_once_there_is_a_passphrase() {
    let place = Place::new();
    let ca = root();
    place.keep(&place.local(None), &ca).await;
    assert!(place.local(None).seal_bare().unwrap().is_empty(), "without a passphrase they stay as they are");
    let sealed = place.local(Some(PASSPHRASE));
    let statements = sealed.seal_bare().unwrap();
    assert_eq!(statements.len(), 1);
    place.store.submit(Unit::default().write_all(statements)).await.unwrap();
    assert!(sealed.seal_bare().unwrap().is_empty());
    assert_eq!(sealed.load(CaKind::Root).unwrap().unwrap().certificate, ca.certificate);
    assert!(matches!(place.local(None).load(CaKind::Root), Err(CustodyError::NoPassphrase { .. })));
}
