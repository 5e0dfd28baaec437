//! Whatever happens to one agent in whatever order, also at once: it ends in a legal state, and whoever was shut out
//! stays out.

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    sync::Arc,
    time::Duration,
};

use crate::{
    authentication::{call, mint},
    device::{Device, named},
    renewal::{RENEW, brought, csr, id, renew, with},
    world::*,
};
use mastio_authority::{
    Authority,
    enroll::Candidate,
    lifecycle::{self, Rotation},
    peer::Peer,
};
use mastio_core::{AgentId, Clock, Thumbprint};
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, pem};
use mastio_store::{agents, audit, revocations};
use proptest::{prelude::*, test_runner::TestRunner};
use secrecy::ExposeSecret;
use serde_json::json;

/// One thing that an operator or an agent does. Numbers choose among the credentials that were ever handed out.
#[derive(Debug, Clone, Copy)]
enum Step {
    Create {
        reuse: bool,
    },
    Bring {
        reuse: bool,
    },
    Delete,
    Deactivate,
    Reactivate,
    Revoke,
    Rotate {
        hours: u64,
        key: Choice,
    },
    Renew {
        by: u8,
        key: Choice,
    },
    SetDpopKey,
    Mint {
        by: u8,
    },
    Wait {
        hours: u64,
    },
    Reload,
    /// Somebody asks by device code with this key, and an operator decides.
    Enrol {
        key: Choice,
        approve: bool,
    },
}

/// Whose key is certified.
#[derive(Debug, Clone, Copy)]
enum Choice {
    /// One that was never seen.
    New,
    /// That of an earlier certificate.
    Old(u8),
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![2 => Just(Choice::New), 1 => any::<u8>().prop_map(Choice::Old)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<bool>().prop_map(|reuse| Step::Create { reuse }),
        2 => any::<bool>().prop_map(|reuse| Step::Bring { reuse }),
        2 => Just(Step::Delete),
        2 => Just(Step::Deactivate),
        2 => Just(Step::Reactivate),
        3 => Just(Step::Revoke),
        5 => (0u64..3, choice()).prop_map(|(hours, key)| Step::Rotate { hours, key }),
        6 => (any::<u8>(), choice()).prop_map(|(by, key)| Step::Renew { by, key }),
        1 => Just(Step::SetDpopKey),
        3 => any::<u8>().prop_map(|by| Step::Mint { by }),
        1 => (1u64..50).prop_map(|hours| Step::Wait { hours }),
        1 => Just(Step::Reload),
        4 => (choice(), prop::bool::weighted(0.8)).prop_map(|(key, approve)| Step::Enrol { key, approve }),
    ]
}

/// A credential that was handed out, and the DPoP key that its holder has.
struct Credential {
    holder: Holder,
    dpop: Arc<SigningKey>,
    /// Its certificate was seen to be revoked: it stays so.
    revoked: Cell<bool>,
}

/// One agent id and all that was ever handed out for it.
struct Story<'a> {
    world: &'a World,
    authority: &'a Authority,
    name: String,
    credentials: RefCell<Vec<Credential>>,
    tokens: RefCell<Vec<(String, Arc<SigningKey>, usize)>>,
    dpop: RefCell<Arc<SigningKey>>,
    /// The key that was pinned when the step began.
    pinned: Cell<Option<[u8; 32]>>,
    /// Keys that were pinned when their agent was revoked: whatever is certified for them is worthless.
    shut_out: RefCell<HashSet<[u8; 32]>>,
}

impl<'a> Story<'a> {
    fn of(name: String, world: &'a World, authority: &'a Authority) -> Self {
        Self {
            world,
            authority,
            name,
            credentials: RefCell::default(),
            tokens: RefCell::default(),
            dpop: RefCell::new(Arc::new(SigningKey::generate().unwrap())),
            pinned: Cell::default(),
            shut_out: RefCell::default(),
        }
    }

    fn agent(&self) -> AgentId {
        AgentId::new(&self.authority.trust().org, &candidate(&self.name).name)
    }

    async fn is_buried(&self) -> bool {
        agents::tombstone(self.authority.store(), &self.agent()).await.unwrap().is_some()
    }

    fn hand_out(&self, holder: Holder) {
        let dpop = Arc::clone(&self.dpop.borrow());
        self.credentials.borrow_mut().push(Credential { holder, dpop, revoked: Cell::new(false) });
    }

    /// A copy of a credential handed out earlier, if there is one.
    fn chosen(&self, number: u8) -> Option<(Holder, Arc<SigningKey>)> {
        let all = self.credentials.borrow();
        let one = all.get(usize::from(number).checked_rem(all.len())?)?;
        Some((copy(&one.holder), Arc::clone(&one.dpop)))
    }

    fn key(&self, choice: Choice) -> KeyPair {
        let old = match choice {
            Choice::New => None,
            Choice::Old(number) => self.chosen(number).map(|(holder, _)| holder.key),
        };
        old.unwrap_or_else(|| KeyPair::generate_p256().unwrap())
    }

