//! Writes a bundle: the second pass over its entries.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use mastio_audit::{LocalRow, checkpoint::SignedCheckpoint, lines};
use mastio_core::Stamp;
use serde::Serialize;

use crate::{
    digesting::Digesting,
    format::{ChainProof, Digest, File, LogKey, Manifest},
    survey::Surveyed,
};

/// Bytes of a block of tar.
const BLOCK: u64 = 512;

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The entries are not those of the first pass.
    #[error("the entries changed while the bundle was being written")]
    Changed,
    /// The writer failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What proves the entries.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// How the entries hang in the tree.
    pub chain_proof: ChainProof,
    /// The tree, signed and cosigned.
    pub checkpoint: SignedCheckpoint,
    /// Who signed it.
    pub log_key: LogKey,
    /// The certificate of the key that announced the log key, in PEM.
    pub signing_cert: String,
    /// The CAs above it in PEM, the root first.
    pub ca_chain: String,
    /// The time stamp over the last entry, if there is one.
    pub stamped: Option<Stamped>,
}

/// A time stamp.
#[derive(Debug, Clone)]
pub struct Stamped {
    /// The TimeStampResp in DER.
    pub reply: Vec<u8>,
    /// The certificates of the authority, in PEM.
    pub chain: String,
}

impl Evidence {
    /// Every file but the manifest and the entries, in the order of the archive.
    fn files(&self) -> io::Result<Vec<(File, Vec<u8>)>> {
        let mut files = vec![
            (File::ChainProof, json(&self.chain_proof)?),
            (File::Checkpoint, self.checkpoint.as_str().as_bytes().to_vec()),
            (File::LogKey, json(&self.log_key)?),
            (File::SigningCert, self.signing_cert.as_bytes().to_vec()),
            (File::CaChain, self.ca_chain.as_bytes().to_vec()),
        ];
        if let Some(stamped) = &self.stamped {
            files.push((File::TsaReply, stamped.reply.clone()));
            files.push((File::TsaChain, stamped.chain.as_bytes().to_vec()));
        }
        Ok(files)
    }
}

fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A bundle of which everything is known but the entries, and of those size and digest.
#[derive(Debug, Clone)]
pub struct Plan {
    manifest: Vec<u8>,
    events: (u64, Digest),
    after: Vec<(File, Vec<u8>)>,
    time: u64,
}

/// Whose entries they are and why they are handed out.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// The organisation.
    pub org_id: &'a str,
    /// What was asked for: from, and until, exclusive; `None` if by number.
    pub window: Option<(Stamp, Stamp)>,
    /// Whether the entries leave the database for this file.
    pub archived: bool,
}

impl Plan {
    /// The bundle of what was surveyed, proved by `evidence`.
    ///
    /// # Errors
    /// When something cannot be written as JSON.
    pub fn new(occasion: Occasion<'_>, surveyed: &Surveyed, evidence: &Evidence) -> io::Result<Self> {
        let after = evidence.files()?;
        let mut manifest: Manifest = surveyed.manifest(occasion);
        let digest =
            |(file, bytes): &(File, Vec<u8>)| (file.name().to_owned(), Digest(mastio_core::sha256(bytes)));
        manifest.files = after.iter().map(digest).collect();
        // A time that cannot be read is the first second of all: it only has to be the same each time.
        let made = Stamp::parse(&manifest.created).map_or(0, Stamp::unix);
        Ok(Self {
            events: (surveyed.bytes(), manifest.sha256),
            manifest: json(&manifest)?,
            after,
            time: u64::try_from(made).unwrap_or(0),
        })
    }

    /// The SHA-256 of the manifest: it names the bundle.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        mastio_core::sha256(&self.manifest)
    }
}

/// Writes a bundle: [`Writer::begin`], every entry by [`Writer::push`], [`Writer::finish`].
pub struct Writer<W: Write> {
    archive: Tar<W>,
    events: Digesting<io::Sink>,
    expected: (u64, Digest),
    line: Vec<u8>,
    after: Vec<(File, Vec<u8>)>,
}

impl<W: Write> Writer<W> {
    /// Writes the manifest, and what stands before the entries.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn begin(out: W, plan: Plan) -> Result<Self, WriteError> {
        let mut archive = Tar::new(out, plan.time);
        archive.file(File::Manifest, &plan.manifest)?;
        archive.header(File::Events, plan.events.0)?;
        let events = Digesting::new(io::sink());
        Ok(Self { archive, events, expected: plan.events, line: Vec::new(), after: plan.after })
    }

    /// Writes the next entry.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn push(&mut self, row: &LocalRow<'_>) -> Result<(), WriteError> {
        self.line.clear();
        lines::ndjson(row, &mut self.line);
        self.events.write_all(&self.line)?;
        Ok(self.archive.out.write_all(&self.line)?)
    }

    /// Writes what stands after the entries, and gives the writer back.
    ///
    /// # Errors
    /// When the entries are not those of the survey, or the writer fails.
    pub fn finish(mut self) -> Result<W, WriteError> {
        if self.events.finish() != self.expected {
            return Err(WriteError::Changed);
        }
        self.archive.pad(self.expected.0)?;
        for (file, bytes) in &self.after {
            self.archive.file(*file, bytes)?;
        }
        Ok(self.archive.finish()?)
    }
}

/// A deterministic `.tar.gz`: one owner, one mode, one time for all files.
struct Tar<W: Write> {
    out: GzEncoder<W>,
    time: u64,
}

impl<W: Write> Tar<W> {
    fn new(out: W, time: u64) -> Self {
        // The fast level: entries are repetitive, and a bundle of millions of them should not take an hour.
        let out = GzBuilder::new().write(out, Compression::fast());
        Self { out, time }
    }

    fn header(&mut self, file: File, size: u64) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(file.name())?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.time);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn file(&mut self, file: File, content: &[u8]) -> io::Result<()> {
        self.header(file, content.len() as u64)?;
        self.out.write_all(content)?;
        self.pad(content.len() as u64)
    }

    /// Fills the last block of a file of `size` bytes.
    fn pad(&mut self, size: u64) -> io::Result<()> {
        let zeros = [0; BLOCK as usize];
        let used = usize::try_from(size % BLOCK).unwrap_or(0);
        if used == 0 { Ok(()) } else { self.out.write_all(&zeros[used..]) }
    }

    fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.finish()
    }
}
