//! What is in a bundle (contract `audit-and-database.md` §1.8).
//!
//! A `.tar.gz` of plain files, the manifest first. The same range gives the same bytes, unless evidence (a cosignature,
//! a time stamp) arrived in between.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use mastio_audit::{
    proof::{ConsistencyProof, InclusionProof, decode_hash},
    tree::Hash,
};
use mastio_core::hash_from_hex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The `format` of a manifest. Another one is refused.
pub const FORMAT: &str = "mastio-audit-bundle/1";

/// Longest line of `events.ndjson` in bytes: details of 16 KiB, each byte escaped, and room for the rest.
pub const MAX_LINE: usize = 256 * 1024;

/// The files of a bundle, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// [`Manifest`].
    Manifest,
    /// One line of JSON for each entry ([`mastio_audit::lines`]).
    Events,
    /// [`ChainProof`].
    ChainProof,
    /// The signed checkpoint that the proofs lead to, with cosignatures.
    Checkpoint,
    /// [`LogKey`].
    LogKey,
    /// The certificate of the key that announced the log key.
    SigningCert,
    /// The CAs above it, the root first.
    CaChain,
    /// A TimeStampResp (RFC 3161) over the hash of the last entry.
    TsaReply,
    /// The certificates of the time stamping authority.
    TsaChain,
}

impl File {
    /// All, in the order of the archive.
    pub const ALL: [Self; 9] = [
        Self::Manifest,
        Self::Events,
        Self::ChainProof,
        Self::Checkpoint,
        Self::LogKey,
        Self::SigningCert,
        Self::CaChain,
        Self::TsaReply,
        Self::TsaChain,
    ];

    /// Its name in the archive.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest.json",
            Self::Events => "events.ndjson",
            Self::ChainProof => "chain-proof.json",
            Self::Checkpoint => "checkpoint.txt",
            Self::LogKey => "log-key.json",
            Self::SigningCert => "signing-cert.pem",
            Self::CaChain => "ca-chain.pem",
            Self::TsaReply => "tsa-reply.tsr",
            Self::TsaChain => "tsa-chain.pem",
        }
    }

    /// Whether every bundle has it; time stamps are there only if an authority gave one.
    #[must_use]
    pub fn is_required(self) -> bool {
        !matches!(self, Self::TsaReply | Self::TsaChain)
    }

    /// The file of that name.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|file| file.name().as_bytes() == name)
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// SHA-256, written in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        read_digest(&text).ok_or_else(|| D::Error::custom("not 64 lower-case hex digits")).map(Self)
    }
}

/// 64 lower-case hex digits.
pub(crate) fn read_digest(text: &str) -> Option<[u8; 32]> {
    hash_from_hex(text).ok().filter(|digest| hex::encode(digest) == text)
}

/// A node of the tree, written in base64 as C2SP proofs write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node(pub Hash);

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode_hash(&text).ok_or_else(|| D::Error::custom("not a hash in base64")).map(Self)
    }
}

/// Which entries are in the bundle, and the digest of every other file. Times are UTC with six digits of fraction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Whose chain it is.
    pub org_id: String,
    /// From when entries were asked for; the time of the first one if they were asked for by number.
    pub start: String,
    /// Until when, exclusive; the time of the last entry if they were asked for by number.
    pub end: String,
    /// The first entry, `<org_id>:<chain_seq>`.
    pub first_id: String,
    /// The last entry, likewise.
    pub last_id: String,
    /// Position of the first entry in the chain.
    pub first_seq: u64,
    /// Position of the last one.
    pub last_seq: u64,
    /// How many there are: all from the first to the last.
    pub entries: u64,
    /// The hash of the first.
    pub first_hash: Digest,
    /// The hash of the last, which every one before it is part of.
    pub last_hash: Digest,
    /// The hash that the first links to; `null` if it is the first of the chain.
    pub previous_hash: Option<Digest>,
    /// The time of the last entry.
    pub created: String,
    /// SHA-256 of `events.ndjson`.
    pub sha256: Digest,
    /// SHA-256 of every other file by its name.
    pub files: BTreeMap<String, Digest>,
    /// Whether the entries left the database for this file.
    pub archived: bool,
}

