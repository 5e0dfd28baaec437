//! The way back from an update that the Python implementation applied before its database was adopted.

use mastio_core::{Clock, SystemRng};
use mastio_pki::{Certificate, Issuer, KeyPair, profile};
use serde_json::{Map, Value, json};

use super::*;
use crate::rotation::cut;

const NAMES: [&str; 2] = ["alice", "bob"];

/// The database of a Python deployment with two agents, the root of which its update replaced.
struct Left {
    world: World,
    before: Certificate,
    after: Certificate,
    agents: Vec<Holder>,
}

impl Left {
    fn new() -> Self {
        let world = World::new();
        fixture(&world, "adopted-plain.db");
        world.clock.advance(Duration::from_secs(10_000_000));
        let now = world.clock.now();
        let config = |key: &str| world.text(&format!("SELECT value FROM proxy_config WHERE key = '{key}'"));
        let put = |key: &str, value: &str| {
            world.sql(&format!("UPDATE proxy_config SET value = '{value}' WHERE key = '{key}'"));
        };
        let before = Certificate::from_pem(&vector("root")).unwrap();
        let issuer = Issuer::new(before.clone(), KeyPair::from_pem(&vector("root_key")).unwrap()).unwrap();
        let below = Certificate::from_pem(&config("mastio_ca_cert")).unwrap();
        let below = profile::intermediate_again(&issuer, &below, now, &SystemRng).unwrap();
        put("mastio_ca_cert", &below.pem());

        let key = KeyPair::generate_rsa_4096().unwrap();
        let after = profile::successor(&before, &key, before.not_after(), now, &SystemRng).unwrap();
        put("org_ca_cert", &after.pem());
        put("org_ca_key", secrecy::ExposeSecret::expose_secret(&key.to_pkcs8_pem()));
        let root = Issuer::new(after.clone(), key).unwrap();
        let org = config("org_id");
        let (mut agents, mut pinned) = (Vec::new(), Map::new());
        for name in NAMES {
            let id = format!("{org}::{name}");
            let pem = world.text(&format!("SELECT cert_pem FROM internal_agents WHERE agent_id = '{id}'"));
            let held = Certificate::from_pem(&pem).unwrap();
            let resigned = profile::leaf_again(&root, &held, now, &SystemRng).unwrap();
            world.sql(&format!(
                "UPDATE internal_agents SET cert_pem = '{}' WHERE agent_id = '{id}'",
                resigned.pem()
            ));
            let key = KeyPair::from_pem(&config(&format!("agent_key:{id}"))).unwrap();
            agents.push(Holder { id: id.clone(), chain: vec![held, below.clone()], key });
            pinned.insert(id, pem.into());
        }
        let snapshot = json!({
            "org_ca_cert_pem": vector("root"), "org_ca_key_pem": vector("root_key"), "internal_agents": pinned,
        });
        let left = Self { world, before, after, agents };
        left.keep(&snapshot);
        left.world.sql("UPDATE pending_updates SET status = 'applied', applied_at = detected_at");
        left
    }

    fn keep_again(&self, snapshot: &Value) {
        self.world.sql(&format!(
            "INSERT INTO migration_state_backups VALUES ('{PATH_LEN}', '2026-04-23T19:08:12+00:00', '{snapshot}')"
        ));
    }

    fn keep(&self, snapshot: &Value) {
        self.world.sql(&format!("UPDATE migration_state_backups SET snapshot_json = '{snapshot}'"));
    }
}

#[tokio::test]
async fn what_the_existing_system_applied_is_taken_back_and_repaired_here() {
    for settings in [&[][..], &[PASSPHRASE]] {
        let left = Left::new();
        let (world, alice, bob) = (&left.world, &left.agents[0], &left.agents[1]);
        let authority = world.boot(settings).await.unwrap();
        assert_eq!(authority.trust().root, left.after);
        for agent in [alice, bob] {
            assert_eq!(reason(mint_mtls(&authority, &agent.peer()).await).0, 401, "the pin is another one");
        }
        let way_back = authority.plan_roll_back(PATH_LEN).unwrap();
        assert!(way_back.iter().any(|step| step.contains("Python")), "{way_back:?}");
        authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
        let trust = authority.trust();
        assert_eq!((&trust.root, halt(&authority)), (&left.before, None));
        assert!(!trust.trust_file.contains(&left.after.pem()), "nobody has anything by it");
        for agent in [alice, bob] {
            assert_eq!(leaf_of(&row(&authority, agent).await), agent.chain[0]);
            mint_mtls(&authority, &agent.peer()).await.unwrap();
        }
        assert_eq!(reason(authority.roll_back_update(PATH_LEN, &operator()).await), (404, "no_snapshot"));
        leave(authority);

        world.sql("DELETE FROM pending_updates");
        let authority = world.boot(settings).await.unwrap();
        assert_eq!(authority.trust().root, left.before);
        assert_eq!(halt(&authority), Some(Halt::PendingUpdate(PATH_LEN)));
        authority.apply_update(PATH_LEN, None, &operator()).await.unwrap();
        for agent in [alice, bob] {
            mint_mtls(&authority, &agent.peer()).await.unwrap();
            let verdict = strict(&authority, row(&authority, agent).await.certificates.as_deref().unwrap());
            assert!(verdict.contains("OK"), "{verdict}");
        }
    }
}

/// There may be tens of thousands of them.
#[tokio::test]
async fn a_dry_run_does_not_look_at_every_agent() {
    let left = Left::new();
    let authority = left.world.boot(&[]).await.unwrap();
    left.world.sql("UPDATE agent_certs SET not_after = 'z'");
    authority.plan_roll_back(PATH_LEN).unwrap();
    assert_eq!(reason(authority.roll_back_update(PATH_LEN, &operator()).await), (500, "illegal_row"));
}

