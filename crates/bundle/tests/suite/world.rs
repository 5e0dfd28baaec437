//! An organisation with its CA, a log and a time stamping authority.

use std::cell::RefCell;

use mastio_audit::{
    Draft, Head, LocalRow, Sealed,
    checkpoint::{Checkpoint, SignedCheckpoint},
    note::{KeyKind, Name, NoteSigner},
    proof::InclusionProof,
    tree::{Edge, Hash, TileId, Tiles, Tree, TreeHead},
};
use mastio_bundle::{
    Evidence, Occasion, Plan, Stamped, Survey, Trusted, Writer,
    format::{ChainProof, Consistency, Inclusion, LogKey, Node},
};
use mastio_core::{
    AgentId, AgentName, Clock, Event, OrgId, SpiffeId, Stamp, SystemClock, SystemRng, TrustDomain,
    event::catalogue::AgentDeactivated,
};
use mastio_jose::{SigningKey, jws};
use mastio_pki::{Certificate, Issuer, KeyPair, profile, trust_file};
use mastio_testing::tsa::{Key, Tsa};
use serde_json::json;

pub(crate) const ORG: &str = "acme";
const ORIGIN: &str = "mastio.acme.example/audit";

/// Tiles in memory.
#[derive(Default)]
struct Memory(std::collections::BTreeMap<TileId, Vec<u8>>);

impl Tiles for Memory {
    type Error = ();

    fn tile(&self, tile: TileId, _: usize) -> Result<Vec<u8>, ()> {
        Ok(self.0.get(&tile).cloned().unwrap_or_default())
    }
}

/// A key with a certificate.
pub(crate) struct Signer {
    pub(crate) key: SigningKey,
    pub(crate) certificate: Certificate,
}

pub(crate) struct World {
    pub(crate) root: Issuer<KeyPair>,
    pub(crate) intermediate: Issuer<KeyPair>,
    pub(crate) mastio: Signer,
    pub(crate) log: NoteSigner,
    pub(crate) witness: NoteSigner,
    pub(crate) entries: Vec<Sealed>,
    tiles: Memory,
    /// When the log key was announced.
    pub(crate) announced: Stamp,
    pub(crate) tsa: RefCell<Option<Tsa>>,
}

fn org() -> OrgId {
    OrgId::parse(ORG).unwrap()
}

fn domain() -> TrustDomain {
    TrustDomain::parse("cullis.local").unwrap()
}

pub(crate) fn now() -> Stamp {
    SystemClock::default().now()
}

/// When the organisation began, and announced its log key: before any entry.
pub(crate) fn began() -> Stamp {
    now().minus(std::time::Duration::from_secs(3600))
}

pub(crate) fn signer(issue: impl FnOnce(&[u8]) -> Certificate) -> Signer {
    let key = SigningKey::generate().unwrap();
    let certificate = issue(key.spki_der());
    Signer { key, certificate }
}

/// The Mastio's leaf below `issuer`.
pub(crate) fn mastio_below(issuer: &Issuer<KeyPair>) -> Signer {
    signer(|spki| profile::mastio_leaf(issuer, &domain(), &org(), spki, began(), &SystemRng).unwrap())
}

/// An agent's leaf.
pub(crate) fn agent_below(issuer: &Issuer<KeyPair>) -> Signer {
    let name = AgentName::parse("alice").unwrap();
    let (id, spiffe) = (AgentId::new(&org(), &name), SpiffeId::of_agent(&domain(), &org(), &name));
    signer(|spki| {
        profile::agent(issuer, &id, &spiffe, spki, profile::LEAF_LIFETIME, began(), &SystemRng).unwrap()
    })
}

pub(crate) fn log_key() -> NoteSigner {
    NoteSigner::generate(KeyKind::Log, Name::parse(ORIGIN).unwrap(), &SystemRng).unwrap()
}

/// `count` entries, a second apart; the last at `until`.
fn entries(count: u64, until: Stamp) -> Vec<Sealed> {
    let mut head = Head::GENESIS;
    let second = |n: u64| until.minus(std::time::Duration::from_secs(count - n));
    (1..=count).map(|n| head.append(draft(&format!("op-{n} \"é\"|x"), second(n)))).collect()
}

pub(crate) fn draft(by: &str, at: Stamp) -> Draft {
    let event = Event::new(&AgentDeactivated { by: by.to_owned() }).about("acme::alice");
    Draft::new(&event, &org(), at)
}

impl World {
    pub(crate) fn new() -> Self {
        Self::until(now())
    }

    /// A log whose last entry is of that time.
    pub(crate) fn until(until: Stamp) -> Self {
        let key = KeyPair::generate_p256().unwrap();
        let root = Issuer::new(profile::root(&org(), &key, began(), &SystemRng).unwrap(), key).unwrap();
        let key = KeyPair::generate_p256().unwrap();
        let below = profile::intermediate(&root, &org(), key.spki_der(), began(), &SystemRng).unwrap();
        let intermediate = Issuer::new(below, key).unwrap();
        let witness = Name::parse("witness.example").unwrap();
        let witness = NoteSigner::generate(KeyKind::Witness, witness, &SystemRng).unwrap();
        let entries = entries(600, until);
        let tiles = grown(&entries);
        let mastio = mastio_below(&intermediate);
        let (log, announced, tsa) = (log_key(), began(), RefCell::new(None));
        Self { root, intermediate, mastio, log, witness, entries, tiles, announced, tsa }
    }

    /// Another log of the same organisation.
    pub(crate) fn of(self, entries: Vec<Sealed>) -> Self {
        let tiles = grown(&entries);
        Self { entries, tiles, ..self }
    }

