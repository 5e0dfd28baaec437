//! The rotation with overlap: agents get to the new root one after the other, nobody is refused, and whoever is killed
//! finds the state of before or after a step.

use std::{sync::Arc, time::Duration};

use crate::{
    authentication::{bound, call},
    forge::Ca,
    renewal::{id, renew, with},
    world::*,
};
use mastio_authority::{
    Authority,
    rotation::{
        Source,
        overlap::{Half, OverlapError},
    },
};
use mastio_core::{Clock, Stamp, Thumbprint};
use mastio_jose::SigningKey;
use mastio_pki::KeyPair;
use mastio_store::rotations::{Phase, Rotation, following::Progress};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than the pause between two looks.
pub(crate) const LOOK: Duration = Duration::from_secs(3);

/// An agent that follows as the Rust client does.
pub(crate) struct Follower {
    pub(crate) holder: Holder,
    dpop: SigningKey,
    bundle: Option<Thumbprint>,
}

impl Follower {
    pub(crate) async fn enrolled(authority: &Authority, name: &str) -> Self {
        let (holder, dpop) = (Holder::created(authority, name).await, SigningKey::generate().unwrap());
        let jwk = dpop.public_jwk().to_value();
        authority.set_dpop_key(&id(&holder), &jwk, &operator()).await.unwrap();
        Self { holder, dpop, bundle: None }
    }

    /// Calls, which must succeed, and does what the answer hints at.
    pub(crate) async fn call(&mut self, authority: &Authority, world: &World) {
        let pinned = authority.certificate(&self.holder.peer()).await.unwrap();
        if authority.trust().followed().is_some() && self.bundle != Some(authority.trust().bundle) {
            self.bundle = Some(authority.trust_bundle(pinned.agent.id(), true).await.unwrap().sha256);
        }
        if authority.renewal_due(&pinned.agent).is_some() {
            let next = KeyPair::generate_p256().unwrap();
            let renewed = renew(authority, world, &self.holder, &self.dpop, &next, None).await.unwrap();
            self.holder = with(&self.holder, &renewed, next);
            authority.certificate(&self.holder.peer()).await.unwrap();
        }
    }
}

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) agents: Vec<Follower>,
}

impl Scene {
    pub(crate) async fn new() -> (Self, Arc<Authority>) {
        Self::with(&[]).await
    }

    pub(crate) async fn with(settings: &[(&str, &str)]) -> (Self, Arc<Authority>) {
        let world = World::new();
        let authority = world.boot(settings).await.unwrap();
        authority.keep_files().await.unwrap();
        let mut agents = Vec::new();
        for name in ["alice", "bob"] {
            agents.push(Follower::enrolled(&authority, name).await);
        }
        (Self { world, agents }, authority)
    }

    pub(crate) async fn begin(&self, authority: &Arc<Authority>) -> Result<Rotation, OverlapError> {
        authority.begin_overlap(Source::Mint, 14, &operator()).await
    }

    /// Everybody calls once, and the server looks.
    pub(crate) async fn round(&mut self, authority: &Arc<Authority>) {
        for agent in &mut self.agents {
            agent.call(authority, &self.world).await;
        }
        self.world.clock.advance(LOOK);
        authority.tend_rotation().await;
    }

    /// Rounds until the rotation is in `phase`; the time of the grace passes, too.
    pub(crate) async fn until(&mut self, authority: &Arc<Authority>, rotation: &str, phase: Phase) {
        for _ in 0..12 {
            let now = authority.rotation(rotation).await.unwrap().rotation;
            if now.phase >= phase {
                assert_eq!(now.phase, phase);
                return;
            }
            if now.phase == Phase::Activated {
                self.world.clock.advance(14 * DAY);
            }
            self.round(authority).await;
        }
        panic!("the rotation does not get to {phase:?}");
    }

