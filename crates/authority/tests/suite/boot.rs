//! Starting: what is minted, what is taken over, and what is never minted over.

use std::fs;

use crate::world::*;
use mastio_authority::boot::BootError;
use mastio_core::{Clock, OrgId, SystemRng};
use mastio_pki::{KeyPair, profile};
use mastio_store::{agents::AgentRow, audit, revocations};
use secrecy::ExposeSecret;

const PASSPHRASE: (&str, &str) = ("MCP_PROXY_DB_ENCRYPTION_KEY", "fixture-passphrase-0123456789abcdef");

#[tokio::test]
async fn a_restart_changes_nothing() {
    for more in [&[][..], &[PASSPHRASE]] {
        let world = World::new();
        let first = world.boot(more).await.unwrap();
        let (root, kid) = (first.trust().root.clone(), first.trust().signer.as_ref().unwrap().kid.clone());
        let trust_file = first.trust().trust_file.clone();
        leave(first);
        let again = world.boot(more).await.unwrap();
        assert_eq!(again.trust().root, root);
        assert_eq!(again.trust().signer.as_ref().unwrap().kid, kid);
        assert_eq!(fs::read_to_string(world.dir.path().join("certs/org-ca.pem")).unwrap(), trust_file);
    }
}

#[tokio::test]
async fn the_active_cas_are_in_the_registry_once_and_nobody_may_disagree() {
    let world = World::new();
    leave(world.boot(&[]).await.unwrap());
    leave(world.boot(&[]).await.unwrap());
    assert_eq!(world.count("SELECT count(*) FROM pki_cas WHERE state = 'active' AND private_key IS NULL"), 2);
    world.sql("UPDATE pki_cas SET thumbprint = replace(thumbprint, substr(thumbprint, 1, 4), 'dead') WHERE kind = 'org_ca'");
    let refused = world.boot(&[]).await.unwrap_err();
    assert!(matches!(refused, BootError::OtherCa { kind: "org_ca", .. }), "{refused}");
    world.sql("DELETE FROM pki_cas");
    assert!(world.boot(&[]).await.is_ok(), "a database of before the registry");
}

#[tokio::test]
async fn keys_at_rest_are_sealed_when_there_is_a_passphrase() {
    let world = World::new();
    let authority = world.boot(&[PASSPHRASE]).await.unwrap();
    Holder::created(&authority, "alice").await;
    leave(authority);
    let path = world.dir.path().join("data/mcp_proxy.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM proxy_config WHERE value LIKE '%PRIVATE KEY%'"), 0);
    assert_eq!(count("SELECT count(*) FROM mastio_keys WHERE privkey_pem LIKE '%PRIVATE KEY%'"), 0);
    assert!(count("SELECT length(value) FROM proxy_config WHERE key = 'org_ca_key'") > 0);
    let refused = world.boot(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("MCP_PROXY_DB_ENCRYPTION_KEY is not set"), "{refused}");
    let refused = world.boot(&[("MCP_PROXY_DB_ENCRYPTION_KEY", "another passphrase 0123456789")]).await;
    assert!(refused.unwrap_err().to_string().contains("does not open"));
    assert!(world.boot(&[PASSPHRASE]).await.is_ok());
}

#[tokio::test]
async fn a_new_root_is_never_minted_over_evidence() {
    let world = World::new();
    leave(world.boot(&[]).await.unwrap());
    fs::remove_file(world.dir.path().join("data/mcp_proxy.db")).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(world.dir.path().join(format!("data/mcp_proxy.db{suffix}")));
    }
    let refused = world.boot(&[]).await.unwrap_err();
    assert!(matches!(refused, BootError::RootLost { .. }), "{refused}");
    fs::remove_file(world.dir.path().join("data/.mastio-identity")).unwrap();
    fs::create_dir_all(world.dir.path().join("nginx-certs")).unwrap();
    fs::copy(world.dir.path().join("certs/org-ca.pem"), world.dir.path().join("nginx-certs/org-ca.crt"))
        .unwrap();
    assert!(matches!(world.boot(&[]).await, Err(BootError::RootLost { .. })));
    fs::remove_file(world.dir.path().join("nginx-certs/org-ca.crt")).unwrap();
    assert!(world.boot(&[]).await.is_ok(), "with no evidence left it begins anew");
}

#[tokio::test]
async fn rows_that_were_written_are_evidence_too() {
    let world = World::new();
    leave(world.boot(&[]).await.unwrap());
    let connection = rusqlite::Connection::open(world.dir.path().join("data/mcp_proxy.db")).unwrap();
    connection.execute_batch("DELETE FROM proxy_config; DELETE FROM internal_agents").unwrap();
    drop(connection);
    fs::remove_file(world.dir.path().join("data/.mastio-identity")).unwrap();
    let refused = world.boot(&[]).await.unwrap_err().to_string();
    assert!(refused.contains("mastio_keys") && refused.contains("local_audit"), "{refused}");
}

