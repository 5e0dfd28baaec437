//! Finding others.

use mastio_authority::Refusal;
use mastio_gateway::Path;
use mastio_store::agents::Reach;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn peers_are_the_other_active_agents() {
    let world = World::new().await;
    let (alice, _bob, carol) =
        (world.member("alice").await, world.member("bob").await, world.member("carol").await);
    let caller = world.caller(&alice).await;
    let names = async |needle, limit| {
        let peers = world.gateway.peers(&caller, needle, limit).await.unwrap();
        peers.into_iter().map(|peer| peer.agent_id.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 50).await, ["bob", "carol"]);
    assert_eq!(names(None, 0).await, ["bob", "carol"]);
    assert_eq!(names(None, 1).await, ["bob"]);
    assert_eq!(names(Some("THE B"), 50).await, ["bob"]);
    assert_eq!(names(Some("%"), 50).await, <[&str; 0]>::default());
    world.deactivate(&carol).await;
    let peers = world.gateway.peers(&caller, None, 50).await.unwrap();
    assert_eq!(
        serde_json::to_value(&peers).unwrap(),
        json!([{
            "agent_id": "acme::bob", "org_id": "acme", "display_name": "The bob", "capabilities": ["order.read"],
            "description": null, "status": "active", "scope": "intra-org"
        }])
    );
    assert!(world.gateway.peers(&caller, Some(&"é".repeat(256)), 50).await.is_ok());
    assert!(world.gateway.peers(&caller, Some(&"x".repeat(257)), 50).await.is_err());

    world.set_reach(&alice, Reach::Cross).await;
    let caller = world.caller(&alice).await;
    assert_eq!(world.gateway.peers(&caller, None, 50).await.unwrap(), []);
}

#[tokio::test]
async fn recipients_resolve_to_their_certificate() {
    let world = World::new().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let caller = world.caller(&alice).await;
    let leaf = world.caller(&bob).await.agent.certificates[0].pem();
    for text in ["acme::bob", "spiffe://cullis.local/acme/bob"] {
        let resolved = world.gateway.resolve(&caller, text).await.unwrap();
        assert_eq!(
            serde_json::to_value(&resolved).unwrap(),
            json!({
                "path": "intra-org", "target_agent_id": "bob", "target_org_id": "acme",
                "target_spiffe": "spiffe://cullis.local/acme/bob", "transport": "mtls-only",
                "egress_inspection": false, "target_cert_pem": leaf
            })
        );
    }
    let abroad = world.gateway.resolve(&caller, "globex::bob").await.unwrap();
    assert_eq!((abroad.path, abroad.transport, abroad.target_cert_pem), (Path::CrossOrg, "envelope", None));
}

#[tokio::test]
async fn resolving_says_what_is_wrong() {
    let world = World::new().await;
    let alice = world.member("alice").await;
    let caller = world.caller(&alice).await;
    for (to, status, text) in [
        ("bob", 400, "invalid recipient_id"),
        ("acme::ghost", 404, "intra-org target not found: acme::ghost"),
        ("acme::workload::box", 404, "intra-org workload principal not found: acme::workload::box"),
    ] {
        let error = world.gateway.resolve(&caller, to).await.unwrap_err();
        assert_eq!((error.status(), error.to_string()), (status, text.to_owned()));
    }
    world.set_reach(&alice, Reach::Intra).await;
    let error = world.gateway.resolve(&world.caller(&alice).await, "globex::bob").await.unwrap_err();
    let text = "agent reach='intra' — cross-org traffic denied (target_org=globex)";
    assert_eq!((error.status(), error.to_string()), (403, text.to_owned()));
}

#[tokio::test]
async fn certificates_and_keys_are_shown_while_their_agent_is_active() {
    let world = World::new().await;
    let bob = world.member("bob").await;
    let leaf = world.caller(&bob).await.agent.certificates[0].clone();
    let certificate = world.gateway.certificate_of("spiffe://cullis.local/acme/bob").await.unwrap();
    assert_eq!(
        serde_json::to_value(&certificate).unwrap(),
        json!({ "agent_id": "acme::bob", "cert_pem": leaf.pem() })
    );
    let key = world.gateway.public_key("acme::bob").await.unwrap();
    assert_eq!(
        serde_json::to_value(&key).unwrap(),
        json!({
            "agent_id": "acme::bob", "public_key_pem": leaf.spki_pem(), "cert_pem": leaf.pem(),
            "cert_thumbprint": leaf.thumbprint().to_string(), "scope": "local"
        })
    );

    world.deactivate(&bob).await;
    for (id, status, text) in [
        ("acme::bob", 404, "intra-org agent not found: acme::bob"),
        ("acme::user::mario", 404, "intra-org agent not found: acme::user::mario"),
        ("globex::bob", 404, "intra-org agent not found: globex::bob"),
        ("bob", 400, "invalid agent_id"),
    ] {
        let error = world.gateway.certificate_of(id).await.unwrap_err();
        assert_eq!((error.status(), error.to_string()), (status, text.to_owned()));
        let error = world.gateway.public_key(id).await.unwrap_err();
        assert_eq!((error.status(), error.to_string()), (404, "agent not found".to_owned()));
    }
}