    /// Nobody's certificate is by another root than the one that certifies.
    pub(crate) async fn settled(&mut self, authority: &Arc<Authority>) {
        for _ in 0..3 {
            self.round(authority).await;
        }
        for agent in &self.agents {
            let pinned = authority.certificate(&agent.holder.peer()).await.unwrap();
            assert!(authority.renewal_due(&pinned.agent).is_none());
            let trust = authority.trust();
            assert!(agent.holder.chain[1].is_signed_by(&trust.root), "it hangs under the active root");
        }
    }
}

/// An agent with a certificate of the organisation's own CA.
pub(crate) async fn brought(authority: &Authority, world: &World, name: &str) -> Holder {
    let ca = Ca::below_root(world, authority).await;
    let holder = ca.agent(&format!("{}::{name}", authority.trust().org), &[], world.clock.now()).1;
    authority.enroll_byoca(&candidate(name), &holder.brought(), &operator()).await.unwrap();
    holder
}

pub(crate) async fn progress(authority: &Authority, rotation: &Rotation) -> Progress {
    authority.rotation(&rotation.id).await.unwrap().progress.unwrap()
}

#[tokio::test]
async fn agents_move_one_after_the_other_and_nobody_is_refused() {
    let (mut scene, authority) = Scene::new().await;
    let carol = brought(&authority, &scene.world, "carol").await;
    let old_root = authority.trust().root.clone();
    let rotation = scene.begin(&authority).await.unwrap();
    assert_eq!(rotation.phase, Phase::Distribute);
    let trust = authority.trust();
    assert_eq!(trust.root, old_root);
    assert_eq!(trust.trust_file.matches("BEGIN CERTIFICATE").count(), 4, "both roots, both intermediates");

    // One has the trust file: it waits for the other, and for nobody else.
    scene.agents[0].call(&authority, &scene.world).await;
    scene.world.clock.advance(LOOK);
    authority.tend_rotation().await;
    let now = progress(&authority, &rotation).await;
    assert_eq!((now.agents, now.fetched, now.moved, now.byoca), (2, 1, 0, 1));
    let refused = authority.advance_rotation(&rotation.id, None, false, &operator()).await;
    assert!(matches!(refused, Err(OverlapError::Waiting { left: 1, agents: 2, fetched: true })));
    let left = async |half| {
        let rotation = authority.rotation(&rotation.id).await.unwrap().rotation;
        let left = authority.waiters(&rotation, half, None, 10).await.unwrap().agents;
        left.into_iter().map(|waiting| waiting.agent.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(left(Half::Agents).await, ["bob"]);
    assert_eq!(left(Half::Operators).await, ["carol"]);

    scene.until(&authority, &rotation.id, Phase::Reissue).await;
    assert_eq!(authority.trust().root, old_root);
    let late = Holder::created(&authority, "late").await;
    let late_intermediate = late.chain[1].clone();
    assert!(!late_intermediate.is_signed_by(&old_root), "who comes in now is certified under the new root");
    scene.until_moved(&authority, &rotation).await;
    // The one that came in late has not shown itself yet.
    assert_eq!(left(Half::Agents).await, ["late"]);
    authority.certificate(&late.peer()).await.unwrap();
    let before = authority.trust().signer.as_ref().unwrap().kid.clone();
    scene.until(&authority, &rotation.id, Phase::Activated).await;

    let trust = authority.trust();
    assert_eq!(trust.root.thumbprint(), rotation.new_root);
    assert_eq!(trust.server_issuer.as_ref().unwrap().certificate(), &late_intermediate);
    let signer = trust.signer.as_ref().unwrap().kid.clone();
    assert!(signer != before && trust.verifiers.contains_key(before.as_str()), "its tokens go on");
    assert_eq!(trust.above_server().len(), 2, "the intermediate, and the link from the old root");
    authority.certificate(&carol.peer()).await.unwrap();
    // Everybody has moved, and still the old root has its grace.
    scene.round(&authority).await;
    let refused = authority.advance_rotation(&rotation.id, None, false, &operator()).await;
    assert!(matches!(refused, Err(OverlapError::Grace(_))));
    scene.until(&authority, &rotation.id, Phase::Done).await;
    scene.settled(&authority).await;
    let keys = "SELECT count(*) FROM pki_cas WHERE kind = 'org_ca' AND private_key IS NOT NULL";
    assert_eq!(scene.world.count(keys), 0, "the old root's key is wiped");
    assert_eq!((scene.world.events("org_ca.rotation_phase"), scene.world.events("org_ca.rotated")), (4, 1));
}

impl Scene {
    async fn until_moved(&mut self, authority: &Arc<Authority>, rotation: &Rotation) {
        for _ in 0..5 {
            self.round(authority).await;
        }
        let now = progress(authority, rotation).await;
        assert_eq!((now.moved, now.agents), (2, 3));
        assert_eq!(authority.rotation(&rotation.id).await.unwrap().summary(), "2 of 3 moved");
    }
}

#[tokio::test]
async fn a_rotation_is_paused_resumed_and_forced() {
    let (mut scene, authority) = Scene::new().await;
    let carol = brought(&authority, &scene.world, "carol").await;
    let rotation = scene.begin(&authority).await.unwrap();
    let (id, by) = (rotation.id.as_str(), operator());
    assert!(scene.begin(&authority).await.is_err(), "one at a time");
    authority.pause_rotation(id, true, &by).await.unwrap();
    assert!(matches!(authority.pause_rotation(id, true, &by).await, Err(OverlapError::Paused)));
    for _ in 0..3 {
        scene.round(&authority).await;
    }
    let phase = async || authority.rotation(id).await.unwrap().rotation.phase;
    assert_eq!(phase().await, Phase::Distribute, "everybody followed, and it waits");
    authority.pause_rotation(id, false, &by).await.unwrap();
    scene.until(&authority, id, Phase::Reissue).await;

    // Nobody calls: an operator goes on without them, twice, and they are shut out at the end only.
    let unsaid = authority.advance_rotation(id, None, true, &by).await;
    assert!(matches!(unsaid, Err(OverlapError::ForcedFromWhere(Phase::Reissue))));
    let late = authority.advance_rotation(id, Some(Phase::Distribute), true, &by).await;
    assert!(matches!(late, Err(OverlapError::Moved)), "a step of before is not taken twice");
    authority.advance_rotation(id, Some(Phase::Reissue), true, &by).await.unwrap();
    assert_eq!(phase().await, Phase::Activated);
    for holder in scene.agents.iter().map(|agent| &agent.holder).chain([&carol]) {
        authority.certificate(&holder.peer()).await.unwrap();
    }
    let (token, key) = bound(&authority, &scene.world, &scene.agents[0].holder).await;
    scene.world.clock.advance(LOOK);
    scene.agents[1].call(&authority, &scene.world).await;
    authority.tend_rotation().await;
    let forced = authority.advance_rotation(id, Some(Phase::Activated), true, &by).await.unwrap();
    assert_eq!((forced.phase, forced.ended_at.is_some()), (Phase::Done, true));
    authority.certificate(&scene.agents[1].holder.peer()).await.unwrap();
    for left in [&scene.agents[0].holder, &carol] {
        assert_eq!(reason(authority.certificate(&left.peer()).await).0, 401);
    }
    assert!(call(&authority, &scene.world, &token, &key).await.is_err());
    for refused in [
        authority.advance_rotation(id, None, true, &by).await,
        authority.pause_rotation(id, true, &by).await,
        authority.abort_rotation(id, &by).await,
    ] {
        assert!(matches!(refused, Err(OverlapError::Over(Phase::Done))));
    }
    assert!(matches!(authority.abort_rotation("nothing", &by).await, Err(OverlapError::NotFound)));
}

#[tokio::test]
async fn who_moved_a_moment_before_an_operators_step_has_moved() {
    let (mut scene, authority) = Scene::new().await;
    let rotation = scene.begin(&authority).await.unwrap();
    scene.until(&authority, &rotation.id, Phase::Reissue).await;
    scene.world.clock.advance(LOOK);
    scene.agents[0].call(&authority, &scene.world).await;
    let waits = authority.advance_rotation(&rotation.id, None, false, &operator()).await;
    assert!(matches!(waits, Err(OverlapError::Waiting { left: 1, .. })), "{waits:?}");
    scene.agents[1].call(&authority, &scene.world).await;
    authority.advance_rotation(&rotation.id, None, false, &operator()).await.unwrap();
}

#[tokio::test]
async fn a_forced_end_leaves_the_tokens_of_who_moved_a_moment_ago() {
    let (mut scene, authority) = Scene::new().await;
    let rotation = scene.begin(&authority).await.unwrap();
    scene.until(&authority, &rotation.id, Phase::Reissue).await;
    let (id, by) = (rotation.id.as_str(), operator());
    authority.advance_rotation(id, Some(Phase::Reissue), true, &by).await.unwrap();
    scene.world.clock.advance(LOOK);
    scene.agents[0].call(&authority, &scene.world).await;
    let (token, key) = bound(&authority, &scene.world, &scene.agents[0].holder).await;
    authority.advance_rotation(id, Some(Phase::Activated), true, &by).await.unwrap();
    call(&authority, &scene.world, &token, &key).await.unwrap();
}

#[tokio::test]
async fn an_aborted_rotation_leaves_what_was_before_whatever_its_phase() {
    for phase in [Phase::Distribute, Phase::Reissue, Phase::Activated] {
        let (mut scene, authority) = Scene::new().await;
        let old = (
            authority.trust().root.clone(),
            authority.trust().issuer.as_ref().unwrap().certificate().clone(),
        );
        let rotation = scene.begin(&authority).await.unwrap();
        scene.until(&authority, &rotation.id, phase).await;
        // One of the two moves.
        scene.agents[0].call(&authority, &scene.world).await;
        authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
        let trust = authority.trust();
        assert_eq!(
            (&trust.root, trust.issuer.as_ref().unwrap().certificate()),
            (&old.0, &old.1),
            "{phase:?}"
        );
        assert_eq!(trust.server_issuer.as_ref().unwrap().certificate(), &old.1);
        assert!(trust.signing_leaf.as_ref().unwrap().is_signed_by(&old.1));
        scene.settled(&authority).await;
        leave(authority);
        let authority = scene.world.boot(&[]).await.unwrap();
        scene.settled(&authority).await;
        // And it can be rotated again.
        let again = scene.begin(&authority).await.unwrap();
        scene.until(&authority, &again.id, Phase::Done).await;
        scene.settled(&authority).await;
    }
}

#[tokio::test]
async fn sealed_keys_change_places_and_back_and_are_wiped_in_the_end() {
    let sealed = [("MCP_PROXY_DB_ENCRYPTION_KEY", "a passphrase of more than thirty-two characters")];
    let (mut scene, mut authority) = Scene::with(&sealed).await;
    let old = authority.trust().root.clone();
    for phase in [Phase::Activated, Phase::Done] {
        let rotation = scene.begin(&authority).await.unwrap();
        scene.until(&authority, &rotation.id, phase).await;
        let bare = "SELECT count(*) FROM pki_cas WHERE private_key NOT LIKE 'enc:pki:v1:%'";
        assert_eq!(scene.world.count(bare), 0);
        if phase == Phase::Activated {
            authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
            assert_eq!(authority.trust().root, old);
        } else {
            assert_eq!(authority.trust().root.thumbprint(), rotation.new_root);
        }
        let active = "SELECT count(*) FROM pki_key_store WHERE deprecated_at IS NULL";
        assert_eq!(scene.world.count(active), 2, "a root and an intermediate");
        leave(authority);
        authority = scene.world.boot(&sealed).await.unwrap();
        scene.settled(&authority).await;
    }
    let roots = "SELECT count(*) FROM pki_cas WHERE kind = 'org_ca' AND private_key IS NOT NULL";
    assert_eq!(scene.world.count(roots), 0);
}

#[tokio::test]
async fn a_root_that_was_given_up_goes_when_its_intermediates_have() {
    let (mut scene, authority) = Scene::new().await;
    let rotation = scene.begin(&authority).await.unwrap();
    scene.until(&authority, &rotation.id, Phase::Reissue).await;
    authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
    let believed = "SELECT count(*) FROM pki_cas WHERE kind = 'org_ca' AND state = 'superseded'";
    for left in [1, 0] {
        scene.world.clock.advance(DAY);
        authority.tend_rotation().await;
        assert_eq!(scene.world.count(believed), left);
        scene.world.sql(
            "UPDATE pki_cas SET state = 'retired', retired_at = superseded_at, private_key = NULL \
             WHERE kind = 'intermediate_ca' AND state = 'superseded'",
        );
        authority.reload().unwrap();
    }
}

/// Lets `units` of the saga be written, then none: what the process finds whose predecessor was killed after these.
fn kill_after(world: &World, units: usize) {
    let budget = "INSERT INTO kill_budget DEFAULT VALUES;".repeat(units);
    world.sql(&format!(
        "CREATE TABLE kill_budget (id INTEGER PRIMARY KEY); {budget} \
         CREATE TRIGGER kill_insert BEFORE INSERT ON pki_rotations BEGIN \
             SELECT RAISE(ABORT, 'killed') WHERE NOT EXISTS (SELECT 1 FROM kill_budget); \
             DELETE FROM kill_budget WHERE id = (SELECT max(id) FROM kill_budget); END; \
         CREATE TRIGGER kill_update BEFORE UPDATE ON pki_rotations BEGIN \
             SELECT RAISE(ABORT, 'killed') WHERE NOT EXISTS (SELECT 1 FROM kill_budget); \
             DELETE FROM kill_budget WHERE id = (SELECT max(id) FROM kill_budget); END;"
    ));
}

fn is_spent(world: &World) -> bool {
    world.count("SELECT count(*) FROM kill_budget") == 0
}

/// Plays a rotation until `units` are written; what was left, or `None` when it was over before.
async fn play(
    scene: &mut Scene,
    authority: &Arc<Authority>,
    units: usize,
    abort_in: Option<Phase>,
) -> Option<()> {
    kill_after(&scene.world, units);
    let Ok(rotation) = scene.begin(authority).await else { return Some(()) };
    for _ in 0..30 {
        if is_spent(&scene.world) {
            return Some(());
        }
        let now = authority.rotation(&rotation.id).await.unwrap().rotation;
        if now.phase.is_end() {
            return None;
        }
        if Some(now.phase) == abort_in {
            scene.agents[0].call(authority, &scene.world).await;
            authority.abort_rotation(&rotation.id, &operator()).await.unwrap();
            continue;
        }
        if now.phase == Phase::Activated {
            scene.world.clock.advance(14 * DAY);
        }
        scene.round(authority).await;
    }
    panic!("the rotation hangs");
}

/// Kills a rotation after each of its units, restarts, and lets it end; how many units there were.
async fn killed_after_each(abort_in: Option<Phase>) -> usize {
    for units in 0.. {
        let (mut scene, authority) = Scene::new().await;
        let old = authority.trust().root.thumbprint();
        let identity = scene.world.dir.path().join("data/.mastio-identity");
        let files = std::fs::read(&identity).unwrap();
        let over = play(&mut scene, &authority, units, abort_in).await.is_none();
        leave(authority);
        scene.world.sql("DROP TRIGGER kill_insert; DROP TRIGGER kill_update; DROP TABLE kill_budget");
        if over {
            return units;
        }
        // Killed before the files followed: they are those of the beginning.
        std::fs::write(&identity, files).unwrap();
        let authority = scene.world.boot(&[]).await.unwrap();
        authority.keep_files().await.unwrap();
        let trust = authority.trust();
        let newest = authority.rotations(1).await.unwrap().pop().map(|status| status.rotation);
        let is_new =
            newest.as_ref().is_some_and(|rotation| matches!(rotation.phase, Phase::Activated | Phase::Done));
        let expected = if is_new { newest.as_ref().unwrap().new_root } else { old };
        assert_eq!(trust.root.thumbprint(), expected, "after {units} units: before or after, never between");
        let issuer = trust.server_issuer.as_ref().unwrap().certificate();
        assert!(
            issuer.is_signed_by(&trust.root) && trust.signing_leaf.as_ref().unwrap().is_signed_by(issuer)
        );
        assert!(trust.halt.is_none() && trust.signer.is_some());
        for agent in &mut scene.agents {
            agent.call(&authority, &scene.world).await;
        }
        let rotation = match newest.filter(|rotation| !rotation.phase.is_end() || is_new) {
            Some(rotation) => rotation,
            None => scene.begin(&authority).await.unwrap(),
        };
        scene.until(&authority, &rotation.id, Phase::Done).await;
        scene.settled(&authority).await;
        assert_eq!(authority.trust().root.thumbprint(), rotation.new_root);
    }
    unreachable!("a rotation ends")
}

#[tokio::test]
async fn killed_after_any_of_its_units_it_goes_on_or_was_never_begun() {
    assert_eq!(
        killed_after_each(None).await,
        6,
        "stage, distribute, reissue, activated, done; and one to spare"
    );
}

#[tokio::test]
async fn killed_around_an_abort_it_is_before_or_after_it() {
    for phase in [Phase::Distribute, Phase::Reissue, Phase::Activated] {
        assert!(killed_after_each(Some(phase)).await >= 4, "{phase:?}");
    }
}

#[tokio::test]
async fn the_trust_file_is_written_down_once_and_hinted_at_while_a_rotation_is_open() {
    let (scene, authority) = Scene::new().await;
    let alice = id(&scene.agents[0].holder);
    authority.trust_bundle(&alice, false).await.unwrap();
    assert_eq!(scene.world.count("SELECT count(*) FROM agent_trust_bundles"), 0, "looked at only");
    assert!(authority.trust_bundle(&alice, true).await.unwrap().rotation.is_none());
    let fetched = |world: &World| {
        let at = "SELECT CAST(strftime('%s', fetched_at) AS INTEGER) FROM agent_trust_bundles";
        Stamp::from_unix(world.count(at))
    };
    let first = fetched(&scene.world);
    scene.world.clock.advance(DAY);
    authority.trust_bundle(&alice, true).await.unwrap();
    assert_eq!(fetched(&scene.world), first, "the same file again");
    let rotation = scene.begin(&authority).await.unwrap();
    let bundle = authority.trust_bundle(&alice, true).await.unwrap();
    let followed = bundle.rotation.unwrap();
    assert_eq!((followed.id, followed.phase), (rotation.id, Phase::Distribute));
    assert_eq!(bundle.sha256, Thumbprint::of(bundle.bundle_pem.as_bytes()));
    assert!(fetched(&scene.world) > first);
}

#[tokio::test]
async fn a_root_that_ends_before_the_old_one_may_go_is_not_begun_with() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let now = world.clock.now();
    let (certificate, key) = crate::rotation::root(now, |params| {
        params.not_after = now.plus(DAY * 14).to_date_time();
    });
    let source = crate::rotation::upload(certificate.pem(), &key);
    let refused = authority.begin_overlap(source, 14, &operator()).await;
    assert!(matches!(refused, Err(OverlapError::EndsTooSoon(_))), "{refused:?}");
    assert_eq!(world.count("SELECT count(*) FROM pki_rotations"), 0);
}