    /// Does it. A refusal is as good as a success: what counts is the state that is left.
    async fn take(&self, step: Step) {
        let (authority, agent) = (self.authority, self.agent());
        match step {
            Step::Create { reuse } => {
                let wanted = Candidate { reuse, ..candidate(&self.name) };
                let buried = self.is_buried().await;
                if let Ok(made) = authority.create_agent(&wanted, true, &operator()).await {
                    assert!(reuse || !buried, "the id of a deleted agent was given away");
                    self.hand_out(Holder::of(&made));
                }
            }
            Step::Bring { reuse } => {
                let wanted = Candidate { reuse, ..candidate(&self.name) };
                let taken = agents::find(authority.store(), &agent).await.unwrap().is_some();
                if !taken && let Ok(holder) = brought(authority, self.world, &wanted).await {
                    self.hand_out(holder);
                }
            }
            Step::Delete => {
                if authority.decommission(&agent, None, &operator()).await.is_ok() {
                    self.shut_out.borrow_mut().extend(self.pinned.get());
                }
            }
            Step::Deactivate => drop(authority.deactivate(&agent, &operator()).await),
            Step::Reactivate => drop(authority.reactivate(&agent, &operator()).await),
            Step::Revoke => {
                let revoked = authority.revoke(&agent, None, &operator()).await;
                if revoked.is_ok_and(|revoked| !revoked.already) {
                    self.shut_out.borrow_mut().extend(self.pinned.get());
                }
            }
            Step::Rotate { hours, key } => self.rotate(hours, key).await,
            Step::Renew { by, key } => {
                let Some((holder, dpop)) = self.chosen(by) else { return };
                let next = self.key(key);
                if let Ok(renewed) = renew(authority, self.world, &holder, &dpop, &next, None).await {
                    self.hand_out(with(&holder, &renewed, next));
                }
            }
            Step::SetDpopKey => {
                let key = Arc::new(SigningKey::generate().unwrap());
                if authority.set_dpop_key(&agent, &key.public_jwk().to_value(), &operator()).await.is_ok() {
                    *self.dpop.borrow_mut() = key;
                }
            }
            Step::Mint { by } => self.mint(by).await,
            Step::Wait { hours } => self.world.clock.advance(Duration::from_secs(hours * 3600)),
            Step::Reload => authority.reload().unwrap(),
            Step::Enrol { key, approve } => self.enrol(key, approve).await,
        }
    }

    async fn enrol(&self, choice: Choice, approve: bool) {
        let (authority, dpop) = (self.authority, SigningKey::generate().unwrap());
        let device = Device { key: self.key(choice), dpop };
        let Ok(started) = authority.start_enrollment(&device.start()).await else { return };
        if !approve {
            drop(authority.reject_enrollment(&started.id, "no", &operator()).await);
            return;
        }
        if authority.approve_enrollment(&started.id, &named(&self.name), &operator()).await.is_ok() {
            let outcome = device.status(authority, &started.id).await;
            let chain = pem::certificates(&outcome.certificates.unwrap()).unwrap();
            *self.dpop.borrow_mut() = Arc::new(device.dpop);
            self.hand_out(Holder { id: outcome.agent.unwrap().to_string(), chain, key: device.key });
        }
    }

    async fn rotate(&self, hours: u64, choice: Choice) {
        let own = matches!(choice, Choice::Old(_)).then(|| self.key(choice));
        let grace = (hours > 0).then(|| Duration::from_secs(hours * 3600));
        let rotation = Rotation { csr_pem: own.as_ref().map(csr), grace, ..Rotation::default() };
        let rotated = self.authority.rotate_certificate(&self.agent(), &rotation, &operator()).await;
        let Ok(rotated) = rotated else { return };
        let key =
            own.unwrap_or_else(|| KeyPair::from_pem(rotated.key.as_ref().unwrap().expose_secret()).unwrap());
        let chain = pem::certificates(&rotated.certificates).unwrap();
        self.hand_out(Holder { id: self.agent().to_string(), chain, key });
    }

    async fn mint(&self, by: u8) {
        let Some((holder, _)) = self.chosen(by) else { return };
        let index = usize::from(by) % self.credentials.borrow().len();
        let key = Arc::new(SigningKey::generate().unwrap());
        if let Some(token) = self.minted(&nobody(), Some(&holder), &key).await {
            self.tokens.borrow_mut().push((token, key, index));
        }
    }

    async fn minted(&self, peer: &Peer, assertion: Option<&Holder>, key: &SigningKey) -> Option<String> {
        let now = self.world.clock.now();
        let dpop = proof(key, "POST", TOKEN, &json!({}), now);
        let assertion = assertion.map(|holder| holder.assertion(now));
        mint(self.authority, peer, assertion.as_deref(), Some(&dpop)).await.ok()
    }

