//! The situations of the table: which CAs there were, what the server sends, and what clients may have pinned.
//!
//! They are put together from the profiles that the Mastio issues by, and served by openssl, so that each of them can be
//! looked at whatever the Mastio does to get there.

use std::time::Duration;

use mastio_core::{AgentId, Clock, OrgId, SpiffeId, Stamp, SystemClock, SystemRng};
use mastio_pki::{Certificate, Issuer, KeyPair, ServerNames, issued_chain, profile, trust_file};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::harness::repository;

/// What a client meets, and what it may believe.
#[derive(Default)]
pub(crate) struct Situation {
    /// Leaf, intermediate, links.
    pub(crate) chain: String,
    /// The leaf's key.
    pub(crate) key: String,
    /// What clients pinned, by the name in the table.
    pub(crate) pins: Vec<(&'static str, String)>,
    /// Chains of agents, by the name in the table.
    pub(crate) agents: Vec<(&'static str, String)>,
}

impl Situation {
    /// What is pinned under a name.
    pub(crate) fn pin(&self, name: &str) -> &str {
        let found = self.pins.iter().find(|(known, _)| *known == name);
        &found.unwrap_or_else(|| panic!("nothing is pinned as {name}")).1
    }

    /// The chain of an agent.
    pub(crate) fn chain_of(&self, name: &str) -> &str {
        let found = self.agents.iter().find(|(known, _)| *known == name);
        &found.unwrap_or_else(|| panic!("no agent is called {name}")).1
    }
}

type Ca = Issuer<KeyPair>;

fn now() -> Stamp {
    SystemClock::default().now()
}

fn acme() -> OrgId {
    OrgId::parse("acme").unwrap()
}

fn key() -> KeyPair {
    KeyPair::generate_p256().unwrap()
}

fn root() -> Ca {
    let key = key();
    Issuer::new(profile::root(&acme(), &key, now(), &SystemRng).unwrap(), key).unwrap()
}

/// A root as an operator may bring it: it allows any number of CAs below it.
pub(crate) fn wide_root() -> Ca {
    let (key, mut wide) = (key(), CertificateParams::default());
    wide.distinguished_name.push(DnType::CommonName, "Cullis Org CA");
    wide.distinguished_name.push(DnType::OrganizationName, "acme");
    wide.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wide.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = Certificate::from_pem(&wide.self_signed(&key).unwrap().pem()).unwrap();
    Issuer::new(certificate, key).unwrap()
}

/// A root of the same name with a key of its own.
fn successor(old: &Ca) -> Ca {
    let (key, end) = (key(), now().plus(profile::ROOT_LIFETIME));
    let certificate = profile::successor(old.certificate(), &key, end, now(), &SystemRng).unwrap();
    Issuer::new(certificate, key).unwrap()
}

fn intermediate(root: &Ca) -> Ca {
    let key = key();
    let certificate = profile::intermediate(root, &acme(), key.spki_der(), now(), &SystemRng).unwrap();
    Issuer::new(certificate, key).unwrap()
}

fn link(old: &Ca, new: &Ca) -> Certificate {
    profile::link(old, new.certificate(), now(), &SystemRng).unwrap()
}

/// The chain of an agent below `issuer`.
fn agent(issuer: &Ca) -> String {
    let (id, spiffe) = (
        AgentId::parse("acme::alice").unwrap(),
        SpiffeId::parse("spiffe://cullis.local/acme/alice").unwrap(),
    );
    let day = Duration::from_secs(86_400);
    let leaf = profile::agent(issuer, &id, &spiffe, key().spki_der(), day, now(), &SystemRng).unwrap();
    issued_chain(&leaf, std::slice::from_ref(issuer.certificate()))
}

/// A server below `issuer` that sends `links` along.
fn served(issuer: &Ca, links: &[Certificate]) -> Situation {
    let names = ServerNames::from_settings("localhost", None).unwrap();
    let key = key();
    let leaf = profile::server(issuer, &names, &acme(), key.spki_der(), now(), &SystemRng).unwrap();
    let above: Vec<_> = std::iter::once(issuer.certificate()).chain(links).cloned().collect();
    Situation {
        chain: issued_chain(&leaf, &above),
        key: key.to_pkcs8_pem().expose_secret().to_owned(),
        pins: vec![],
        agents: vec![],
    }
}

impl Situation {
    fn pinned(mut self, name: &'static str, root: &Ca) -> Self {
        self.pins.push((name, root.certificate().pem()));
        self
    }

    /// The trust file `name`: a root, then others.
    fn file(mut self, name: &'static str, first: &Ca, others: &[&Ca]) -> Self {
        let others = others.iter().map(|ca| ca.certificate());
        self.pins.push((name, trust_file(first.certificate(), others)));
        self
    }

    fn agent(mut self, name: &'static str, issuer: &Ca) -> Self {
        self.agents.push((name, agent(issuer)));
        self
    }
}

/// The situation of that name.
pub(crate) fn situation(name: &str) -> Situation {
    match name {
        "fresh" => {
            let root = root();
            let below = intermediate(&root);
            served(&below, &[])
                .pinned("new root", &root)
                .file("file", &root, &[&below])
                .agent("new agent", &below)
        }
        "intermediate rotated" => {
            let root = root();
            let (before, below) = (intermediate(&root), intermediate(&root));
            served(&below, &[])
                .pinned("new root", &root)
                .file("file", &root, &[&below, &before])
                .file("file of before", &root, &[&before])
                .agent("old agent", &before)
                .agent("new agent", &below)
        }
        "cut" => rotated(true),
        "cut of a wide root" => rotated_from(wide_root(), true),
        "compromise" => rotated(false),
        "two cuts behind"
        | "two overlaps behind"
        | "a cut and an overlap behind"
        | "an overlap and a cut behind" => behind(2),
        "three cuts behind" => behind(3),
        "overlap, distribute" | "overlap, reissue" => {
            let old = root();
            let new = successor(&old);
            let (before, below) = (intermediate(&old), intermediate(&new));
            served(&before, &[])
                .pinned("old root", &old)
                .pinned("new root", &new)
                .file("file of before", &old, &[&before])
                .file("file", &old, &[&before, &below, &new])
                .agent("old agent", &before)
                .agent("new agent", &below)
        }
        "overlap, activated" | "overlap, done" => rotated(true),
        "legacy root" => {
            let (root, below) = legacy();
            served(&below, &[])
                .pinned("new root", &root)
                .file("file", &root, &[&below])
                .agent("old agent", &below)
        }
        "root reissued" | "root reissued, back" => reissued(name.ends_with("back")),
        "root rekeyed" | "root rekeyed, back" => rekeyed(name.ends_with("back")),
        other => panic!("no situation is called {other}"),
    }
}

/// A new root in the place of an old one, with or without a link.
fn rotated(linked: bool) -> Situation {
    rotated_from(root(), linked)
}

fn rotated_from(old: Ca, linked: bool) -> Situation {
    let new = successor(&old);
    let (before, below) = (intermediate(&old), intermediate(&new));
    let links = if linked { vec![link(&old, &new)] } else { vec![] };
    let situation = served(&below, &links)
        .pinned("old root", &old)
        .pinned("new root", &new)
        .file("file of before", &old, &[&before])
        .agent("old agent", &before)
        .agent("new agent", &below);
    match linked {
        true => situation.file("file", &new, &[&below, &before, &old]),
        false => situation.file("file", &new, &[&below]),
    }
}

/// A client that slept through so many cuts, each with a link.
fn behind(cuts: usize) -> Situation {
    let mut roots = vec![root()];
    let mut links = Vec::new();
    for at in 0..cuts {
        roots.push(successor(&roots[at]));
        links.insert(0, link(&roots[at], &roots[at + 1]));
    }
    let intermediates: Vec<_> = roots.iter().map(intermediate).collect();
    let (new, below) = (&roots[cuts], &intermediates[cuts]);
    let others: Vec<_> = intermediates.iter().rev().chain(roots[..cuts].iter().rev()).collect();
    served(below, &links)
        .pinned("oldest root", &roots[0])
        .pinned("old root", &roots[cuts - 1])
        .pinned("new root", new)
        .file("file of before", &roots[0], &[&intermediates[0]])
        .file("file", new, &others)
        .agent("old agent", &intermediates[0])
        .agent("new agent", below)
}

/// A root of path length 0 that was certified again for its own key, or for a while only.
fn reissued(back: bool) -> Situation {
    let (old, below) = legacy();
    let end = old.certificate().not_after();
    let repaired = profile::successor(old.certificate(), old.key(), end, now(), &SystemRng).unwrap();
    let new = again(repaired, &old);
    let situation = served(&below, &[])
        .pinned("old root", &old)
        .pinned("new root", &new)
        .file("file of before", &old, &[&below])
        .agent("old agent", &below)
        .agent("new agent", &below);
    match back {
        false => situation.file("file", &new, &[&below, &old]),
        true => situation.file("file of between", &new, &[&below, &old]).file("file", &old, &[&below]),
    }
}

/// Another root in the place of one of path length 0, above the intermediate's key and name, or for a while only.
fn rekeyed(back: bool) -> Situation {
    let (old, before) = legacy();
    let new = successor(&old);
    let below = profile::intermediate_again(&new, before.certificate(), now(), &SystemRng).unwrap();
    let below = again(below, &before);
    let situation = served(if back { &before } else { &below }, &[])
        .pinned("old root", &old)
        .pinned("new root", &new)
        .file("file of before", &old, &[&before])
        .agent("old agent", &before)
        .agent("new agent", &below);
    match back {
        false => situation.file("file", &new, &[&below, &before, &old]),
        true => {
            situation.file("file of between", &new, &[&below, &before, &old]).file("file", &old, &[&before])
        }
    }
}

/// What `ca` is with another certificate.
fn again(certificate: Certificate, ca: &Ca) -> Ca {
    Issuer::new(certificate, KeyPair::from_pkcs8_der(&ca.key().to_pkcs8_der()).unwrap()).unwrap()
}

/// A root of the Python implementation with path length zero, and what it signed all the same.
fn legacy() -> (Ca, Ca) {
    let text = std::fs::read_to_string(repository("fixtures/pki-vectors.json")).unwrap();
    let vectors: Value = serde_json::from_str(&text).unwrap();
    let text = |pointer: &str| vectors.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let certificate = Certificate::from_pem(&text("/legacy_pathlen_zero/root")).unwrap();
    let key = KeyPair::from_pem(&text("/legacy_pathlen_zero/root_key")).unwrap();
    let root = Issuer::new(certificate, key).unwrap();
    let below = intermediate(&root);
    (root, below)
}