    pub(crate) fn tree(&self, size: u64) -> TreeHead {
        Tree::new(size, &self.tiles).head().unwrap()
    }

    pub(crate) fn inclusion(&self, seq: u64, size: u64) -> InclusionProof {
        Tree::new(size, &self.tiles).inclusion(seq - 1).unwrap()
    }

    pub(crate) fn checkpoint(&self, size: u64) -> SignedCheckpoint {
        let origin = self.log.key().name().clone();
        Checkpoint { origin, head: self.tree(size) }.sign(&self.log).unwrap()
    }

    /// Everything that an auditor may know.
    pub(crate) fn trusted(&self) -> Trusted {
        Trusted { ca_roots: vec![self.root.certificate().clone()], ..Trusted::default() }
    }

    pub(crate) fn announce(&self, signer: &Signer, log: &NoteSigner) -> LogKey {
        let (origin, vkey) = (log.key().name().to_string(), log.key().to_string());
        let header = json!({ "alg": "ES256", "kid": signer.key.kid(), "typ": "mastio-log-key+jwt" });
        let claims = json!({ "iss": ORG, "origin": origin, "vkey": vkey, "base_seq": 1, "iat": self.announced.unix() });
        let announcement = jws::sign(&signer.key, &header, &claims).unwrap();
        LogKey { origin, vkey, base_seq: 1, announcement, announced_seq: 2 }
    }

    /// What proves the entries `first` to `last`, in the tree of all.
    pub(crate) fn evidence(&self, first: u64, last: u64) -> Evidence {
        let size = self.entries.len() as u64;
        let tree = Tree::new(size, &self.tiles);
        let inclusion = |seq: u64| Inclusion::new(seq, &tree.inclusion(seq - 1).unwrap());
        let root = self.root.certificate();
        Evidence {
            chain_proof: ChainProof {
                origin: self.log.key().name().to_string(),
                base_seq: 1,
                tree_size: size,
                root_hash: Node(tree.head().unwrap().root),
                first: Some(inclusion(first)),
                last: inclusion(last),
                consistency: Some(Consistency::from(&tree.consistency(size.min(100)).unwrap())),
                archived: None,
                handed_over: Vec::new(),
            },
            checkpoint: self.checkpoint(size),
            log_key: self.announce(&self.mastio, &self.log),
            signing_cert: self.mastio.certificate.pem(),
            ca_chain: trust_file(root, [self.intermediate.certificate()]),
            stamped: None,
        }
    }

    /// A time stamp over the entry `seq`.
    pub(crate) fn stamp(&self, seq: u64) -> Stamped {
        let mut tsa = self.tsa.borrow_mut();
        let tsa = tsa.get_or_insert_with(|| Tsa::new(Key::P256));
        let hash = hex::encode(self.hash(seq));
        let reply = tsa.reply(&tsa.query(&hash, &["-cert"]));
        let chain =
            ["tsa.pem", "ca.pem", "root.pem"].map(|name| std::fs::read_to_string(tsa.file(name)).unwrap());
        Stamped { reply, chain: chain.concat() }
    }

    pub(crate) fn hash(&self, seq: u64) -> Hash {
        self.entries[seq as usize - 1].entry_hash
    }

    pub(crate) fn bundle(&self, first: u64, last: u64) -> Vec<u8> {
        self.written(first, last, &self.evidence(first, last))
    }

    pub(crate) fn stamped(&self, first: u64, last: u64) -> Vec<u8> {
        let evidence = Evidence { stamped: Some(self.stamp(last)), ..self.evidence(first, last) };
        self.written(first, last, &evidence)
    }

    pub(crate) fn written(&self, first: u64, last: u64, evidence: &Evidence) -> Vec<u8> {
        written(&self.entries[first as usize - 1..last as usize], evidence)
    }
}

pub(crate) fn written(entries: &[Sealed], evidence: &Evidence) -> Vec<u8> {
    let mut survey = Survey::default();
    entries.iter().for_each(|entry| with_row(entry, |row| survey.push(row).unwrap()));
    let surveyed = survey.finish().unwrap();
    let occasion = Occasion { org_id: ORG, window: None, archived: false };
    let plan = Plan::new(occasion, &surveyed, evidence).unwrap();
    let mut writer = Writer::begin(Vec::new(), plan).unwrap();
    entries.iter().for_each(|entry| with_row(entry, |row| writer.push(row).unwrap()));
    writer.finish().unwrap()
}

/// The entry as a stored row.
pub(crate) fn with_row<T>(entry: &Sealed, work: impl FnOnce(&LocalRow<'_>) -> T) -> T {
    let (previous, hash) = (entry.previous_hash.map(hex::encode), hex::encode(entry.entry_hash));
    work(&LocalRow {
        id: entry.chain_seq as i64 + 7,
        timestamp: &entry.timestamp,
        event_type: &entry.event_type,
        agent_id: entry.agent_id.as_deref(),
        session_id: entry.session_id.as_deref(),
        org_id: Some(entry.org_id.as_str()),
        result: entry.result,
        details: entry.details.as_deref(),
        previous_hash: previous.as_deref(),
        entry_hash: Some(&hash),
        chain_seq: Some(entry.chain_seq as i64),
        peer_org_id: None,
        hash_format: Some(Sealed::HASH_FORMAT),
    })
}

fn grown(entries: &[Sealed]) -> Memory {
    let mut tiles = Memory::default();
    let mut edge = Edge::load(0, &tiles).unwrap_or_else(|_| panic!("an empty tree"));
    entries.iter().for_each(|entry| edge.append(&entry.entry_hash));
    for growth in edge.take_growth() {
        tiles.0.entry(growth.tile).or_default().extend(growth.hashes);
    }
    tiles
}
