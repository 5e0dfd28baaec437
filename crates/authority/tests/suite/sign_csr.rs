//! Requests that the root signs beside a server.

use mastio_authority::{Authority, sign_csr::SignError};
use mastio_core::{Principal, Rng, SpiffeId, SystemRng};
use mastio_pki::{CsrKind, KeyPair};
use mastio_store::rotations::Phase;

use crate::{
    forge::{HOUR, signed},
    overlap::Scene,
    updates::*,
    world::*,
};

fn of_bob(authority: &Authority) -> CsrKind {
    let trust = authority.trust();
    let principal = Principal::parse(&format!("{}::bob", trust.org)).unwrap();
    let spiffe = SpiffeId::of_agent(&trust.domain, &trust.org, &principal.name);
    CsrKind::Client { principal, spiffe, lifetime: HOUR }
}

fn request() -> String {
    let key = KeyPair::generate_p256().unwrap();
    rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap()
}

#[tokio::test]
async fn nothing_is_signed_under_a_halt() {
    let world = legacy();
    let (authority, _) = halted(&world, &[], &["alice"]).await;
    let (request, kind) = (request(), of_bob(&authority));
    let refused = signed(&world, &authority, (&request, &kind), &SystemRng).await.unwrap_err().to_string();
    assert_eq!(refused, format!("signing halted — pending migration {PATH_LEN}"));
    world.sql(SET_ASIDE);
    signed(&world, &authority, (&request, &kind), &SystemRng).await.unwrap();
    assert_eq!(world.events("pki.csr_signed"), 1);
}

/// Another root takes the place of the active one while a serial number is made.
struct MeanwhileCut<'a>(&'a World);

impl Rng for MeanwhileCut<'_> {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.sql("UPDATE pki_cas SET state = 'superseded', cut = 1 WHERE kind = 'org_ca'");
        SystemRng.fill(buffer);
    }
}

#[tokio::test]
async fn a_root_that_is_cut_meanwhile_has_signed_nothing() {
    let world = World::new();
    let authority = world.boot(&[]).await.unwrap();
    let refused = signed(&world, &authority, (&request(), &of_bob(&authority)), &MeanwhileCut(&world)).await;
    assert!(matches!(refused, Err(SignError::Replaced)), "{refused:?}");
    assert_eq!(world.events("pki.csr_signed"), 0);
}

#[tokio::test]
async fn a_root_that_goes_says_so_of_what_it_signs() {
    let (mut scene, authority) = Scene::new().await;
    let kind = CsrKind::Ca { lifetime: HOUR };
    let sign = async |world: &World| {
        let signed = signed(world, &authority, (&request(), &kind), &SystemRng).await.unwrap();
        assert!(signed.certificate.is_signed_by(&signed.root));
        (signed.root.thumbprint(), signed.ends_with.map(|rotation| rotation.id))
    };
    let old = authority.trust().root.thumbprint();
    assert_eq!(sign(&scene.world).await, (old, None));
    let rotation = scene.begin(&authority).await.unwrap();
    for phase in [Phase::Distribute, Phase::Reissue] {
        scene.until(&authority, &rotation.id, phase).await;
        assert_eq!(sign(&scene.world).await, (old, Some(rotation.id.clone())), "{phase:?}");
    }
    scene.until(&authority, &rotation.id, Phase::Activated).await;
    assert_eq!(sign(&scene.world).await, (rotation.new_root, None));
}