#[tokio::test]
async fn a_lost_database_leaves_its_place_free_for_the_backup() {
    let world = World::new();
    leave(world.boot(&[]).await.unwrap());
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(world.dir.path().join(format!("data/mcp_proxy.db{suffix}")));
    }
    assert!(matches!(world.boot(&[]).await, Err(BootError::RootLost { .. })));
    assert!(!world.dir.path().join("data/mcp_proxy.db").exists());
}

#[tokio::test]
async fn another_database_under_the_same_identity_is_refused() {
    let (world, other) = (World::new(), World::new());
    leave(world.boot(&[]).await.unwrap());
    leave(other.boot(&[]).await.unwrap());
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("data/mcp_proxy.db{suffix}");
        let _ = fs::remove_file(world.dir.path().join(&name));
        let _ = fs::copy(other.dir.path().join(&name), world.dir.path().join(&name));
    }
    assert!(matches!(world.boot(&[]).await, Err(BootError::OtherIdentity { .. })));
    let pinned = [("MCP_PROXY_ORG_ID", "somebody-else")];
    assert!(matches!(other.boot(&pinned).await, Err(BootError::OtherOrg { .. })));
}

#[tokio::test]
async fn a_key_pair_beside_the_tls_files_is_taken_over() {
    let world = World::new();
    let key = KeyPair::generate_p256().unwrap();
    let root = profile::root(&OrgId::parse("acme").unwrap(), &key, world.clock.now(), &SystemRng).unwrap();
    let tls = world.dir.path().join("nginx-certs");
    fs::create_dir_all(&tls).unwrap();
    fs::write(tls.join("org-ca.crt"), root.pem()).unwrap();
    fs::write(tls.join("org-ca.key"), key.to_pkcs8_pem().expose_secret()).unwrap();
    let authority = world.boot(&[("MCP_PROXY_ORG_ID", "acme")]).await.unwrap();
    assert_eq!(authority.trust().root, root);
    assert_eq!(authority.trust().org.as_str(), "acme");
}