    /// What must hold after every step.
    async fn check(&self) {
        let now = self.world.clock.now();
        let row = agents::find(self.authority.store(), &self.agent()).await.unwrap();
        let mut let_in: Vec<Thumbprint> = Vec::new();
        let handed_out = self.credentials.borrow().len();
        for index in 0..handed_out {
            let (holder, dpop) = self.chosen(u8::try_from(index).unwrap()).unwrap();
            let leaf = &holder.chain[0];
            if self.authority.certificate(&holder.peer()).await.is_ok()
                && !let_in.contains(&leaf.thumbprint())
            {
                let_in.push(leaf.thumbprint());
            }
            let revoked = self.authority.registry().is_revoked(&leaf.thumbprint());
            let before = self.credentials.borrow()[index].revoked.replace(revoked);
            assert!(revoked || !before, "a revocation was taken back");
            if revoked || self.shut_out.borrow().contains(&leaf.spki_sha256()) {
                self.assert_out(&holder, &dpop).await;
            }
        }
        let first = |pem: Option<String>| pem.map(|pem| pem::certificates(&pem).unwrap().swap_remove(0));
        let active = row.as_ref().is_some_and(agents::AgentRow::is_active);
        let grace = row.as_ref().and_then(|row| row.grace.clone()).filter(|grace| grace.until > now);
        let (pinned, graced) =
            (first(row.and_then(|row| row.certificates)), first(grace.and_then(|grace| grace.certificates)));
        let legal = |leaf: &Thumbprint| {
            active && [&pinned, &graced].into_iter().flatten().any(|slot| slot.thumbprint() == *leaf)
        };
        assert!(let_in.iter().all(legal), "let in by neither the pin nor the grace slot of an active agent");
        self.pinned.set(pinned.map(|pinned| pinned.spki_sha256()));
        self.check_tokens().await;
    }

    /// No call that the holder of a revoked certificate or a barred key can make succeeds.
    async fn assert_out(&self, holder: &Holder, dpop: &SigningKey) {
        let (authority, key) = (self.authority, SigningKey::generate().unwrap());
        assert!(self.minted(&holder.peer(), None, &key).await.is_none(), "minted over mTLS");
        assert!(self.minted(&nobody(), Some(holder), &key).await.is_none(), "minted by assertion");
        let more = json!({ "nonce": authority.proofs().nonce() });
        let shown = proof(dpop, "POST", RENEW, &more, self.world.clock.now());
        let renewing = authority.key_holder(&holder.peer(), &line("POST", RENEW, Some(&shown))).await;
        assert!(renewing.is_err(), "may renew");
        let calling = authority.caller_by_certificate(&holder.peer(), &line("GET", CALL, None)).await;
        assert!(calling.is_err(), "may call");
        // The routes that give and countersign challenges want the certificate first.
        assert!(authority.certificate(&holder.peer()).await.is_err(), "is given a challenge");
        assert_eq!(id(holder), self.agent());
    }

    /// A certificate whose time beside its successor is over leaves its tokens alone; every other revocation ends them.
    async fn check_tokens(&self) {
        let tokens: Vec<_> = self.tokens.borrow().clone();
        let revoked =
            revocations::unexpired(self.authority.store().database(), self.world.clock.now()).unwrap();
        let ended: HashSet<Thumbprint> = revoked
            .into_iter()
            .filter(|revocation| revocation.reason != lifecycle::GRACE_OVER)
            .map(|revocation| revocation.thumbprint)
            .collect();
        for (token, key, minter) in tokens {
            let accepted = call(self.authority, self.world, &token, &key).await.is_ok();
            let minter = self.credentials.borrow()[minter].holder.chain[0].thumbprint();
            assert!(!accepted || !ended.contains(&minter), "a token of a revoked certificate is accepted");
        }
    }
}

fn copy(holder: &Holder) -> Holder {
    let key = KeyPair::from_pkcs8_der(&holder.key.to_pkcs8_der()).unwrap();
    Holder { id: holder.id.clone(), chain: holder.chain.clone(), key }
}

/// Steps, some of them two at once.
fn steps() -> impl Strategy<Value = (Step, Vec<(Step, Option<Step>)>)> {
    let first = prop_oneof![Just(Step::Create { reuse: false }), Just(Step::Bring { reuse: false })];
    (first, prop::collection::vec((step(), prop::option::of(step())), 1..14))
}

#[test]
fn whatever_happens_to_an_agent_whoever_was_shut_out_stays_out() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = World::new();
    let limits = ("MCP_PROXY_RATE_LIMIT_PER_MINUTE", "1000000");
    let authority = runtime.block_on(world.boot(&[limits])).unwrap();
    let config =
        ProptestConfig { cases: 48, max_shrink_iters: 200, failure_persistence: None, ..Default::default() };
    let stories = Cell::new(0);
    let told = TestRunner::new(config).run(&steps(), |(first, steps)| {
        let name = format!("agent-{}", stories.replace(stories.get() + 1));
        runtime.block_on(async {
            let story = Story::of(name, &world, &authority);
            for (one, other) in std::iter::once((first, None)).chain(steps) {
                match other {
                    Some(other) => drop(tokio::join!(story.take(one), story.take(other))),
                    None => story.take(one).await,
                }
                story.check().await;
            }
        });
        Ok(())
    });
    told.unwrap();
    let mastio_config::Database::Sqlite(path) = world.settings(&[]).database;
    for finding in audit::verify_file(&path, &mut |_| ()).unwrap() {
        finding.result.unwrap();
    }
}
