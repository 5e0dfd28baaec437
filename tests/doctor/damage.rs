//! What is done to a copy, and the code that the doctor must find it by.

use std::{fs, os::unix::fs::PermissionsExt};

use mastio_core::SystemRng;
use mastio_pki::{ServerNames, profile};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{DAY, Sick, acme, alice, another_root, append, config, intermediate_of, key, now, vector};

/// What is done to a copy, under the code that it must be found by.
pub(super) type Damage = (&'static str, fn(&mut Sick<'_>));

pub(super) const CAS: &[Damage] = &[
    ("ca_missing", |sick| sick.sql("DELETE FROM pki_cas WHERE kind = 'intermediate_ca'")),
    ("registry_differs", |sick| {
        let other = another_root();
        let key = other.key().to_pkcs8_pem();
        sick.sql(&format!(
            "UPDATE proxy_config SET value = '{}' WHERE \"key\" = 'org_ca_cert'; \
             UPDATE proxy_config SET value = '{}' WHERE \"key\" = 'org_ca_key'",
            other.certificate().pem(),
            key.expose_secret()
        ));
    }),
    ("registry_row", |sick| {
        let other = another_root();
        sick.sql(&format!(
            "UPDATE pki_cas SET cert_pem = '{}' WHERE kind = 'org_ca'",
            other.certificate().pem()
        ));
    }),
    ("ca_key", |sick| {
        let pem = key().to_pkcs8_pem();
        sick.sql(&format!(
            "UPDATE proxy_config SET value = '{}' WHERE \"key\" = 'mastio_ca_key'",
            pem.expose_secret()
        ));
    }),
    ("chain_broken", |sick| {
        let stray = intermediate_of(&another_root());
        sick.ca(stray.certificate(), "intermediate_ca", "superseded", &[]);
    }),
    ("strict_rules", |sick| sick.ca(&vector("/reference/intermediate"), "intermediate_ca", "staged", &[])),
    ("path_length_zero", |sick| {
        sick.sql("DELETE FROM pki_cas WHERE kind = 'org_ca'");
        sick.ca(&vector("/legacy_pathlen_zero/root"), "org_ca", "active", &[]);
    }),
    ("root_key_kept", |sick| {
        let old = another_root();
        let pem = old.key().to_pkcs8_pem().expose_secret().to_owned();
        sick.ca(old.certificate(), "org_ca", "superseded", &[("private_key", &pem)]);
    }),
    ("link_broken", |sick| {
        let (old, link) = (another_root(), another_root().certificate().pem());
        sick.ca(old.certificate(), "org_ca", "superseded", &[("link_pem", &link)]);
    }),
    ("lineage_broken", |sick| {
        let old = another_root();
        let said = mastio_pki::lineage::vouch(&old, sick.healthy.root.certificate(), now()).unwrap();
        let forged = said.replace("signed-at: 20", "signed-at: 19");
        sick.ca(old.certificate(), "org_ca", "superseded", &[("lineage", &forged)]);
    }),
    ("link_missing", |sick| sick.ca(another_root().certificate(), "org_ca", "superseded", &[])),
    ("lineage_missing", |sick| {
        sick.ca(another_root().certificate(), "org_ca", "superseded", &[("compromised", "1"), ("cut", "1")]);
    }),
    ("other_organisation", |sick| {
        sick.sql("UPDATE proxy_config SET value = 'umbrella' WHERE \"key\" = 'org_id'");
    }),
    ("ends_soon", |sick| {
        sick.place.set("MCP_PROXY_CERT_EXPIRY_WARN_DAYS_ORG_ROOT", "6000");
    }),
    ("rotation_stuck", |sick| sick.rotation("cut", "staged", "NULL")),
    ("rotation_open", |sick| sick.rotation("overlap", "distribute", "NULL")),
    ("rotation_failed", |sick| sick.rotation("cut", "aborted", "'no disk'")),
];

pub(super) const KEYS: &[Damage] = &[
    ("signing_key", |sick| {
        sick.sql("UPDATE mastio_keys SET deprecated_at = '2026-01-01T00:00:00+00:00', expires_at = '2026-01-02T00:00:00+00:00'");
    }),
    ("signing_key_staged", |sick| sick.sql("UPDATE mastio_keys SET activated_at = NULL")),
    ("keys_readable", |_| {}),
    ("keys_bare", |sick| {
        sick.place.set("MCP_PROXY_DB_ENCRYPTION_KEY", "a passphrase that nobody sealed with yet");
    }),
    ("snapshot_readable", |sick| {
        let pem = key().to_pkcs8_pem();
        sick.snapshot(&json!({ "format": 1, "org_ca_key_pem": pem.expose_secret() }));
    }),
    ("update_cut_short", |sick| {
        let (before, other) = (sick.healthy.root.certificate().pem(), another_root().certificate().pem());
        sick.snapshot(&json!({ "org_ca_cert_pem": before, "org_ca_key_pem": "", "internal_agents": {} }));
        sick.sql(&format!("UPDATE proxy_config SET value = '{other}' WHERE \"key\" = 'org_ca_cert'"));
    }),
    ("snapshot_outlived", |sick| {
        let (before, pem) = (another_root().certificate().pem(), key().to_pkcs8_pem());
        sick.snapshot(
            &json!({ "format": 1, "org_ca_cert_pem": before, "org_ca_key_pem": pem.expose_secret() }),
        );
    }),
    ("update_nameless", |sick| {
        sick.sql(
            "INSERT INTO pending_updates (migration_id, detected_at, status) VALUES (x'ff', '', 'pending')",
        );
    }),
    ("update_by_halves", |sick| {
        let before = sick.healthy.root.certificate().pem();
        sick.snapshot(&json!({ "org_ca_cert_pem": before, "org_ca_key_pem": "", "internal_agents": {} }));
        let other = another_root();
        sick.sql("DELETE FROM pki_cas WHERE kind = 'org_ca'");
        sick.ca(other.certificate(), "org_ca", "active", &[]);
    }),
    ("old_archive", |sick| {
        let pem = key().to_pkcs8_pem();
        sick.sql(&format!(
            "CREATE TABLE legacy_pki_archive (key_id TEXT, key_type TEXT, legacy_pem TEXT, archived_at TEXT); \
             INSERT INTO legacy_pki_archive VALUES ('a', 'org_ca', '{}', '2026-01-01')",
            pem.expose_secret()
        ));
    }),
];