#[tokio::test]
async fn whoever_came_in_since_goes_on() {
    let left = Left::new();
    let (world, alice, bob) = (&left.world, &left.agents[0], &left.agents[1]);
    let authority = world.boot(&[]).await.unwrap();
    let bob = crate::rotation::reissued(&authority, bob.id.rsplit("::").next().unwrap()).await;
    let key = KeyPair::from_pem(&world.text("SELECT value FROM proxy_config WHERE key = 'org_ca_key'"));
    let root = Issuer::new(left.after.clone(), key.unwrap()).unwrap();
    let carol = KeyPair::generate_p256().unwrap();
    let id = mastio_core::AgentId::parse(&format!("{}::carol", authority.trust().org)).unwrap();
    let spiffe =
        mastio_core::SpiffeId::parse(&format!("spiffe://cullis.local/{}/carol", authority.trust().org));
    let (now, life) = (world.clock.now(), Duration::from_secs(86_400));
    let leaf = profile::agent(&root, &id, &spiffe.unwrap(), carol.spki_der(), life, now, &SystemRng).unwrap();
    let carol = Holder { id: id.to_string(), chain: vec![leaf], key: carol };
    authority.enroll_byoca(&candidate("carol"), &carol.brought(), &operator()).await.unwrap();

    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!(authority.trust().root, left.before);
    for agent in [alice, &bob, &carol] {
        mint_mtls(&authority, &agent.peer()).await.unwrap();
    }
    assert_eq!(leaf_of(&row(&authority, &carol).await), carol.chain[0]);
}

#[tokio::test]
async fn there_is_no_way_back_when_it_leads_elsewhere() {
    let left = Left::new();
    let authority = left.world.boot(&[]).await.unwrap();
    let refused = |why: &'static str| {
        let plan = authority.plan_roll_back(PATH_LEN).unwrap_err();
        assert!(plan.to_string().contains(why), "{plan}");
        mastio_authority::Refusal::reason(&plan)
    };
    let whole = json!({
        "org_ca_cert_pem": vector("root"), "org_ca_key_pem": vector("root_key"), "internal_agents": {},
    });
    let without = |name: &str| {
        let mut snapshot = whole.clone();
        snapshot.as_object_mut().unwrap().remove(name);
        left.keep(&snapshot);
    };
    for name in ["org_ca_cert_pem", "org_ca_key_pem", "internal_agents"] {
        without(name);
        assert_eq!(refused(name), "snapshot_unusable");
    }
    let mut other = whole.clone();
    other["org_ca_key_pem"] =
        secrecy::ExposeSecret::expose_secret(&KeyPair::generate_p256().unwrap().to_pkcs8_pem()).into();
    left.keep(&other);
    assert_eq!(refused("another certificate"), "snapshot_unusable");
    left.world.sql("UPDATE migration_state_backups SET snapshot_json = 'nothing'");
    assert_eq!(refused("no org_ca_cert_pem"), "snapshot_unusable");
    left.keep(&whole);
    authority.plan_roll_back(PATH_LEN).unwrap();
    cut(&authority).await.unwrap();
    assert_eq!(refused("no snapshot"), "no_snapshot");
    left.keep_again(&whole);
    assert_eq!(refused("Org CA is not the one"), "moved_on");
    assert_eq!(reason(authority.roll_back_update(PATH_LEN, &operator()).await), (409, "moved_on"));
}

#[tokio::test]
async fn what_was_left_by_halves_is_said_until_it_is_taken_back() {
    let left = Left::new();
    // It died before it wrote that the update was applied: the row settles here.
    left.world.sql("UPDATE pending_updates SET status = 'pending', applied_at = NULL");
    let authority = left.world.boot(&[]).await.unwrap();
    assert_eq!(authority.trust().by_halves.as_deref(), Some(PATH_LEN));
    left.world.clock.advance(Duration::from_secs(20 * 86_400));
    authority.tidy_updates().await.unwrap();
    authority.roll_back_update(PATH_LEN, &operator()).await.unwrap();
    assert_eq!(authority.trust().by_halves, None);
    for agent in &left.agents {
        mint_mtls(&authority, &agent.peer()).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_cut_short_is_said_with_the_way_out() {
    for settings in [&[][..], &[PASSPHRASE]] {
        let left = Left::new();
        let put = |key: &str, value: &str| {
            left.world.sql(&format!("UPDATE proxy_config SET value = '{value}' WHERE key = '{key}'"));
        };
        put("org_ca_key", &vector("root_key"));
        left.world.sql("UPDATE pending_updates SET status = 'pending', applied_at = NULL");
        for (agent, pem) in left.agents.iter().map(|agent| (&agent.id, agent.chain[0].pem())) {
            left.world
                .sql(&format!("UPDATE internal_agents SET cert_pem = '{pem}' WHERE agent_id = '{agent}'"));
        }
        let refused = left.world.boot(settings).await.unwrap_err().to_string();
        let (_, way_out) = refused.split_once("put it back: ").expect(&refused);
        left.world.sql(way_out.trim_end_matches("(docs/updates.md)"));
        let authority = left.world.boot(settings).await.unwrap();
        assert_eq!(authority.trust().root, left.before);
        authority.apply_update(PATH_LEN, None, &operator()).await.unwrap();
        for agent in &left.agents {
            mint_mtls(&authority, &agent.peer()).await.unwrap();
        }
    }
}