/// What an entry is called: `<org_id>:<chain_seq>`.
pub(crate) fn entry_id(org: &str, seq: u64) -> String {
    format!("{org}:{seq}")
}

/// How the entries hang in the tree of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainProof {
    /// Which log: the first line of the checkpoint.
    pub origin: String,
    /// Position of the entry that is leaf 0.
    pub base_seq: u64,
    /// Leaves of the checkpoint's tree.
    pub tree_size: u64,
    /// Its root.
    pub root_hash: Node,
    /// That the first entry is in it; `null` if it is older than the tree. The last one's hash covers it then.
    pub first: Option<Inclusion>,
    /// That the last entry is in it.
    pub last: Inclusion,
    /// That a tree which somebody saw before is the beginning of this one, if it was asked for.
    pub consistency: Option<Consistency>,
    /// The archive that ends right before the first entry, if the chain in the database begins here.
    pub archived: Option<Mark>,
    /// The names and keys that the log had before, oldest first. Each was given up after a restore of an older database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handed_over: Vec<HandOver>,
}

/// A generation of the log that ended, because an older copy of the database was restored and that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    /// Its name.
    pub origin: String,
    /// Its key (C2SP signed-note).
    pub vkey: String,
    /// The name under which the log goes on.
    pub new_origin: String,
    /// What the entry `audit.restored` says; `null` when that entry is in an archive.
    pub told: Option<Lost>,
}

/// What is missing since a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Position of the entry `audit.restored`.
    pub seq: u64,
    /// Position of the first entry that is lost. Positions are used again by the successor.
    pub first: u64,
    /// Position of the last one that is known to be lost.
    pub last: u64,
    /// The last checkpoint that is known of before.
    pub last_checkpoint: String,
}

/// An inclusion proof (RFC 9162 §2.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// Position of the entry in the chain.
    pub seq: u64,
    /// Its leaf: `seq` less the base.
    pub leaf_index: u64,
    /// Sibling hashes from the leaf up.
    pub path: Vec<Node>,
}

impl Inclusion {
    /// `proof`, of the entry at `seq`.
    #[must_use]
    pub fn new(seq: u64, proof: &InclusionProof) -> Self {
        Self { seq, leaf_index: proof.index, path: nodes(&proof.path) }
    }

    /// The proof, in a tree of `size` leaves.
    pub(crate) fn proof(&self, size: u64) -> InclusionProof {
        InclusionProof { index: self.leaf_index, size, path: hashes(&self.path) }
    }
}

/// A consistency proof (RFC 9162 §2.1.4) that leads to the checkpoint's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consistency {
    /// Leaves of the older tree.
    pub from: u64,
    /// The nodes.
    pub path: Vec<Node>,
}

impl From<&ConsistencyProof> for Consistency {
    fn from(proof: &ConsistencyProof) -> Self {
        Self { from: proof.from, path: nodes(&proof.path) }
    }
}

impl Consistency {
    /// The proof, to a tree of `size` leaves.
    pub(crate) fn proof(&self, size: u64) -> ConsistencyProof {
        ConsistencyProof { from: self.from, to: size, path: hashes(&self.path) }
    }
}

fn nodes(path: &[Hash]) -> Vec<Node> {
    path.iter().copied().map(Node).collect()
}

fn hashes(path: &[Node]) -> Vec<Hash> {
    path.iter().map(|node| node.0).collect()
}

/// A part of the chain that left the database for an archive, which is a bundle itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Position of its first entry.
    pub first_seq: u64,
    /// Position of its last entry.
    pub archived_through: u64,
    /// The hash of its last entry: what the next one links to.
    pub head_hash: Digest,
    /// SHA-256 of its bundle.
    pub bundle_sha256: Digest,
}

/// The key that signs checkpoints, and the Mastio's word that it is the log's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogKey {
    /// Which log.
    pub origin: String,
    /// The key (C2SP signed-note).
    pub vkey: String,
    /// Position of the entry that is leaf 0.
    pub base_seq: u64,
    /// A compact JWS by the Mastio's signing key over the three.
    pub announcement: String,
    /// Position of the entry that told it.
    pub announced_seq: u64,
}