pub(super) const FILES: &[Damage] = &[
    ("file_missing", |sick| fs::remove_file(sick.place.path("nginx-certs/org-ca.crt")).unwrap()),
    ("file_differs", |sick| append(&sick.place.path("nginx-certs/org-ca.crt"))),
    ("copy_differs", |sick| append(&sick.place.path("certs/org-id"))),
    ("server_chain", |sick| {
        let pem = key().to_pkcs8_pem();
        sick.place.write("nginx-certs/mastio-server.key", pem.expose_secret());
    }),
    ("server_names", |sick| {
        sick.place.set("MCP_PROXY_NGINX_SAN", "mastio.example.com");
    }),
    ("expired", |sick| {
        let names = ServerNames::from_settings("localhost,127.0.0.1", None).unwrap();
        let (issuer, key, then) = (&sick.healthy.intermediate, key(), now().minus(DAY * 800));
        let leaf = profile::server(issuer, &names, &acme(), key.spki_der(), then, &SystemRng).unwrap();
        let chain = mastio_pki::issued_chain(&leaf, std::slice::from_ref(issuer.certificate()));
        sick.place.write("nginx-certs/mastio-server.crt", chain);
    }),
    ("identity_differs", |sick| {
        let other = json!({ "org_id": "umbrella", "root_spki_sha256": "00" });
        sick.place.write("data/.mastio-identity", other.to_string());
    }),
    ("key_file_open", |sick| {
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(sick.place.path("nginx-certs/mastio-server.key"), open).unwrap();
    }),
    ("root_key_file", |sick| {
        sick.place.write("nginx-certs/org-ca.key", config(&sick.place, "org_ca_key"));
    }),
    ("root_key_file_former", |sick| {
        let former = another_root();
        sick.ca(former.certificate(), "org_ca", "superseded", &[("cut", "1")]);
        sick.place.write("nginx-certs/org-ca.key", former.key().to_pkcs8_pem().expose_secret());
    }),
    ("root_key_file_other", |sick| sick.place.write("nginx-certs/org-ca.key", "whatever it holds")),
];

pub(super) const AGENTS: &[Damage] = &[
    ("agent_unreadable", |sick| {
        sick.sql("UPDATE internal_agents SET cert_pem = 'x' WHERE agent_id = 'acme::bob'");
    }),
    ("agent_facts", |sick| {
        sick.sql(
            "UPDATE agent_certs SET not_after = '2030-01-01T00:00:00+00:00' WHERE agent_id = 'acme::bob'",
        );
    }),
    ("agent_identity", |sick| {
        sick.sql(
            "UPDATE internal_agents SET cert_pem = (SELECT cert_pem FROM internal_agents WHERE agent_id = 'acme::alice') \
             WHERE agent_id = 'acme::bob'",
        );
    }),
    ("agent_revoked", |sick| {
        sick.sql(
            "INSERT INTO revoked_agent_certs SELECT thumbprint, '01', spki_sha256, 1, NULL, agent_id, \
             '2026-01-01T00:00:00+00:00', 'test', not_after FROM agent_certs WHERE agent_id = 'acme::bob'",
        );
    }),
    ("agent_of_former_ca", |sick| {
        let former = intermediate_of(&sick.healthy.root);
        sick.ca(former.certificate(), "intermediate_ca", "superseded", &[("cut", "1")]);
        sick.pin(&alice(&former, now()));
    }),
    ("agent_path", |sick| sick.pin(&alice(&intermediate_of(&another_root()), now()))),
    ("agent_expired", |sick| sick.pin(&alice(&sick.healthy.intermediate, now().minus(DAY * 100)))),
    ("agent_without_certificate", |sick| {
        sick.sql("UPDATE internal_agents SET cert_pem = NULL WHERE agent_id = 'acme::bob'");
    }),
    ("spire_bundle_missing", |sick| {
        sick.sql(
            "UPDATE internal_agents SET enrollment_method = 'spiffe', spiffe_id = 'spiffe://example.org/bob' \
             WHERE agent_id = 'acme::bob'",
        );
    }),
];
