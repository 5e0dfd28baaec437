//! The situations as a running Mastio makes them.

use std::fs;

use http::{Method, StatusCode};
use mastio_client::Client;
use mastio_pki::{Certificate, Issuer, KeyPair, pem};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::{
    legacy::legacy,
    situations::{Situation, wide_root},
};
use crate::harness::{Mastio, PATIENCE, Place, eventually, run};

/// A deployment in a situation.
pub(crate) struct Real {
    pub(crate) place: Place,
    pub(crate) server: Mastio,
    pub(crate) situation: Situation,
    /// What the doctor calls a problem there.
    pub(crate) problems: &'static [&'static str],
}

/// What the situation of that name is on a real server.
pub(crate) async fn real(name: &str) -> Real {
    if let Some(made) = legacy(name).await {
        return made;
    }
    let mut made = Made::new().await;
    let problems: &[&str] = match name {
        "fresh" => {
            made.agent("new agent").await;
            &[]
        }
        "intermediate rotated" => {
            made.keep("file of before");
            made.agent("old agent").await;
            made.post("/v1/admin/mastio-ca/rotate").await;
            made.agent("new agent").await;
            &[]
        }
        "cut of a wide root" => {
            made.bring(&wide_root());
            made.settled().await;
            made.keep("old root");
            made.keep("file of before");
            made.agent("old agent").await;
            made.cut("").await;
            made.agent("new agent").await;
            &["agent_of_former_ca"]
        }
        "cut" | "compromise" => {
            made.keep("old root");
            made.keep("file of before");
            made.agent("old agent").await;
            made.cut(if name == "cut" { "" } else { "&reason=compromise" }).await;
            made.agent("new agent").await;
            &["agent_of_former_ca"]
        }
        "two cuts behind" => made.behind(&["cut", "cut"]).await,
        "three cuts behind" => made.behind(&["cut", "cut", "cut"]).await,
        "two overlaps behind" => made.behind(&["overlap", "overlap"]).await,
        "a cut and an overlap behind" => made.behind(&["cut", "overlap"]).await,
        "an overlap and a cut behind" => made.behind(&["overlap", "cut"]).await,
        overlap => {
            let phase = overlap
                .strip_prefix("overlap, ")
                .unwrap_or_else(|| panic!("no situation is called {overlap}"));
            made.overlap(phase).await;
            if phase == "done" { &["agent_of_former_ca"] } else { &[] }
        }
    };
    made.finish(problems).await
}

pub(super) struct Made {
    pub(super) place: Place,
    pub(super) server: Mastio,
    pub(super) situation: Situation,
}

impl Made {
    async fn new() -> Self {
        let mut place = Place::new();
        let server = place.set("MCP_PROXY_ORG_ID", "acme").serve().await;
        Self { place, server, situation: Situation::default() }
    }

    /// What a client may have pinned until now: the trust file, or the root that it begins with.
    pub(super) fn keep(&mut self, name: &'static str) {
        let file = self.place.text("nginx-certs/org-ca.crt");
        let pinned =
            if name.starts_with("file") { file } else { Certificate::from_pem(&file).unwrap().pem() };
        self.situation.pins.push((name, pinned));
    }

