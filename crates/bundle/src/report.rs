//! What a verification found, step by step.

use std::fmt;

use serde::Serialize;

use crate::format::Digest;

/// What is checked, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The file is a whole archive with the files of a bundle and no others.
    Archive,
    /// The manifest can be read, and every file has the digest that it gives.
    ManifestDigest,
    /// Every hash follows from its entry, and every entry from the one before.
    ChainWalk,
    /// The first entry is the one that the manifest names.
    Head,
    /// The last entry is.
    Tail,
    /// The log key is announced by the Mastio's signing key.
    LogKey,
    /// The certificate of that key leads to the CA of the organisation.
    SigningCertificate,
    /// The checkpoint is signed with the log key.
    CheckpointSignature,
    /// The first and the last entry are in the checkpoint's tree.
    Inclusion,
    /// The names and keys that the log had before a restore.
    HandOver,
    /// Witnesses saw the checkpoint.
    Witnesses,
    /// A checkpoint that was saved earlier is the beginning of this one.
    Consistency,
    /// The time stamp is over the last entry, and signed by a time stamping authority.
    TsaSignature,
    /// The time that it says is not before the last event.
    TsaTime,
    /// The certificates that signed were valid at that time.
    CertificateAtTsaTime,
    /// The signed statement that a receipt is.
    Receipt,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Archive => "archive",
            Self::ManifestDigest => "manifest digest",
            Self::ChainWalk => "chain walk",
            Self::Head => "head",
            Self::Tail => "tail",
            Self::LogKey => "log key",
            Self::SigningCertificate => "signing certificate",
            Self::CheckpointSignature => "checkpoint signature",
            Self::Inclusion => "inclusion",
            Self::HandOver => "hand-over",
            Self::Witnesses => "witnesses",
            Self::Consistency => "consistency",
            Self::TsaSignature => "TSA signature",
            Self::TsaTime => "TSA time after last event",
            Self::CertificateAtTsaTime => "signing cert valid at TSA time",
            Self::Receipt => "receipt",
        })
    }
}

/// What came out of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It holds, and tells something that a reader has to know.
    Noted,
    /// It was not checked, because something is missing that nobody else can know or has.
    NotChecked,
    /// It does not hold; nothing after it was looked at.
    Fails,
}

/// One step with what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub step: Step,
    /// What came out.
    pub verdict: Verdict,
    /// In words, on one line.
    pub text: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, verdict, text } = self;
        match verdict {
            Verdict::Holds => write!(f, "✓ {step}: {text}"),
            Verdict::Noted => write!(f, "– {step}: {text}"),
            Verdict::NotChecked => write!(f, "– {step}: not checked: {text}"),
            Verdict::Fails => write!(f, "✗ {step}: {text}"),
        }
    }
}

/// Which entries a bundle holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Whose chain it is.
    pub org_id: String,
    /// Position of the first entry.
    pub first_seq: u64,
    /// Position of the last one.
    pub last_seq: u64,
    /// The hash of the first.
    pub first_hash: Digest,
    /// The hash of the last.
    pub last_hash: Digest,
    /// The hash that the first links to; `None` if it is the first of the chain.
    pub previous_hash: Option<Digest>,
}

/// Every step that was taken, in order. A failure is the last one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The steps.
    pub checks: Vec<Check>,
    /// Which entries it is about, once their chain was walked.
    pub span: Option<Span>,
}

impl Report {
    /// The step that failed, if one did.
    #[must_use]
    pub fn failure(&self) -> Option<&Check> {
        self.checks.last().filter(|check| check.verdict == Verdict::Fails)
    }

    pub(crate) fn holds(&mut self, step: Step, text: impl Into<String>) {
        self.add(step, Verdict::Holds, text.into());
    }

    pub(crate) fn noted(&mut self, step: Step, text: impl Into<String>) {
        self.add(step, Verdict::Noted, text.into());
    }

    pub(crate) fn not_checked(&mut self, step: Step, text: impl Into<String>) {
        self.add(step, Verdict::NotChecked, text.into());
    }

    pub(crate) fn fails(&mut self, step: Step, text: String) {
        self.add(step, Verdict::Fails, text);
    }

    /// Texts quote what was read: one line each, whatever that was.
    fn add(&mut self, step: Step, verdict: Verdict, text: String) {
        let text = text.replace(char::is_control, " ");
        self.checks.push(Check { step, verdict, text });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checks.iter().try_for_each(|check| writeln!(f, "{check}"))
    }
}
