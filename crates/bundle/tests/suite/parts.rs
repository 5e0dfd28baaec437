//! Takes bundles apart and puts them together again, as somebody would who tampers with them.

use std::io::{Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use mastio_core::sha256;
use serde_json::Value;

/// The files of a bundle.
#[derive(Clone)]
pub(crate) struct Parts(pub(crate) Vec<(String, Vec<u8>)>);

impl Parts {
    pub(crate) fn of(bundle: &[u8]) -> Self {
        let mut archive = tar::Archive::new(GzDecoder::new(bundle));
        let files = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        });
        Self(files.collect())
    }

    pub(crate) fn file(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.0.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    pub(crate) fn text(&mut self, name: &str, edit: impl FnOnce(String) -> String) -> &mut Self {
        let file = self.file(name);
        *file = edit(String::from_utf8(file.clone()).unwrap()).into_bytes();
        self
    }

    pub(crate) fn json(&mut self, name: &str, edit: impl FnOnce(&mut Value)) -> &mut Self {
        let file = self.file(name);
        let mut value = serde_json::from_slice(file).unwrap();
        edit(&mut value);
        *file = serde_json::to_vec(&value).unwrap();
        self
    }

    pub(crate) fn lines(&mut self, edit: impl FnOnce(&mut Vec<String>)) -> &mut Self {
        self.text("events.ndjson", |text| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            edit(&mut lines);
            lines.into_iter().map(|line| line + "\n").collect()
        })
    }

    pub(crate) fn take_from(&mut self, other: &Self, names: &[&str]) -> &mut Self {
        for name in names {
            let content = other.0.iter().find(|(known, _)| known == name).unwrap().1.clone();
            *self.file(name) = content;
        }
        self
    }

    /// Makes the digests of the manifest right again.
    pub(crate) fn cover(&mut self) -> &mut Self {
        let digests: Vec<_> =
            self.0.iter().map(|(name, content)| (name.clone(), hex::encode(sha256(content)))).collect();
        self.json("manifest.json", |manifest| {
            manifest["files"] = Value::Object(serde_json::Map::new());
            for (name, digest) in digests {
                match name.as_str() {
                    "manifest.json" => {}
                    "events.ndjson" => manifest["sha256"] = digest.into(),
                    name => manifest["files"][name] = digest.into(),
                }
            }
        })
    }

    pub(crate) fn bundle(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, content) in &self.0 {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // Names that a careful writer refuses.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, content.as_slice()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    /// The archive with a header before it that gives its first file a name, as GNU tar writes long ones.
    pub(crate) fn with_long_name(&self) -> Vec<u8> {
        let name = format!("{}\0", self.0[0].0);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(name.len() as u64);
        header.set_cksum();
        let mut raw = header.as_bytes().to_vec();
        raw.extend(name.as_bytes());
        raw.resize(2 * 512, 0);
        raw.extend(inflated(&self.bundle()));
        deflated(&raw)
    }

    /// The archive with more zeros behind it than tar writes.
    pub(crate) fn with_zeros(&self) -> Vec<u8> {
        let mut raw = inflated(&self.bundle());
        raw.resize(raw.len() + (1 << 20), 0);
        deflated(&raw)
    }

    /// The archive with one entry of another kind in it.
    pub(crate) fn with_link(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "manifest.json", "/etc/passwd").unwrap();
        tar.into_inner().unwrap().finish().unwrap()
    }
}

fn inflated(bundle: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    GzDecoder::new(bundle).read_to_end(&mut raw).unwrap();
    raw
}

fn deflated(raw: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(raw).unwrap();
    out.finish().unwrap()
}

/// A time stamping reply with words beside its status, which nobody signed.
pub(crate) fn with_words(reply: &[u8], words: &str) -> Vec<u8> {
    let der = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], length.as_slice(), content].concat()
    };
    let token = reply[4..].strip_prefix(&[0x30, 3, 2, 1, 0]).unwrap();
    // DER has one length for each content, and these are short.
    let short = |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let words = short(0x30, &short(0x0c, words.as_bytes()));
    der(0x30, &[short(0x30, &[&[2, 1, 0], words.as_slice()].concat()).as_slice(), token].concat())
}

/// A bundle whose second file says that it is endless, and is.
pub(crate) fn bomb(manifest: &[u8], size: u64) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    for (name, size) in [("manifest.json", manifest.len() as u64), ("events.ndjson", size)] {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(size);
        header.set_cksum();
        out.write_all(header.as_bytes()).unwrap();
        if name == "manifest.json" {
            out.write_all(manifest).unwrap();
            out.write_all(&vec![0; (512 - manifest.len() % 512) % 512]).unwrap();
        }
    }
    out.write_all(&vec![b'x'; 1 << 20]).unwrap();
    out.finish().unwrap()
}
