//! A rotation that ends after each of its steps: the next start finds the state of before or of after, never between.

use std::{fs, path::Path, sync::Arc, time::Duration};

use mastio_authority::Authority;
use mastio_pki::Certificate;

use crate::{
    rotation::{cut, gets_in, reissued},
    world::*,
};

/// Every transaction of the server writes its mark; from here on only `allowed` of them come through.
const FAIL: &str = "CREATE TABLE steps (taken INTEGER NOT NULL); INSERT INTO steps VALUES (0);
    CREATE TRIGGER count_steps BEFORE UPDATE ON cullis_writer BEGIN
        UPDATE steps SET taken = taken + 1;
        SELECT RAISE(ABORT, 'the machine stopped') FROM steps WHERE taken > allowed;
    END;";

/// A Mastio with an agent, of which the machine stops after `steps` transactions of a rotation.
struct Stopped {
    world: World,
    agent: Holder,
    before: Certificate,
    /// The transactions that a whole rotation takes, if it was not stopped.
    taken: i64,
    /// The files beside the database as they were before the rotation.
    files: Vec<(std::path::PathBuf, Vec<u8>)>,
}

impl Stopped {
    async fn after(steps: i64) -> Self {
        let world = World::new();
        let authority = world.boot(&[]).await.unwrap();
        authority.keep_files().await.unwrap();
        let agent = Holder::created(&authority, "alice").await;
        let before = authority.trust().root.clone();
        let files = files(world.dir.path());
        world.sql(&FAIL.replace("allowed", &steps.to_string()));
        let _ = cut(&authority).await;
        let taken = world.count("SELECT taken FROM steps");
        // Nothing of the rotation runs any more; a writer that works again closes the file properly.
        world.sql("DROP TRIGGER count_steps; DROP TABLE steps");
        let works = async || {
            while authority.store().trouble().is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), works()).await.unwrap();
        leave(authority);
        Self { world, agent, before, taken, files }
    }

    /// The process ended before it wrote a file.
    fn without_files(&self) {
        for (path, bytes) in &self.files {
            fs::write(path, bytes).unwrap();
        }
    }

    async fn starts_again(&self) -> Arc<Authority> {
        let authority = self.world.boot(&[]).await.unwrap();
        authority.keep_files().await.unwrap();
        authority
    }
}

/// What is kept beside the database.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let names = ["data/.mastio-identity", "certs/org-ca.pem", "nginx-certs/org-ca.crt"];
    let more = ["nginx-certs/mastio-server.crt", "nginx-certs/mastio-server.key"];
    let paths = names.into_iter().chain(more).map(|name| dir.join(name));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[tokio::test]
async fn stopped_after_any_step_it_is_either_before_or_after() {
    let whole = Stopped::after(i64::MAX).await.taken;
    assert!(whole >= 2, "staging and switching at least: {whole}");
    let mut switched = Vec::new();
    for steps in 0..=whole {
        for files_written in [true, false] {
            let stopped = Stopped::after(steps).await;
            if !files_written {
                stopped.without_files();
            }
            let authority = stopped.starts_again().await;
            let at = format!("after {steps} of {whole} steps, files written: {files_written}");
            let is_after = authority.trust().root != stopped.before;
            switched.push(is_after);
            let expected = if is_after { Err("ca_rotated") } else { Ok(()) };
            assert_eq!(gets_in(&authority, &stopped.agent).await, expected, "{at}");
            assert_eq!(authority.trust().halt, None, "{at}");
            let world = &stopped.world;
            assert_eq!(world.count("SELECT count(*) FROM pki_rotations WHERE ended_at IS NULL"), 0, "{at}");
            assert_eq!(world.count("SELECT count(*) FROM pki_cas WHERE state = 'staged'"), 0, "{at}");
            assert_eq!(world.count("SELECT count(*) FROM pki_cas WHERE state = 'active'"), 2, "{at}");
            assert_eq!(world.events("org_ca.rotated"), i64::from(is_after), "{at}");
            assert_eq!(world.events("org_ca.rotation_failed"), i64::from(!is_after && steps > 0), "{at}");
            let held = "SELECT count(*) FROM pki_cas WHERE private_key IS NOT NULL";
            assert_eq!(world.count(held), i64::from(is_after), "{at}: a superseded intermediate's alone");
            assert!(mint_mtls(&authority, &reissued(&authority, "alice").await.peer()).await.is_ok(), "{at}");
            cut(&authority).await.unwrap_or_else(|error| panic!("{at}: the next one: {error}"));
        }
    }
    assert!(switched.is_sorted() && switched.contains(&false) && switched.contains(&true), "{switched:?}");
}

#[tokio::test]
async fn a_disk_that_takes_no_files_does_not_keep_the_new_root_from_being_served() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    authority.keep_files().await.unwrap();
    let folder = world.dir.path().join("nginx-certs");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    authority.keep_files().await.unwrap_err();
    cut(&authority).await.unwrap();
    let serving = || authority.tls_files().serving().unwrap().chain;
    let issuer = authority.trust().server_issuer.clone().unwrap();
    assert_eq!(&serving()[1], issuer.certificate(), "what is served");
    assert!(authority.tls_files().trouble().is_some(), "and it is told");
    std::fs::remove_file(&folder).unwrap();
    cut(&authority).await.unwrap();
    assert!(authority.tls_files().trouble().is_none(), "another trust file does not wait for the back-off");
    assert!(std::fs::read_to_string(folder.join("org-ca.crt")).is_ok());
}
