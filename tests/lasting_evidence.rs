//! What an auditor holds outlives every rotation: bundles, receipts and archives of before and after lead to a root that
//! the organisation published, and both readers say so.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    clients::python,
    harness::{Mastio, Place, both, mastio, repository, run},
};

/// A deployment whose files stand in the auditor's folder too.
struct Scene {
    place: Place,
    server: Mastio,
}

impl Scene {
    async fn new() -> Self {
        let mut place = Place::new();
        let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
        let scene = Self { place, server };
        for name in ["alice", "bob", "carol"] {
            scene.ask("/v1/admin/agents", &json!({ "agent_name": name })).await;
        }
        scene
    }

    async fn ask(&self, path: &str, body: &Value) -> Value {
        let answer = self.server.operator(Method::POST, path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.detail());
        answer.json().unwrap()
    }

    fn file(&self, name: &str) -> String {
        self.place.path(name).to_str().unwrap().to_owned()
    }

    /// Keeps the root of today as `name`, alone.
    async fn root(&self, name: &str) -> String {
        let file = String::from_utf8(self.server.get("/pki/ca.crt").await.body.to_vec()).unwrap();
        let end = "-----END CERTIFICATE-----\n";
        self.place.write(name, &file[..file.find(end).unwrap() + end.len()]);
        self.file(name)
    }

    async fn bundle(&self, name: &str) -> String {
        let all = json!({ "start": "2026-01-01", "end": "2100-01-01" });
        let answer = self.server.operator(Method::POST, "/v1/admin/audit/bundle", &all).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
        self.place.write(name, &answer.body);
        self.file(name)
    }

    async fn receipt(&self, agent: &str, name: &str) -> String {
        let answer =
            self.server.operator(Method::GET, &format!("/v1/admin/agents/{agent}/receipt"), &json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.detail());
        self.place.write(name, &answer.body);
        self.file(name)
    }

    /// Both readers verify the bundle, and ours the receipt, alone and by each of `roots`.
    fn convinces(&self, file: &str, roots: &[&str]) {
        let alone: &[&str] = &[];
        for arguments in std::iter::once(alone).chain(roots.iter().map(std::slice::from_ref)) {
            let options: Vec<&str> = arguments.iter().flat_map(|root| ["--ca-root", root]).collect();
            let ours = mastio(&[&["audit", "verify", file], &*options].concat(), &[]).output().unwrap();
            assert!(ours.status.success(), "{file} {options:?}: {}", both(&ours));
            if file.ends_with(".tar.gz") {
                let script = repository("docs/verify.py");
                let theirs =
                    python(&[&[script.to_str().unwrap(), file], &*options].concat(), &self.place.path(""));
                assert!(theirs.status.success(), "verify.py {file} {options:?}: {}", both(&theirs));
            }
        }
    }

    fn archives(&self, name: &str) {
        let out = self.file(name);
        run(&mut self.place.command(&["audit", "archive", "--before", "2099-01-01", "--out", &out, "--yes"]));
        for entry in std::fs::read_dir(&out).unwrap() {
            let path = entry.unwrap().path().to_str().unwrap().to_owned();
            if path.ends_with(".tar.gz") {
                self.convinces(&path, &[]);
            }
        }
    }

    /// The chains in the database, on the word of one root.
    fn database_holds(&self, root: &str) {
        run(&mut self.place.command(&["audit", "verify", "--ca-root", root]));
    }
}

#[tokio::test]
async fn evidence_of_before_and_after_each_rotation_leads_to_a_root_that_was_published() {
    let scene = Scene::new().await;
    let first = scene.root("first.pem").await;
    scene.ask("/v1/admin/agents/acme::bob/decommission", &json!({})).await;
    let before = scene.bundle("before.tar.gz").await;
    scene.convinces(&before, &[&first]);
    scene.database_holds(&first);

    scene.ask("/pki/rotate-ca?mode=mint", &json!({})).await;
    let second = scene.root("second.pem").await;
    scene.ask("/v1/admin/agents/acme::carol/decommission", &json!({})).await;
    scene.convinces(&before, &[&first]);
    let after_cut = scene.bundle("after-cut.tar.gz").await;
    scene.convinces(&after_cut, &[&second, &first]);
    for agent in ["acme::bob", "acme::carol"] {
        scene.convinces(&scene.receipt(agent, "receipt.json").await, &[&second, &first]);
    }
    scene.database_holds(&second);
    scene.database_holds(&first);
    scene.archives("archive");

    // More than a PEM text may hold.
    for _ in 0..16 {
        scene.ask("/v1/admin/mastio-ca/rotate", &json!({})).await;
    }
    scene.convinces(&scene.bundle("many-intermediates.tar.gz").await, &[&second, &first]);
    scene.convinces(&scene.receipt("acme::bob", "receipt.json").await, &[&second, &first]);
    scene.database_holds(&second);

    let begun = scene.ask("/pki/rotate-ca?mode=mint&transition=overlap&grace_days=0", &json!({})).await;
    let rotation = format!("/pki/rotations/{}", begun["rotation_id"].as_str().unwrap());
    for from in ["distribute", "reissue", "activated"] {
        let step = format!("{rotation}/advance?from={from}&force=true");
        scene.server.operator(Method::POST, &step, &json!({})).await;
        scene.convinces(&scene.bundle("overlap.tar.gz").await, &[]);
    }
    let third = scene.root("third.pem").await;
    assert_ne!(scene.place.text("second.pem"), scene.place.text("third.pem"));
    scene.convinces(&scene.bundle("after-overlap.tar.gz").await, &[&third, &second]);
    for root in [&third, &second, &first] {
        scene.database_holds(root);
    }

    scene.ask("/pki/rotate-ca?mode=mint&reason=compromise", &json!({})).await;
    let fresh = scene.root("fresh.pem").await;
    scene.convinces(&scene.bundle("after-compromise.tar.gz").await, &[&fresh]);
    scene.convinces(&scene.receipt("acme::bob", "receipt.json").await, &[&fresh]);
    scene.database_holds(&fresh);
    scene.archives("archive-after");
    assert_eq!(scene.server.stop().await, 0);
}

#[tokio::test]
async fn evidence_leads_to_the_roots_of_three_rotations_ago() {
    let scene = Scene::new().await;
    scene.ask("/v1/admin/agents/acme::bob/decommission", &json!({})).await;
    let mut roots = vec![scene.root("root-0.pem").await];
    for number in 1..=8 {
        scene.ask("/pki/rotate-ca?mode=mint", &json!({})).await;
        roots.push(scene.root(&format!("root-{number}.pem")).await);
    }
    let last: Vec<_> = roots.iter().rev().take(4).map(String::as_str).collect();
    scene.convinces(&scene.bundle("bundle.tar.gz").await, &last);
    scene.convinces(&scene.receipt("acme::bob", "receipt.json").await, &last);
    for root in last {
        scene.database_holds(root);
    }
    assert_eq!(scene.server.stop().await, 0);
}
