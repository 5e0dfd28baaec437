//! Takes the archive apart without trusting it: names from a list, sizes bounded, nothing written anywhere.
//!
//! The entries go by in a stream; the other files are small and kept. Extensions of the tar format are refused, so
//! that no reader can see other names or sizes than we do.

use mastio_core::counted;
use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read},
};

use flate2::bufread::GzDecoder;
use mastio_audit::LocalRow;

use crate::{
    digesting::Digesting,
    entries::{self, Walked},
    format::{Digest, FORMAT, File, MAX_LINE, Manifest},
    problem::{At, Stop, fails},
    report::Step,
};

/// Most bytes of a file that is kept. A checkpoint with many cosignatures fits, and the chain of an authority.
const MAX_KEPT: u64 = 256 * 1024;
/// Zeros that may follow the archive: tar pads to records of 20 blocks.
const MAX_PADDING: u64 = 20 * 512;

/// What was in the archive.
pub(crate) struct Unpacked {
    pub(crate) manifest: Manifest,
    /// The digest and the walk of `events.ndjson`; the digest is the first to be judged.
    pub(crate) events: (Digest, Result<Walked, String>),
    kept: BTreeMap<File, Vec<u8>>,
}

impl Unpacked {
    /// The bytes of a file that is there.
    pub(crate) fn bytes(&self, file: File) -> Option<&[u8]> {
        self.kept.get(&file).map(Vec::as_slice)
    }

    /// The text of a required file; `step` is what needs it.
    pub(crate) fn text(&self, file: File, step: Step) -> Result<&str, Stop> {
        let Some(bytes) = self.bytes(file) else {
            return fails(step, format!("{file} is missing"));
        };
        std::str::from_utf8(bytes).map_err(|_| Stop::Fails(step, format!("{file} is not text")))
    }

    /// A required file of JSON.
    pub(crate) fn json<'a, T: serde::Deserialize<'a>>(&'a self, file: File, step: Step) -> Result<T, Stop> {
        serde_json::from_str(self.text(file, step)?)
            .map_err(|error| Stop::Fails(step, format!("{file} is not what it should be: {error}")))
    }

    /// The digests of the kept files.
    pub(crate) fn digests(&self) -> impl Iterator<Item = (File, Digest)> {
        self.kept
            .iter()
            .filter(|(file, _)| **file != File::Manifest)
            .map(|(file, bytes)| (*file, Digest(mastio_core::sha256(bytes))))
    }
}

/// Reads a whole archive.
pub(crate) fn read(input: impl Read, each: &mut dyn FnMut(&LocalRow<'_>)) -> Result<Unpacked, Stop> {
    let step = Step::Archive;
    let damaged = |error| Stop::of_reader(step, error);
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::with_capacity(64 * 1024, input)));
    let mut collected = Collected::default();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            return fails(step, "it holds something else than plain files");
        }
        let name = entry.path_bytes();
        let Some(file) = File::named(&name) else {
            return fails(
                step,
                format!("it holds a file that no bundle has: {}", String::from_utf8_lossy(&name)),
            );
        };
        let size = entry.size();
        collected.take(file, size, entry, each)?;
    }
    ends(archive.into_inner())?;
    collected.finish()
}

/// After the last file there are zeros, the end of the compressed stream with its checksum, and nothing else.
fn ends<R: io::BufRead>(mut compressed: GzDecoder<R>) -> Result<(), Stop> {
    let damaged = |error| Stop::of_reader(Step::Archive, error);
    let mut rest = Vec::new();
    compressed.by_ref().take(MAX_PADDING + 1).read_to_end(&mut rest).map_err(damaged)?;
    let follows = rest.len() as u64 > MAX_PADDING || rest.iter().any(|byte| *byte != 0);
    if follows || !compressed.into_inner().fill_buf().map_err(damaged)?.is_empty() {
        return fails(Step::Archive, "something follows its last file");
    }
    Ok(())
}

#[derive(Default)]
struct Collected {
    manifest: Option<Manifest>,
    events: Option<(Digest, Result<Walked, String>)>,
    kept: BTreeMap<File, Vec<u8>>,
}

impl Collected {
    fn take(
        &mut self,
        file: File,
        size: u64,
        content: impl Read,
        each: &mut dyn FnMut(&LocalRow<'_>),
    ) -> Result<(), Stop> {
        let step = Step::Archive;
        if self.kept.contains_key(&file) || (file == File::Events && self.events.is_some()) {
            return fails(step, format!("{file} is in it twice"));
        }
        match (&self.manifest, file) {
            (None, File::Manifest) => {
                let bytes = keep(file, size, content)?;
                self.manifest = Some(manifest(&bytes)?);
                self.kept.insert(file, bytes);
            }
            (None, _) => return fails(step, format!("{file} comes before {}", File::Manifest)),
            (Some(manifest), File::Events) => self.events = Some(walk(manifest, size, content, each)?),
            (Some(_), _) => {
                self.kept.insert(file, keep(file, size, content)?);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Unpacked, Stop> {
        let Self { manifest, events, kept } = self;
        let missing = |file: &File| match file {
            File::Events => events.is_none(),
            file => file.is_required() && !kept.contains_key(file),
        };
        match (File::ALL.iter().find(|file| missing(file)), manifest, events) {
            (None, Some(manifest), Some(events)) => Ok(Unpacked { manifest, events, kept }),
            (Some(file), ..) => fails(Step::Archive, format!("{file} is missing")),
            _ => fails(Step::Archive, "it is empty"),
        }
    }
}

fn keep(file: File, size: u64, content: impl Read) -> Result<Vec<u8>, Stop> {
    if size > MAX_KEPT {
        return fails(Step::Archive, format!("{file} is larger than {MAX_KEPT} bytes"));
    }
    let mut bytes = Vec::new();
    let read = content.take(size).read_to_end(&mut bytes);
    read.map_err(|error| Stop::of_reader(Step::Archive, error))?;
    if bytes.len() as u64 != size {
        return Err(Stop::of_reader(Step::Archive, io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

fn manifest(bytes: &[u8]) -> Result<Manifest, Stop> {
    let manifest: Manifest = serde_json::from_slice(bytes).at(Step::ManifestDigest)?;
    if manifest.format != FORMAT {
        let why = format!("the format {:?} is not known: verify with a newer version", manifest.format);
        return fails(Step::ManifestDigest, why);
    }
    Ok(manifest)
}

/// Digest and walk in one pass. The digest counts first, so it is taken to the end even where the walk stops.
fn walk(
    manifest: &Manifest,
    size: u64,
    content: impl Read,
    each: &mut dyn FnMut(&LocalRow<'_>),
) -> Result<(Digest, Result<Walked, String>), Stop> {
    if size > manifest.entries.saturating_mul(MAX_LINE as u64) {
        let why = format!(
            "{} is larger than {} can be",
            File::Events,
            counted(manifest.entries, "entry", "entries")
        );
        return fails(Step::Archive, why);
    }
    let damaged = |error| Stop::of_reader(Step::Archive, error);
    let mut content = BufReader::with_capacity(64 * 1024, Digesting::new(content));
    let walked = entries::walk(&mut content, &manifest.org_id, each).map_err(damaged)?;
    io::copy(&mut content, &mut io::sink()).map_err(damaged)?;
    let (bytes, digest) = content.into_inner().finish();
    if bytes != size {
        return Err(Stop::of_reader(Step::Archive, io::ErrorKind::UnexpectedEof.into()));
    }
    Ok((digest, walked))
}
