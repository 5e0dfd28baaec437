//! What a file is that `mastio audit verify` is given, and what can be checked of it.

use std::{
    fs::File,
    io::{self, Read, Seek},
};

use super::verify::Verify;

/// Longest receipt or proof that is read, in bytes.
const MAX_TEXT: u64 = 4 << 20;

/// What is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bundle,
    Database,
    Proof,
    Receipt,
    /// A log that is served.
    Log,
}

impl Kind {
    /// Judged by its beginning.
    ///
    /// # Errors
    /// When it cannot be read, or is nothing that can be verified: then what to do.
    pub(super) fn of(file: &mut File) -> Result<Self, String> {
        let start = start(file).map_err(|error| error.to_string())?;
        match start.as_slice() {
            start if start.starts_with(b"SQLite format 3") => return Ok(Self::Database),
            start if start.starts_with(b"\x1f\x8b") => return Ok(Self::Bundle),
            start if start.starts_with(b"c2sp.org/tlog-proof@") => return Ok(Self::Proof),
            _ => {}
        }
        let text = text(file)?;
        file.rewind().map_err(|error| error.to_string())?;
        if let Ok(document) = serde_json::from_str::<serde_json::Value>(&text) {
            return match document.get("receipt") {
                Some(_) => Ok(Self::Receipt),
                None if document.get("checkpoint").is_some() => Err(
                    "this is the JSON of GET /v1/admin/audit/proof: ask for it with the header Accept: text/plain, which gives a tlog-proof"
                        .to_owned(),
                ),
                None => Err(NOTHING.to_owned()),
            };
        }
        Err(match mastio_audit::checkpoint::SignedCheckpoint::parse(&text) {
            Ok(_) => {
                "this is a checkpoint: pass it with --against, to hold a bundle or a database against it"
            }
            Err(_) => NOTHING,
        }
        .to_owned())
    }

    /// Refuses what somebody wants to be held to and that says nothing about this kind: silence would read as consent.
    pub(super) fn takes(self, arguments: &Verify) -> Result<(), String> {
        use Kind::{Bundle, Database, Log, Proof, Receipt};
        let options: [(&str, bool, &[Self]); 8] = [
            ("--archive", !arguments.archive.is_empty(), &[Database]),
            ("--ca-root", arguments.ca_root.is_some(), &[Bundle, Database, Receipt, Log]),
            ("--tsa-root", arguments.tsa_root.is_some(), &[Bundle]),
            ("--log-key", !arguments.log_key.is_empty(), &[Bundle, Database, Proof, Receipt, Log]),
            ("--witness", !arguments.witness.is_empty(), &[Bundle, Proof, Receipt]),
            ("--against", arguments.against.is_some(), &[Bundle, Database]),
            ("--require-timestamp", arguments.require_timestamp, &[Bundle]),
            ("--entry-hash", arguments.entry_hash.is_some(), &[Proof]),
        ];
        let useless = options.iter().find(|(_, given, kinds)| *given && !kinds.contains(&self));
        useless.map_or(Ok(()), |(option, ..)| {
            Err(format!("{option} says nothing about {}: leave it out", self.in_words()))
        })
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Bundle => "a bundle",
            Self::Database => {
                "a database; ask the Mastio for a bundle to have its witnesses and time stamps checked"
            }
            Self::Proof => "a tlog-proof",
            Self::Receipt => "a receipt",
            Self::Log => "a log that is followed",
        }
    }
}

const NOTHING: &str = "this is nothing that can be verified: it takes a bundle (.tar.gz), a database, a receipt, or a tlog-proof";

fn start(file: &mut File) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.by_ref().take(32).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start)
}

/// What is left of a file that is small.
pub(super) fn text(file: &mut File) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.take(MAX_TEXT).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| NOTHING.to_owned())
}
