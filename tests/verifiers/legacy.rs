//! A root of path length 0 on a running Mastio, and the update that repairs it: before, afterwards, and taken back.

use http::{HeaderMap, Method, StatusCode};
use mastio_client::Client;
use serde_json::{Value, json};

use super::{
    real::{Made, Real},
    situations::Situation,
};
use crate::{
    harness::PATIENCE,
    updates::{self, PATH_LEN},
};

/// The situation of that name, if it is about a root of path length 0.
pub(super) async fn legacy(name: &str) -> Option<Real> {
    let (strategy, taken_back) = match name {
        "legacy root" => (None, false),
        "root reissued" => (Some("reissue"), false),
        "root rekeyed" => (Some("rekey"), false),
        "root reissued, back" => (Some("reissue"), true),
        "root rekeyed, back" => (Some("rekey"), true),
        _ => return None,
    };
    let (place, server, alice) = updates::legacy(&[]).await;
    // The operator takes it away, as the doctor advises: the Mastio has it.
    std::fs::remove_file(place.path("nginx-certs/org-ca.key")).unwrap();
    let agents = vec![("old agent", alice.certificates_pem())];
    let mut made = Made { place, server, situation: Situation { agents, ..Situation::default() } };
    made.settled().await;
    let problems: &[&str] = match strategy {
        None => {
            made.keep("new root");
            &["path_length_zero", "strict_rules"]
        }
        Some(strategy) => {
            made.keep("old root");
            made.keep("file of before");
            made.update(&format!("apply?strategy={strategy}")).await;
            made.agent("new agent").await;
            if taken_back {
                made.keep("new root");
                made.keep("file of between");
                made.update("rollback").await;
                &["path_length_zero", "strict_rules"]
            } else {
                &[]
            }
        }
    };
    Some(made.finish(problems).await)
}

impl Made {
    /// Applies the update or takes it back, while a client that pinned the file of before connects without pause.
    async fn update(&self, what: &str) {
        let path = format!("/proxy/updates/{PATH_LEN}/{what}");
        let confirmed = json!({ "confirm": true });
        let (url, known) = (self.server.url(), self.situation.pin("file of before"));
        let client = Client::builder(&url).ca_pem(known).timeout(PATIENCE).build().unwrap();
        let connects = async {
            loop {
                let answer = client.connect().request(Method::GET, "/healthz", HeaderMap::new(), "").await;
                assert_eq!(answer.unwrap().status, StatusCode::OK, "{what}");
            }
        };
        let answer = tokio::select! {
            answer = self.server.operator(Method::POST, &path, &confirmed) => answer,
            () = connects => unreachable!("it goes on"),
        };
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.json::<Value>().unwrap());
        self.settled().await;
    }
}
