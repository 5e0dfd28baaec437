//! The events that Mastio writes. Names that operators and the seeds use win over our own
//! (contract `audit-and-database.md` §1.6).

use super::events;
use crate::{EnrollmentId, Jkt, Kid, SpiffeId, Stamp, Thumbprint};

events! {
    /// The organisation's root certificate was made at first boot.
    "ca.generate" Ok RootMinted { org_id: String, fingerprint_sha256: Thumbprint, not_after: Stamp }

    /// The organisation's root certificate was taken over from the key pair found beside the TLS files.
    "ca.import" Ok RootImported { org_id: String, fingerprint_sha256: Thumbprint, not_after: Stamp, source: String }

    /// A rotation of the Org CA began: the new root and its intermediate are stored, and nothing else has changed.
    "org_ca.rotation_started" Ok RotationStarted { rotation_id: String, mode: &'static str, transition: &'static str, compromise: bool, fingerprint_sha256: Thumbprint, subject: String, not_after: Stamp, previous_fingerprint_sha256: Thumbprint, by: String }

    /// Another root is the organisation's from now on. After a cut every certificate and token of before is refused, except for SPIFFE agents.
    "org_ca.rotated" Ok RootRotated { rotation_id: String, mode: &'static str, transition: &'static str, compromise: bool, fingerprint_sha256: Thumbprint, subject: String, not_after: Stamp, previous_fingerprint_sha256: Thumbprint, tls_continuity: bool, agents_invalidated: u64, by: String }

    /// A rotation of the Org CA was given up; what was before it is again.
    "org_ca.rotation_failed" Error RotationFailed { rotation_id: String, phase: &'static str, error: String }

    /// A rotation of the Org CA with overlap went on to another phase, or was aborted. Agents left are those that had not followed yet.
    "org_ca.rotation_phase" Ok RotationPhase { rotation_id: String, from: &'static str, to: &'static str, forced: bool, agents_left: u64, by: String }

    /// A rotation of the Org CA with overlap does not go on by itself any more.
    "org_ca.rotation_paused" Ok RotationPaused { rotation_id: String, phase: &'static str, by: String }

    /// A rotation of the Org CA with overlap that was paused goes on by itself again.
    "org_ca.rotation_resumed" Ok RotationResumed { rotation_id: String, phase: &'static str, by: String }

    /// An operator downloaded what clients trust from the dashboard.
    "ca.export_cert" Ok RootExported { fingerprint_sha256: Thumbprint, by: String }

    /// An issuing certificate was made below the root.
    "pki.intermediate_created" Ok IntermediateMinted { fingerprint_sha256: Thumbprint, subject: String, not_after: Stamp }

    /// A key that signs tokens was made and is active.
    "admin.mastio_key_created" Ok SigningKeyMinted { kid: Kid, not_after: Stamp }

    /// Another key signs tokens. `old_key_signature` is the word of the key of before: over this time, both kids and the new public key.
    "mastio_key.rotated" Ok SigningKeyRotated { old_kid: Kid, new_kid: Kid, new_public_key: String, issued_at: String, old_key_signature: String, grace_expires_at: Stamp, trigger: &'static str, by: String }

    /// A signing key that an interrupted rotation had left was put in place (`activate`) or thrown away (`drop`); signing goes on.
    "mastio_key.staged_completed" Ok StagedKeyCompleted { kid: Kid, decision: &'static str, by: String }

    /// How long a replaced signing key verifies tokens was set, for later rotations.
    "mastio_key.grace_days_set" Ok SigningKeyGraceSet { grace_days: u64, by: String }

    /// Another intermediate certifies from now on; what the one of before certified goes on until it ends. `old_key_signature` is that of the key of before over the new certificate.
    "pki.intermediate_rotated" Ok IntermediateRotated { old_fingerprint_sha256: Thumbprint, new_fingerprint_sha256: Thumbprint, new_subject: String, not_after: Stamp, old_key_signature: String, trigger: &'static str, by: String }

    /// The intermediate was rotated without an operator, because its end came near.
    "pki.intermediate_ca_auto_rotate" Ok IntermediateAutoRotated { cert_thumbprint: Thumbprint, not_after: Stamp, days_left: i64, grace_days: u64 }

    /// The intermediate ends in half a year. It is rotated by itself when 30 days are left, unless that is switched off.
    "pki.intermediate_ca_expiry_warning" Ok IntermediateEndsWarning { cert_thumbprint: Thumbprint, not_after: Stamp, days_left: i64, threshold_days: u32 }

    /// The intermediate ends in two months.
    "pki.intermediate_ca_expiry_critical" Error IntermediateEndsCritical { cert_thumbprint: Thumbprint, not_after: Stamp, days_left: i64, threshold_days: u32 }

    /// A CA that another took the place of is believed no more, because everything that it certified has ended, or it has itself, or its rotation was given up; its private key is wiped.
    "pki.ca_retired" Ok CaRetired { kind: &'static str, fingerprint_sha256: Thumbprint, subject: String, reason: &'static str }

    /// Private keys that lay readable in the database were sealed with the passphrase that is set now.
    "pki.keys_sealed" Ok KeysSealed { count: u64 }

    /// The TLS server certificate was made or renewed.
    "pki.nginx_server_cert_rotated" Ok ServerCertificateMinted { fingerprint_sha256: Thumbprint, sans: Vec<String>, not_after: Stamp, reason: &'static str }

    /// A certificate request was signed by the root from the command line, for an agent that brings its own CA.
    "pki.csr_signed" Ok CsrSigned { fingerprint_sha256: Thumbprint, subject: String, ca: bool, not_after: Stamp }

    /// A database written by the Python implementation was adopted.
    "database.adopted" Ok DatabaseAdopted { schema: String, backup: String }

    /// A chain that this Mastio does not write any more is covered by this entry from here on.
    "audit.legacy_chain_sealed" Ok LegacyChainSealed { chain: String, last_seq: u64, last_hash: String, rows: u64, unchained_rows: u64, unchained_sha256: String }

    /// A stored chain does not verify. Serving goes on; the operator must look.
    "audit.chain_break_detected" Error ChainBreakDetected { chain: String, seq: u64, problem: String }

    /// The admin secret in the environment changed; the stored hash follows it, lock-outs are cleared and dashboard sessions end.
    "admin.secret_rebootstrapped" Ok AdminSecretRebootstrapped {}

    /// Wrong or missing admin secrets were refused.
    "admin.auth_denied" Denied AdminAuthDenied { reason: &'static str, source: String, count: u64, since: Stamp }

    /// An agent was made by an operator, key included, or an operator approved its enrollment by device code.
    "agent.create" Ok AgentCreated { source: &'static str, method: &'static str, session_id: Option<EnrollmentId>, capabilities: Vec<String>, cert_thumbprint: Thumbprint, spiffe_id: Option<SpiffeId>, dpop_jkt: Option<Jkt>, not_after: Stamp, key_escrowed: bool, by: String }

    /// An operator rejected an enrollment by device code.
    "enrollment.rejected" Ok EnrollmentRejected { reason: String, pubkey_sha256: String, by: String }

    /// An operator logged in to the dashboard.
    "auth.login" Ok LoggedIn { ip: String, method: &'static str, session: String, expires_at: Stamp }

    /// Logins at the dashboard were refused.
    "auth.login" Denied LoginDenied { reason: &'static str, source: String, count: u64, since: Stamp }

    /// An operator logged out of the dashboard.
    "auth.logout" Ok LoggedOut { session: String }

    /// A session at the dashboard was ended from another one.
    "auth.session_ended" Ok SessionEnded { session: String, by: String }

    /// All sessions at the dashboard were ended, but the one that asked for it.
    "auth.sessions_ended" Ok SessionsEnded { reason: &'static str, by: Option<String> }

    /// The password in `MCP_PROXY_INITIAL_ADMIN_PASSWORD` became the dashboard's, which had none.
    "auth.password_set" Ok InitialPasswordSet {}

    /// The password logs in although it was switched off: `MCP_PROXY_FORCE_LOCAL_PASSWORD` is set.
    "auth.local_password.break_glass" Ok LocalPasswordForced {}

    /// An agent was enrolled with a certificate from the organisation's own PKI.
    "admin.agent_enroll_byoca" Ok AgentEnrolledByoca { cert_thumbprint: Thumbprint, spiffe_id: Option<SpiffeId>, dpop_jkt: Option<Jkt>, not_after: Stamp, issuer: String, re_pinned: bool, previous_cert_thumbprint: Option<Thumbprint>, previous_dpop_jkt: Option<Jkt>, reactivated: bool, by: String }

    /// An agent was enrolled with an SVID. From now on whoever presents an SVID with this SPIFFE id is this agent.
    "admin.agent_enroll_spiffe" Ok AgentEnrolledSpiffe { cert_thumbprint: Thumbprint, spiffe_id: SpiffeId, dpop_jkt: Option<Jkt>, not_after: Stamp, issuer: String, re_pinned: bool, previous_cert_thumbprint: Option<Thumbprint>, previous_dpop_jkt: Option<Jkt>, reactivated: bool, by: String }

    /// A SPIFFE agent presented a newer SVID than the one that was kept for verifying its messages.
    "agent.svid_rotated" Ok SvidRotated { spiffe_id: SpiffeId, previous_cert_thumbprint: Option<Thumbprint>, new_cert_thumbprint: Thumbprint, not_after: Stamp }

    /// The CAs of a SPIFFE trust domain were set, or more of them added.
    "spiffe.bundle_set" Ok SpiffeBundleSet { trust_domain: String, certificates: Vec<Thumbprint>, source: &'static str, by: String }

    /// The CAs of a SPIFFE trust domain were taken away: no SVID of it is accepted any more.
    "spiffe.bundle_removed" Ok SpiffeBundleRemoved { trust_domain: String, by: String }

    /// An agent was switched off; its tokens and certificate stop working at once.
    "agent.deactivated" Ok AgentDeactivated { by: String }

    /// An agent that had been switched off is on again, with the certificate it had.
    "agent.reactivated" Ok AgentReactivated { by: String }

    /// An agent's credentials are not trusted any more: its certificate, its tokens and what hung on them ended at once.
    "agent.revoked" Ok AgentRevoked { reason: String, cert_thumbprint: Option<Thumbprint>, revoked_certificates: Vec<Thumbprint>, by: String }

    /// An agent's certificate was replaced: by an operator, by another enrollment by device code, or by the agent itself (source `self`). Without a grace period the one of before is revoked.
    "agent.cert_rotated" Ok CertificateRotated { source: &'static str, previous_cert_thumbprint: Option<Thumbprint>, new_cert_thumbprint: Thumbprint, previous_dpop_jkt: Option<Jkt>, new_dpop_jkt: Option<Jkt>, grace_period_expires_at: Option<Stamp>, not_after: Stamp, reactivated: bool, by: String }

    /// An agent's DPoP key was registered for the first time, or registered again unchanged.
    "agent.dpop_jwk_set" Ok DpopKeySet { dpop_jkt: Jkt, by: String }

    /// An agent's DPoP key was replaced.
    "agent.dpop_jwk_rotated" Ok DpopKeyRotated { previous_dpop_jkt: Jkt, new_dpop_jkt: Jkt, grace_period_expires_at: Option<Stamp>, by: String }

    /// An agent was published to a Court, or withdrawn.
    "agent.federated_patched" Ok FederatedPatched { federated: bool, by: String }

    /// The sessions of users behind an agent's certificates were ended; the agent goes on.
    "agent.sessions_revoked" Ok SessionsRevoked { revoked: u64, by: String }

    /// An operator contained an agent in one call: it is revoked, and the evidence was handed out.
    "incident.contained" Ok IncidentContained { reason: Option<String>, already_revoked: bool, by: String }

    /// A revocation list was signed and is published.
    "pki.crl_published" Ok CrlPublished { issuer: String, issuer_key_id: String, number: i64, revoked: u64, next_update: Stamp }

    /// The Org CA's end comes near: rotate it while its agents can still follow.
    "pki.org_root_expiry_warning" Ok RootExpiryWarning { cert_thumbprint: Thumbprint, not_after: Stamp, days_left: i64, threshold_days: u32 }

    /// The intermediate's end comes near.
    "pki.intermediate_ca_expiry_visibility" Ok IntermediateExpiryWarning { cert_thumbprint: Thumbprint, not_after: Stamp, days_left: i64, threshold_days: u32 }

    /// The end of the certificate of the key that signs tokens comes near.
    "pki.mastio_leaf_expiry_warning" Ok SigningLeafExpiryWarning { cert_thumbprint: Thumbprint, not_after: Stamp, days_left: i64, threshold_days: u32 }

    /// The end of an active agent's certificate comes near.
    "pki.agent_cert_expiry_warning" Ok AgentExpiryWarning { cert_thumbprint: Thumbprint, not_after: Stamp, days_left: i64, threshold_days: u32 }

    /// The TLS server certificate's end comes near, so it was not renewed in time.
    "pki.nginx_server_cert_expiry_warning" Ok ServerExpiryWarning { cert_thumbprint: Thumbprint, not_after: Stamp, days_left: i64, threshold_days: u32 }

    /// A certificate of the grace slot was accepted in place of the pinned one.
    "agent.cert_pinning_grace_match" Ok CertificateGraceMatch { cert_thumbprint: Thumbprint, expires_at: Stamp }

    /// The grace period of an agent's credentials of before is over; they had stopped working when it ended.
    "agent.cert_grace_period_expired" Ok CertificateGraceExpired { previous_cert_thumbprint: Option<Thumbprint>, previous_dpop_jkt: Option<Jkt>, expired_at: Option<Stamp> }

    /// An access token was issued.
    "auth.token_issued" Ok TokenIssued { jti: String, kid: Kid, cnf_jkt: Option<Jkt>, cnf_x5t: Option<Thumbprint>, method: &'static str, expires_at: Stamp, request_id: String }

    /// The Mastio signed a login assertion with the agent's key that it keeps.
    "auth.assertion_signed" Ok AssertionSigned { jti: String, request_id: String }

    /// Requests were refused because their credentials did not hold.
    "auth.denied" Denied AuthDenied { reason: &'static str, source: String, count: u64, since: Stamp }

    /// More denials arrived than are written one by one; this entry counts the rest.
    "auth.denied_summary" Denied AuthDeniedSummary { count: u64, since: Stamp }

    /// A one-shot message was accepted for delivery.
    "oneshot_sent" Ok OneshotSent { correlation_id: String, msg_id: String, recipient: String, reply_to: Option<String>, mode: &'static str, payload_sha256: Thumbprint, bytes: u64, request_id: String }

    /// A one-shot message was refused.
    "oneshot_denied" Denied OneshotDenied { reason: &'static str, recipient: String }

    /// The recipient acknowledged a one-shot message; it is not delivered again.
    "oneshot_delivered" Ok OneshotDelivered { msg_id: String, correlation_id: String, sender_agent_id: String }

    /// The machine's clock was set back: entries from here on are dated before earlier ones.
    "system.clock_set_back" Error ClockSetBack { expected: Stamp, now: Stamp, seconds: u64, noticed: &'static str }

    /// The key that signs tokens announced the one that signs the checkpoints of this log: when that was made, and again when
    /// another key took the place of the first.
    "audit.log_key_announced" Ok LogKeyAnnounced { origin: String, vkey: String, base_seq: u64, announcement: String }

    /// The log is behind a checkpoint that it published, or contradicts it: an older copy of the database was restored, or history was rewritten. No checkpoints are signed until `mastio audit accept-restore`.
    "audit.rolled_back" Error LogRolledBack { origin: String, reason: &'static str, seen_in: String, entries: u64, last_known_entries: u64, last_known_root: String }

    /// An operator accepted that the database is an older copy. The entries named here are lost; checkpoints go on under a new origin.
    "audit.restored" Ok LogRestored { origin: String, new_origin: String, lost_first: u64, lost_last: u64, last_checkpoint: String, last_checkpoint_at: Option<Stamp>, by: String }

    /// An authority outside stamped the log with its time: the entry named here, and with it all before it, were there then.
    "audit.anchored" Ok AuditAnchored { chain_seq: i64, row_hash: String, gen_time: Stamp, authority: String, serial: String, policy: String, url: String, trusted: bool }

    /// A chain that was told to be broken verifies again from its first entry or archive mark, for instance after a restore.
    "audit.chain_break_mended" Ok ChainBreakMended { chain: String, last_seq: u64 }

    /// An agent was deleted: what hung on it ended, and its id is not given to another one. A signed receipt tells the same.
    "agent.delete" Ok AgentDeleted { reason: String, cert_thumbprint: Option<Thumbprint>, token_epoch: i64, already_revoked: bool, by: String }

    /// The id of a deleted agent was given to a new one, because an operator insisted.
    "agent.id_reused" Ok AgentIdReused { deleted_at: Stamp, last_seq: i64, by: String }

    /// The key with which this Mastio cosigns checkpoints of other logs was made.
    "audit.witness_key_created" Ok WitnessKeyMinted { vkey: String }

    /// A checkpoint of another log was cosigned for the first time. Later ones are not written down: they are in `GET /v1/admin/audit/witness`.
    "audit.log_witnessed" Ok LogWitnessed { origin: String, size: u64 }

    /// A log told two stories: `other` contradicts `known`, the checkpoint that was there first. Keep both, and ask whoever runs the log.
    "audit.split_view" Error SplitViewSeen { origin: String, known: String, other: String }

    /// An operator has seen the split views of a log; the health warning ends, the evidence stays.
    "audit.split_view_acknowledged" Ok SplitViewAcknowledged { origin: String, count: u64, by: String }

    /// A bundle of entries with their proofs was handed out; it is named by the digest of its manifest.
    "audit.bundle_exported" Ok BundleExported { first_seq: u64, last_seq: u64, manifest_sha256: String, by: String }
    /// An archive of old entries was begun. It goes on after a restart.
    "audit.archive_started" Ok ArchiveStarted { first_seq: i64, last_seq: i64, file: String, by: String }

    /// Old entries lie in an archive that was verified; from here on the log goes on behind them, and they are deleted.
    "audit.archived" Ok Archived { first_seq: i64, last_seq: i64, first_hash: String, last_hash: String, bundle_sha256: String, file: String, by: String }

    /// What was archived is deleted from the database.
    "audit.archive_completed" Ok ArchiveCompleted { first_seq: i64, last_seq: i64, file: String }

    /// An archive was given up before anything left the log.
    "audit.archive_failed" Error ArchiveFailed { first_seq: i64, last_seq: i64, file: String, problem: String }

    /// Archived entries were brought back for a search, beside the log.
    "audit.archive_restored" Ok ArchiveRestored { first_seq: i64, last_seq: i64, bundle_sha256: String, by: String }

    /// Archived entries that had been brought back were dropped.
    "audit.restored_dropped" Ok RestoredDropped { entries: u64, by: String }

    /// The file system of the database fills up.
    "audit.disk_low" Error DiskLow { used_percent: u64, available_bytes: u64, database_bytes: u64 }

    /// Entries were handed out as a file. What was asked for is in the words of the query: `org_id` is `*` for every chain, and what is null was not asked for.
    "audit.exported" Ok AuditExported { format: &'static str, org_id: String, start: Option<Stamp>, end: Option<Stamp>, event_type: Option<String>, actor: Option<String>, entries: u64, archived_through: Option<i64>, by: String }

    /// The stored tree over the log was damaged and computed anew from the entries, which have the root of the newest checkpoint. If the damage had been taken for a rewind, that is withdrawn.
    "audit.tree_rebuilt" Ok TreeRebuilt { origin: String, entries: u64, entries_before: Option<u64>, checkpoint_entries: u64, tiles_replaced: u64, tiles_removed: u64, rewind_withdrawn: bool, by: String }

    /// A framework update was found to be needed. A critical one that affects agents of this deployment halts signing until it is applied.
    "admin.update_detected" Ok UpdateDetected { migration_id: &'static str, criticality: &'static str }

    /// A framework update that waited is not needed any more; nothing was changed.
    "admin.update_not_needed" Ok UpdateNotNeeded { migration_id: &'static str }

    /// A framework update was applied. Leaves that it reissued are named by their count and by the digest of their thumbprints in the order of agents.
    "admin.update_applied" Ok UpdateApplied { migration_id: &'static str, strategy: Option<&'static str>, reissued_leaves: u64, leaves_sha256: Option<String>, by: String }

    /// A framework update was taken back: what was before is again.
    "admin.update_rolled_back" Ok UpdateRolledBack { migration_id: &'static str, by: String }

    /// A framework update failed; nothing was changed.
    "admin.update_apply_failed" Error UpdateApplyFailed { migration_id: String, problem: String, by: String }

    /// The snapshot of a framework update that the Python implementation wrote holds a readable key, and is wiped after this time.
    "admin.update_snapshot_dated" Ok UpdateSnapshotDated { migration_id: String, wiped_after: Stamp }

    /// The snapshot of a framework update was deleted: the update cannot be taken back any more.
    "admin.update_snapshot_wiped" Ok UpdateSnapshotWiped { migration_id: String, reason: &'static str, by: Option<String> }
}