#[tokio::test]
async fn adopted_databases_serve_their_agents() {
    for (name, org, more) in [
        ("adopted-plain.db", "98cb713aa86714a1", &[][..]),
        ("adopted-plain.db", "98cb713aa86714a1", &[PASSPHRASE]),
        ("adopted-encrypted.db", "d49479eca420b99d", &[PASSPHRASE]),
    ] {
        let world = World::new();
        fixture(&world, name);
        // The fixtures' certificates were made on 2026-11-22.
        world.clock.advance(std::time::Duration::from_secs(10_000_000));
        let authority = world.boot(more).await.unwrap();
        assert_eq!(authority.trust().org.as_str(), org);
        assert!(!authority.audit_chain_is_broken());
        let row = fleet(&authority).await.into_iter().find(|row| row.display_name == "Alice").unwrap();
        let chain = mastio_pki::pem::certificates(row.certificates.as_deref().unwrap()).unwrap();
        assert_eq!(chain.len(), 1, "the reference stored a lone leaf");
        let key = KeyPair::generate_p256().unwrap();
        let alice = Holder { id: row.id.to_string(), chain, key };
        let pinned = authority.certificate(&alice.peer()).await.unwrap();
        let signed = authority.sign_for(&pinned, "r").await.unwrap();
        assert_eq!(signed.agent_id, row.id, "its plaintext key still signs");
        Holder::created(&authority, "carol").await;
        let findings = audit::verify_file(&world.dir.path().join("data/mcp_proxy.db"), &mut |_| {}).unwrap();
        assert!(findings.iter().all(|finding| finding.result.is_ok()));
        leave(authority);
        let connection = rusqlite::Connection::open(world.dir.path().join("data/mcp_proxy.db")).unwrap();
        let sealed: i64 = connection
            .query_row(
                "SELECT count(*) FROM local_audit WHERE event_type = 'audit.legacy_chain_sealed'",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(sealed, 2, "audit_log and __system__ are covered, once");
        drop(connection);
        leave(world.boot(more).await.unwrap());
    }
}

#[tokio::test]
async fn whom_the_existing_system_revoked_stays_out_with_certificate_and_key() {
    let world = World::new();
    fixture(&world, "adopted-plain.db");
    world.clock.advance(std::time::Duration::from_secs(10_000_000));
    let connection = rusqlite::Connection::open(world.dir.path().join("data/mcp_proxy.db")).unwrap();
    connection
        .execute_batch(
            "UPDATE internal_agents SET revoked_at = '2026-11-22 01:51:01.718073+00:00', \
                 revoked_reason = 'insufficient_compliance';
             UPDATE internal_agents SET is_active = 0 WHERE display_name = 'Alice'",
        )
        .unwrap();
    drop(connection);
    let authority = world.boot(&[]).await.unwrap();
    let of = |row: &AgentRow| {
        mastio_pki::pem::certificates(row.certificates.as_deref().unwrap()).unwrap().swap_remove(0)
    };
    let rows = fleet(&authority).await;
    let (alice, bob) = (&rows[0], &rows[1]);
    let (alice, bob) = if alice.display_name == "Alice" { (alice, bob) } else { (bob, alice) };
    let leaf = of(alice);
    assert!(authority.registry().is_revoked(&leaf.thumbprint()));
    let spki = hex::encode(leaf.spki_sha256());
    assert!(revocations::key_is_revoked(authority.store().database(), &spki).unwrap());
    let again = authority.revoke(&alice.id, None, &operator()).await.unwrap();
    assert!(again.already && again.reason == "insufficient_compliance" && again.ended.certificates == 1);

    // Bob came in again after a revocation of which the existing system kept the time.
    assert!(!authority.registry().is_revoked(&of(bob).thumbprint()));
    authority.deactivate(&bob.id, &operator()).await.unwrap();
    authority.reactivate(&bob.id, &operator()).await.unwrap();
    authority.deactivate(&bob.id, &operator()).await.unwrap();
    let first = authority.revoke(&bob.id, None, &operator()).await.unwrap();
    assert!(!first.already && authority.registry().is_revoked(&of(bob).thumbprint()));
    leave(authority);
}

#[tokio::test]
async fn another_organisations_database_is_refused_before_it_is_adopted() {
    let world = World::new();
    fixture(&world, "adopted-plain.db");
    let path = world.dir.path().join("data/mcp_proxy.db");
    let before = fs::read(&path).unwrap();
    let refused = world.boot(&[("MCP_PROXY_ORG_ID", "somebody-else")]).await.unwrap_err();
    assert!(matches!(refused, BootError::OtherOrg { .. }), "{refused}");
    assert!(refused.to_string().contains("98cb713aa86714a1"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!world.dir.path().join("backups").exists());
}

/// Rows that were written without a place in the chain, of our organisation and of none, are covered from then on.
#[tokio::test]
async fn rows_outside_the_chain_are_sealed_whosever_they_are() {
    let world = World::new();
    fixture(&world, "adopted-plain.db");
    world.clock.advance(std::time::Duration::from_secs(10_000_000));
    world.sql(
        "INSERT INTO local_audit (timestamp, event_type, org_id) VALUES
            ('2026-01-01T00:00:00+00:00', 'message_sent', '98cb713aa86714a1'),
            ('2026-01-01T00:00:01+00:00', 'message_sent', NULL)",
    );
    let authority = world.boot(&[]).await.unwrap();
    let sealed = told(&authority, "audit.legacy_chain_sealed").await;
    for chain in ["98cb713aa86714a1", "local_audit"] {
        let named = |text: &&String| text.contains(&format!("\"chain\":\"{chain}\""));
        let text = sealed.iter().find(named).unwrap_or_else(|| panic!("{chain}: {sealed:?}"));
        assert!(text.contains("\"unchained_rows\":1"), "{text}");
    }
    assert_eq!(sealed.len(), 4, "and audit_log and __system__");
    leave(authority);

    // What was sealed cannot be changed, cut off or taken away; what a rolled-back system adds is no break.
    let file = world.dir.path().join("data/mcp_proxy.db");
    let broken = || {
        let findings = audit::verify_file(&file, &mut |_| ()).unwrap();
        let broken = findings.into_iter().filter(|finding| finding.result.is_err());
        broken.map(|finding| finding.chain).collect::<Vec<_>>()
    };
    world
        .sql("INSERT INTO local_audit (timestamp, event_type) VALUES ('2026-01-02T00:00:00+00:00', 'later')");
    assert_eq!(broken(), Vec::<String>::new());
    world.sql(
        "DROP TRIGGER local_audit_no_update; DROP TRIGGER local_audit_no_delete; DROP TRIGGER audit_log_no_update;
         DROP TRIGGER audit_log_no_delete",
    );
    for (sql, chain) in [
        (
            "UPDATE local_audit SET event_type = 'x' WHERE chain_seq IS NULL AND org_id IS NOT NULL",
            "98cb713aa86714a1",
        ),
        ("DELETE FROM local_audit WHERE org_id IS NULL", "local_audit"),
        ("UPDATE audit_log SET detail = 'x' WHERE chain_seq IS NULL", "audit_log"),
    ] {
        world.sql(sql);
        assert!(broken().iter().any(|broken| broken == chain), "{sql}: {:?}", broken());
    }
    world.sql("DELETE FROM local_audit WHERE org_id = '__system__'");
    assert!(broken().contains(&"__system__".to_owned()), "a chain that was there is missed");
}

#[tokio::test]
async fn a_chain_that_was_broken_before_the_adoption_stays_known() {
    let world = World::new();
    fixture(&world, "adopted-plain.db");
    world.clock.advance(std::time::Duration::from_secs(10_000_000));
    let connection = rusqlite::Connection::open(world.dir.path().join("data/mcp_proxy.db")).unwrap();
    connection.execute_batch("DROP TRIGGER local_audit_no_update; UPDATE local_audit SET details = '{}' WHERE chain_seq = 2 AND org_id = '98cb713aa86714a1'").unwrap();
    drop(connection);
    for _ in 0..2 {
        let authority = world.boot(&[]).await.unwrap();
        assert!(authority.audit_chain_is_broken());
        leave(authority);
    }
}

#[tokio::test]
async fn a_changed_admin_secret_is_noticed() {
    let world = World::new();
    leave(world.boot(&[]).await.unwrap());
    let new = "fedcba9876543210fedcba9876543210";
    let authority = world.boot(&[("MCP_PROXY_ADMIN_SECRET", new)]).await.unwrap();
    assert!(authority.operator(Some(new.as_bytes()), address()).is_ok());
    assert!(authority.operator(Some(SECRET.as_bytes()), address()).is_err());
    leave(authority);
    assert_eq!(world.events("admin.secret_rebootstrapped"), 1);
}

#[tokio::test]
async fn the_name_of_an_operator_is_of_secret_and_installation_and_gives_no_secret_away() {
    let (world, elsewhere, new) = (World::new(), World::new(), "fedcba9876543210fedcba9876543210");
    let name = async |world: &World, secret: &str| {
        let authority = world.boot(&[("MCP_PROXY_ADMIN_SECRET", secret)]).await.unwrap();
        let operator = authority.operator(Some(secret.as_bytes()), address()).unwrap();
        leave(authority);
        operator.fingerprint
    };
    let first = name(&world, SECRET).await;
    let digits = first.strip_prefix("operator:").unwrap();
    assert!(digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{first}");
    assert!(!hex::encode(mastio_core::sha256(SECRET.as_bytes())).starts_with(digits));
    assert_eq!(name(&world, SECRET).await, first);
    assert_ne!(name(&elsewhere, SECRET).await, first);
    assert_ne!(name(&world, new).await, first);
}

#[tokio::test]
async fn a_root_with_path_length_zero_halts_signing_or_strictly_refuses() {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pki-vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&fs::read(vectors).unwrap()).unwrap();
    let legacy = |name: &str| vectors["legacy_pathlen_zero"][name].as_str().unwrap().to_owned();
    let world = World::new();
    // The vector was made on 2026-11-22.
    world.clock.advance(std::time::Duration::from_secs(10_000_000));
    let tls = world.dir.path().join("nginx-certs");
    fs::create_dir_all(&tls).unwrap();
    fs::write(tls.join("org-ca.crt"), legacy("root")).unwrap();
    fs::write(tls.join("org-ca.key"), legacy("root_key")).unwrap();
    let strict = [("MCP_PROXY_STRICT_PKI", "1")];
    assert!(matches!(world.boot(&strict).await, Err(BootError::StrictPki)), "nothing was taken over");
    let authority = world.boot(&[]).await.unwrap();
    assert!(authority.trust().halt.is_some());
    assert_eq!(authority.metrics.legacy_pathlen_zero.get(), 1);
    leave(authority);
    let refused = world.boot(&strict).await.unwrap_err().to_string();
    assert!(refused.starts_with("MCP_PROXY_STRICT_PKI=1 refuses boot on legacy Org CA"), "{refused}");
    let ways = ["mastio pki updates apply 2026-04-23-org-ca-pathlen-1", "cullis-proxy rotate-org-ca"];
    let [keeps, cuts] = ways.map(|way| refused.find(way).unwrap_or_else(|| panic!("{way}: {refused}")));
    assert!(keeps < cuts, "the way that keeps the agents comes first: {refused}");
}

#[tokio::test]
async fn files_with_keys_are_for_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    fixture(&world, "adopted-plain.db");
    world.clock.advance(std::time::Duration::from_secs(10_000_000));
    leave(world.boot(&[]).await.unwrap());
    let fresh = World::new();
    let authority = fresh.boot(&[]).await.unwrap();
    authority.keep_files().await.unwrap();
    let copies = fs::read_dir(world.dir.path().join("backups")).unwrap().map(|entry| entry.unwrap().path());
    let copy = copies.map(|folder| folder.join("mcp_proxy.db")).next().unwrap();
    let database = fresh.dir.path().join("data/mcp_proxy.db");
    for path in [copy, database, fresh.dir.path().join("nginx-certs/mastio-server.key")] {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}
