//! What the doctor can find: each kind with its code, its level, what it means, and what to do.

use std::collections::BTreeMap;

/// How many examples of one kind are kept: a hundred thousand agents fit on one screen.
const EXAMPLES: usize = 10;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something does not hold: somebody is refused, or will be.
    Problem,
    /// All holds; know it.
    Advice,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $level:ident, $code:literal, $text:literal, $remedy:literal;)*) => {
        /// What can be found. The order is that of the report, within a level.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($(#[$doc])* #[doc = $text] $kind,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// Level, code, what it means, what to do.
            fn facts(self) -> (Level, &'static str, &'static str, &'static str) {
                match self { $(Self::$kind => (Level::$level, $code, $text, $remedy),)* }
            }
        }
    };
}

kinds! {
    UpdateByHalves: Problem, "update_by_halves",
        "the Python implementation replaced the Org CA by an update and left the intermediate below the old one: agents are refused with the certificates that they hold",
        "do this before anything else that is said of CAs: mastio pki updates rollback takes it back, and agents go on; then repair the root here (docs/updates.md)";
    UpdateCutShort: Problem, "update_cut_short",
        "the Python implementation stopped in the middle of an update of the Org CA: certificate and key do not belong together, so the server does not start",
        "the snapshot of the update holds the certificate of the key: put it back (docs/updates.md, snapshots of the Python implementation); if that does not help, restore the newest backup";
    CaMissing: Problem, "ca_missing",
        "there is no active CA of a kind that must be there",
        "restore the newest backup; do not start the server on this database";
    RegistryDiffers: Problem, "registry_differs",
        "the CA registry and the key store name different active CAs, so the server does not start",
        "undo what was changed by hand, or restore the newest backup";
    RegistryRow: Problem, "registry_row",
        "a row of the CA registry does not fit its certificate",
        "restore the newest backup; nothing but the Mastio should write to pki_cas";
    CaKey: Problem, "ca_key",
        "the private key of a CA cannot be used",
        "set the passphrase that this deployment used (MCP_PROXY_DB_ENCRYPTION_KEY), or restore the backup that belongs to it";
    ChainBroken: Problem, "chain_broken",
        "a CA of ours does not lead to a root of ours, or may not sign",
        "replace the intermediate: mastio pki rotate-intermediate; a root: mastio pki rotate";
    PathLengthZero: Problem, "path_length_zero",
        "the Org CA allows no CA below it, so strict clients refuse every chain; signing is halted while the update waits and touches agents",
        "apply the update that makes it again: mastio pki updates apply 2026-04-23-org-ca-pathlen-1 shows what that does; if it was rolled back or set aside, delete its row in pending_updates and restart first; or rotate the Org CA: docs/rotate-ca.md";
    StrictRules: Problem, "strict_rules",
        "clients with strict rules (Python 3.13 and later, openssl -x509_strict) refuse a CA",
        "replace the intermediate: mastio pki rotate-intermediate; a root: what path_length_zero says, where that is found too; else rotate it with overlap: docs/rotate-ca-overlap.md";
    Expired: Problem, "expired",
        "a certificate of the Mastio itself is past its end",
        "a server's or signing certificate: start the server, which renews them; an intermediate: mastio pki rotate-intermediate; the Org CA: mastio pki rotate";
    SigningKey: Problem, "signing_key",
        "the key that signs tokens is not in order",
        "rotate it: mastio pki rotate-signing-key; if none or several are active, restore the newest backup";
    SigningKeyStaged: Problem, "signing_key_staged",
        "a rotation of the signing key was interrupted, and signing is halted",
        "decide about it: mastio pki complete-staged --activate or --drop";
    RotationStuck: Problem, "rotation_stuck",
        "a rotation of the Org CA does not go on",
        "start the server if it does not run: it undoes or resumes it; else do what the error says, or abort: mastio pki abort";
    RootKeyKept: Problem, "root_key_kept",
        "the private key of a superseded root is still stored, although no rotation needs it",
        "restore the newest backup if somebody put it there; else report it";
    RootKeyFileFormer: Problem, "root_key_file_former",
        "the private key of a root that was replaced lies beside the TLS files: whoever gets it can pass for this Mastio to clients that trust that root",
        "delete it, and the backups that hold it, for nothing needs it any more: a way back that is open has the key in the database; give clients that trust only that root the trust file of today: /pki/ca.crt";
    LinkBroken: Problem, "link_broken",
        "a link certificate does not lead from its superseded root to another of ours",
        "restore the newest backup; clients that trust only that root are refused until then";
    LineageBroken: Problem, "lineage_broken",
        "a lineage statement does not hold: an auditor cannot follow the roots",
        "restore the newest backup: mastio pki lineage shows which";
    FileMissing: Problem, "file_missing",
        "a file that the server keeps is not there, or cannot be read",
        "start the server, which writes it; restart it if it runs; if that does not help, look for TLS files in its log";
    FileDiffers: Problem, "file_differs",
        "a file does not hold what the database says",
        "start the server, which writes it anew; if it runs, look for TLS files in its log";
    ServerChain: Problem, "server_chain",
        "what the TLS server sends does not lead from its certificate to the Org CA, or its key is another one",
        "delete mastio-server.crt and mastio-server.key and restart the server";
    ServerNames: Problem, "server_names",
        "the TLS server certificate is not for the configured names",
        "start the server, which makes it again for MCP_PROXY_NGINX_SAN and MCP_PROXY_PROXY_PUBLIC_URL";
    IdentityDiffers: Problem, "identity_differs",
        "the identity file belongs to another organisation or root, so the server does not start",
        "restore database and identity file from one backup; delete the file only if this database is the right one";
    AgentUnreadable: Problem, "agent_unreadable",
        "a pinned certificate cannot be read",
        "give the agent another: POST /registry/agents/{id}/rotate-cert";
    AgentFacts: Problem, "agent_facts",
        "what is noted of a pinned certificate is not what the certificate says",
        "give the agent another: POST /registry/agents/{id}/rotate-cert";
    AgentIdentity: Problem, "agent_identity",
        "a pinned certificate speaks for somebody else",
        "give the agent another: POST /registry/agents/{id}/rotate-cert; find out who changed the row";
    AgentRevoked: Problem, "agent_revoked",
        "an active agent is pinned to a revoked certificate, and is refused",
        "give the agent another: POST /registry/agents/{id}/rotate-cert, or revoke the agent";
    AgentOfFormerCa: Problem, "agent_of_former_ca",
        "an active agent's certificate is of a CA that was replaced and counts no more, so it is refused",
        "give it another: POST /registry/agents/{id}/rotate-cert, or let it enrol again";
    AgentPath: Problem, "agent_path",
        "an active agent's certificate does not lead to a CA that is believed",
        "give it another: POST /registry/agents/{id}/rotate-cert, or let it enrol again";
    SpireBundleMissing: Problem, "spire_bundle_missing",
        "SPIFFE agents of a trust domain without a bundle are refused",
        "set the bundle of the trust domain: docs/enrolling.md";
    KeysBare: Problem, "keys_bare",
        "private keys lie readable in the database although a passphrase is set",
        "start the server, which seals them";
    RotationOpen: Advice, "rotation_open",
        "a rotation of the Org CA is under way",
        "follow it: mastio pki rotation --watch";
    RotationFailed: Advice, "rotation_failed",
        "the last rotation of the Org CA was given up",
        "read why: mastio pki rotations; then begin it again the way it was meant, one with overlap with --transition overlap (docs/rotate-ca-overlap.md)";
    EndsSoon: Advice, "ends_soon",
        "a certificate of the Mastio itself ends within the days that are watched",
        "the Org CA: plan a rotation with overlap (docs/rotate-ca-overlap.md); the others are renewed by the server";
    LinkMissing: Advice, "link_missing",
        "clients that trust nothing but a superseded root get a handshake error",
        "give them the trust file of today: /pki/ca.crt";
    LineageMissing: Advice, "lineage_missing",
        "no key vouches for a root: an auditor must compare its fingerprint by another way",
        "nothing; after a compromise this is meant";
    OtherOrganisation: Advice, "other_organisation",
        "the Org CA names another organisation than the database",
        "nothing, if you brought this CA; else look at MCP_PROXY_ORG_ID";
    CopyDiffers: Advice, "copy_differs",
        "a copy for operators is not that of today",
        "restart the server, which writes it anew";
    KeyFileOpen: Advice, "key_file_open",
        "others than its owner can read a key file",
        "chmod 600 it";
    RootKeyFile: Advice, "root_key_file",
        "the private key of the Org CA lies beside the TLS files",
        "take it away: the Mastio has it in its database, and a TLS sidecar must not see it";
    RootKeyFileOther: Advice, "root_key_file_other",
        "org-ca.key beside the TLS files is the private key of no root of this Mastio, or none that can be read",
        "take it away: after its first start the Mastio does not read it, and a TLS sidecar must not see it";
    AgentExpired: Advice, "agent_expired",
        "an active agent's certificate is past its end",
        "let it enrol again or give it another: POST /registry/agents/{id}/rotate-cert; switch it off if it is gone";
    AgentBare: Advice, "agent_without_certificate",
        "an active agent has no certificate",
        "enrol it, or switch it off";
    KeysReadable: Advice, "keys_readable",
        "private keys lie readable in the database: whoever copies the file has them",
        "set MCP_PROXY_DB_ENCRYPTION_KEY and restart";
    SnapshotReadable: Advice, "snapshot_readable",
        "the snapshot of an update holds a private key, readable, and is wiped when its time is over",
        "when the update is to stay, wipe it: mastio pki updates wipe ID, the id that stands there; a passphrase (MCP_PROXY_DB_ENCRYPTION_KEY) and a restart seal it";
    SnapshotOutlived: Problem, "snapshot_outlived",
        "the snapshot of an update holds the private key of a root, and nothing leads back to that root any more",
        "wipe it: mastio pki updates wipe; backups that were made meanwhile hold the key, too";
    UpdateNameless: Advice, "update_nameless",
        "a row of pending_updates has an id that is no text, so it counts for nothing, whatever its status says",
        "write the id as text, or delete the row: DELETE FROM pending_updates WHERE typeof(migration_id) <> 'text'";
    OldArchive: Advice, "old_archive",
        "the existing system put private keys aside in legacy_pki_archive, readable",
        "set MCP_PROXY_DB_ENCRYPTION_KEY and restart, if it is not set; then apply the update that deletes them, and can be taken back: mastio pki updates apply 2026-11-22-parked-keys-1";
}