    pub(super) async fn agent(&mut self, name: &'static str) {
        let made = json!({ "agent_name": name.replace(' ', "-") });
        let answer = self.server.operator(Method::POST, "/v1/admin/agents", &made).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.detail());
        let chain = answer.json::<Value>().unwrap()["cert_pem"].as_str().unwrap().to_owned();
        self.situation.agents.push((name, chain));
    }

    async fn post(&self, path: &str) -> Value {
        let answer = self.server.operator(Method::POST, path, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.detail());
        answer.json().unwrap()
    }

    /// Cuts to a root of the operator's.
    fn bring(&self, root: &Issuer<KeyPair>) {
        self.place.write("own.pem", root.certificate().pem());
        self.place.write("own.key", root.key().to_pkcs8_pem().expose_secret());
        let (cert, key, url) = (self.place.path("own.pem"), self.place.path("own.key"), self.server.url());
        let mut rotate = self.place.command(&["pki", "rotate", "--yes", "--url", &url]);
        run(rotate.arg("--cert").arg(cert).arg("--key").arg(key));
    }

    async fn cut(&self, more: &str) {
        self.post(&format!("/pki/rotate-ca?mode=mint{more}")).await;
        self.settled().await;
    }

    /// What a client sees that knows what there was before these rotations.
    async fn behind(&mut self, rotations: &[&str]) -> &'static [&'static str] {
        self.keep("oldest root");
        self.keep("file of before");
        self.agent("old agent").await;
        for (number, rotation) in rotations.iter().enumerate() {
            if number + 1 == rotations.len() {
                self.keep("old root");
            }
            match *rotation {
                "cut" => self.cut("").await,
                _ => self.advance_to("done").await,
            }
            self.settled().await;
        }
        self.agent("new agent").await;
        &["agent_of_former_ca"]
    }

    /// A rotation with overlap up to a phase, whoever is left behind.
    async fn advance_to(&self, phase: &str) {
        let begun = self.post("/pki/rotate-ca?mode=mint&transition=overlap&grace_days=14").await;
        let rotation = format!("/pki/rotations/{}", begun["id"].as_str().unwrap());
        // With nobody left but those who are shut out it goes on by itself.
        let paused = self.post(&format!("{rotation}/pause")).await;
        let mut at = paused["phase"].as_str().unwrap().to_owned();
        while at != phase {
            let next = self.post(&format!("{rotation}/advance?from={at}&force=true")).await;
            at = next["phase"].as_str().unwrap().to_owned();
        }
    }

    async fn overlap(&mut self, phase: &str) {
        self.keep("old root");
        self.keep("file of before");
        self.agent("old agent").await;
        self.advance_to(phase).await;
        if phase != "distribute" {
            self.agent("new agent").await;
        }
        self.settled().await;
        if matches!(phase, "distribute" | "reissue") {
            // Who looks ahead and pins what is not active yet.
            let old = Certificate::from_pem(&self.place.text("nginx-certs/org-ca.crt")).unwrap();
            let file = pem::certificates(&self.place.text("nginx-certs/org-ca.crt")).unwrap();
            let next = file.iter().find(|ca| ca.is_self_issued() && **ca != old).unwrap();
            self.situation.pins.push(("new root", next.pem()));
        }
    }

    /// Waits until the server shows what it answers: files and handshakes follow within a second or two.
    pub(super) async fn settled(&self) {
        let shown = self.server.get("/pki/ca.crt").await;
        let shown = String::from_utf8(shown.body.into()).unwrap();
        let written = async || (self.place.text("nginx-certs/org-ca.crt") == shown).then_some(());
        eventually("the files follow", PATIENCE, written).await;
        let root = Certificate::from_pem(&shown).unwrap().pem();
        let client = Client::builder(&self.server.url()).ca_pem(&root).timeout(PATIENCE).build().unwrap();
        let believed = async || {
            let chain = pem::certificates(&self.place.text("nginx-certs/mastio-server.crt")).ok()?;
            let (_, above) = chain.split_first()?;
            let ours = above.first()?.is_signed_by(&Certificate::from_pem(&root).ok()?);
            let answer = client.connect().request(Method::GET, "/healthz", Default::default(), "").await;
            (ours && answer.is_ok()).then_some(())
        };
        eventually("the handshakes follow", PATIENCE, believed).await;
    }

    pub(super) async fn finish(mut self, problems: &'static [&'static str]) -> Real {
        self.settled().await;
        if self.situation.pins.iter().all(|(name, _)| *name != "new root") {
            self.keep("new root");
        }
        self.keep("file");
        self.situation.chain = fs::read_to_string(self.place.path("nginx-certs/mastio-server.crt")).unwrap();
        Real { place: self.place, server: self.server, situation: self.situation, problems }
    }
}
