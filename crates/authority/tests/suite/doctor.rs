//! What the doctor says of a rotation with overlap, while it is open and after it was given up, and of the key file that a
//! first start took the Org CA from.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use mastio_authority::{
    Authority,
    doctor::{self, Diagnosis, Level, Patient},
};
use mastio_core::Clock;
use mastio_pki::KeyPair;
use mastio_store::rotations::Phase;
use secrecy::ExposeSecret;

use crate::{
    overlap::{DAY, Scene, brought},
    updates::{PATH_LEN, halted, legacy},
    world::*,
};

fn diagnose(world: &World, authority: &Authority) -> Diagnosis {
    let patient = Patient {
        settings: &authority.settings,
        database: authority.store().database(),
        custody: authority.custody().as_ref(),
        org: &authority.trust().org,
        served: true,
        now: world.clock.now(),
    };
    doctor::examine(&patient, &mut |_, _| {}).unwrap()
}

#[tokio::test]
async fn while_an_overlap_is_open_it_says_what_that_still_needs() {
    let (mut scene, authority) = Scene::new().await;
    brought(&authority, &scene.world, "carol").await;
    // Its certificate counts, and not how it came in.
    scene
        .world
        .sql("UPDATE internal_agents SET enrollment_method = 'connector' WHERE agent_id LIKE '%::carol'");
    let before = diagnose(&scene.world, &authority).outlook.rotations;
    let told: Vec<_> = before.iter().map(|told| (told.of, told.by_hand, told.waits_for)).collect();
    assert_eq!(told, [("cut", 1, None), ("overlap", 1, None), ("intermediate", 0, None)]);
    assert!(before[1].means.contains("1 that brought its certificate"), "{}", before[1].means);

    let rotation = scene.begin(&authority).await.unwrap();
    scene.agents[0].call(&authority, &scene.world).await;
    for (phase, left, means) in [
        (Phase::Distribute, 1, "1 of 2 have the trust file, so 1 agent is left; 1 agent has to be seen to"),
        (Phase::Reissue, 2, "0 of 2 moved, so 2 agents are left"),
        (Phase::Activated, 0, "2 of 2 moved, so 0 agents are left; the old root is believed until 2026-10-"),
    ] {
        scene.until(&authority, &rotation.id, phase).await;
        let told = diagnose(&scene.world, &authority).outlook.rotations;
        let [open] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((open.of, open.by_hand, open.waits_for), ("overlap", 1, Some(left)), "{phase:?}");
        assert!(open.means.contains(means), "{phase:?}: {}", open.means);
    }
}

#[tokio::test]
async fn a_root_that_was_given_up_before_it_served_is_missed_by_nobody() {
    for (phase, missed) in [(Phase::Reissue, false), (Phase::Activated, true)] {
        let (mut scene, authority) = Scene::new().await;
        let rotation = scene.begin(&authority).await.unwrap();
        scene.until(&authority, &rotation.id, phase).await;
        scene.world.clock.advance(DAY);
        authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
        // As if it had vouched for nothing.
        scene.world.sql("UPDATE pki_cas SET link_pem = NULL");
        authority.reload().unwrap();
        authority.keep_files().await.unwrap();
        let said = diagnose(&scene.world, &authority);
        let found: Vec<_> = said.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(found.contains(&"link_missing"), missed, "{phase:?}: {found:?}");
    }
}

#[tokio::test]
async fn the_key_file_of_the_first_start_is_told_by_the_root_that_it_belongs_to() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &[]).await;
    let file = world.dir.path().join("nginx-certs/org-ca.key");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let told = || {
        let findings = diagnose(&world, &authority).findings;
        let open = findings.iter().find(|found| found.code == "key_file_open");
        assert!(open.unwrap().examples[0].ends_with("org-ca.key"));
        let told = findings.into_iter().find(|found| found.code.starts_with("root_key_file")).unwrap();
        (told.code, told.level, told.examples[0].clone())
    };
    let (code, level, _) = told();
    assert_eq!((code, level), ("root_key_file", Level::Advice));

    authority.apply_update(PATH_LEN, Some("rekey"), &operator()).await.unwrap();
    let (code, level, example) = told();
    assert_eq!((code, level), ("root_key_file_former", Level::Problem));
    assert!(example.contains("of the superseded root"), "{example}");
    world.sql("UPDATE pki_cas SET compromised = 1 WHERE kind = 'org_ca' AND state <> 'active'");
    assert!(told().2.contains("of the compromised root"), "{}", told().2);

    let another = KeyPair::generate_p256().unwrap();
    fs::write(&file, another.to_pkcs8_pem().expose_secret()).unwrap();
    assert_eq!(told().0, "root_key_file_other");
}