impl Kind {
    /// How bad it is.
    #[must_use]
    pub fn level(self) -> Level {
        self.facts().0
    }

    /// The word for it; never changes.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.facts().1
    }

    /// What it means.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.facts().2
    }

    /// What to do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        self.facts().3
    }
}

/// What was found of one kind.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The word for it; never changes.
    pub code: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What it means.
    pub text: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// How many there are.
    pub count: u64,
    /// The first of them: what it is about, and what is wrong with it.
    pub examples: Vec<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(BTreeMap<(Level, Kind), (u64, Vec<String>)>);

impl Findings {
    pub(super) fn add(&mut self, kind: Kind, example: impl Into<String>) {
        let (count, examples) = self.0.entry((kind.level(), kind)).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(example.into());
        }
    }

    pub(super) fn finish(self) -> Vec<Finding> {
        let finding = |((level, kind), (count, examples)): ((Level, Kind), _)| Finding {
            code: kind.code(),
            level,
            text: kind.text(),
            remedy: kind.remedy(),
            count,
            examples,
        };
        self.0.into_iter().map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_come_first_and_examples_are_few() {
        let mut findings = Findings::default();
        findings.add(Kind::KeysReadable, "1 CA key");
        for number in 0..100_000 {
            findings.add(Kind::AgentPath, format!("acme::{number}"));
        }
        let found = findings.finish();
        let seen: Vec<_> =
            found.iter().map(|finding| (finding.code, finding.count, finding.examples.len())).collect();
        assert_eq!(seen, [("agent_path", 100_000, EXAMPLES), ("keys_readable", 1, 1)]);
    }

    #[test]
    fn who_only_wants_to_look_is_not_told_to_cut() {
        for kind in [Kind::RotationStuck, Kind::RotationOpen, Kind::RotationFailed, Kind::StrictRules] {
            let words: Vec<&str> = kind.remedy().split([' ', ';', ',']).collect();
            assert!(!words.windows(2).any(|pair| pair == ["pki", "rotate"]), "{kind:?}: {}", kind.remedy());
        }
    }

    #[test]
    fn the_update_of_a_legacy_root_is_told_before_its_other_faults() {
        let mut findings = Findings::default();
        findings.add(Kind::StrictRules, "root");
        findings.add(Kind::PathLengthZero, "root");
        let codes: Vec<_> = findings.finish().iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["path_length_zero", "strict_rules"]);
    }

    #[test]
    fn every_kind_is_in_the_docs() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pki-doctor.md");
        let page = std::fs::read_to_string(page).unwrap();
        let rows: Vec<&str> =
            page.lines().filter(|line| line.starts_with("| `") && line.contains("` | ")).collect();
        let mut codes = std::collections::HashSet::new();
        for kind in Kind::ALL {
            assert!(codes.insert(kind.code()), "{kind:?}");
            let level = if kind.level() == Level::Problem { "problem" } else { "advice" };
            let row = format!("| `{}` | {level} | {} | {} |", kind.code(), kind.text(), kind.remedy());
            assert!(rows.contains(&row.as_str()), "docs/pki-doctor.md lacks this row:\n{row}");
        }
    }
}
