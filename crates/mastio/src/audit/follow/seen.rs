//! What was seen of a log: the newest checkpoint of each of its generations, kept in a file.
//!
//! The notes follow each other with an empty line between. The newest of every generation stays: a log that was handed
//! over must not come back to what it gave up, or history could be rewritten on the way.

use std::{
    io,
    path::{Path, PathBuf},
};

use mastio_audit::{checkpoint::SignedCheckpoint, note::Name};

/// The checkpoints that were proved, oldest generation first.
#[derive(Debug)]
pub(super) struct Seen {
    path: PathBuf,
    notes: Vec<SignedCheckpoint>,
}

impl Seen {
    /// What is in the file; nothing when there is none.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("--state {}: {error}", path.display())),
        };
        let notes = parse(&text).map_err(|error| format!("--state {}: {error}", path.display()))?;
        Ok(Self { path: path.to_owned(), notes })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The newest checkpoint of the newest generation.
    pub(super) fn newest(&self) -> Option<&SignedCheckpoint> {
        self.notes.last()
    }

    /// What a checkpoint of `origin` has to continue. `Err`: no checkpoint of that name may come any more.
    pub(super) fn before(&self, origin: &Name) -> Result<Option<&SignedCheckpoint>, String> {
        let Some(newest) = self.newest() else { return Ok(None) };
        let ((log, reached), (name, generation)) =
            (generation(&newest.unverified().origin), generation(origin));
        match () {
            () if name != log => {
                Err(format!("{origin} is another log than {log}, which was seen here before"))
            }
            () if generation < reached => {
                Err(format!("{origin} is back, and it was handed over to {}", newest.unverified().origin))
            }
            () => Ok(Some(newest)),
        }
    }

    /// Keeps `note` as the newest of its generation, on disk before this returns.
    pub(super) fn keep(&mut self, note: SignedCheckpoint) -> Result<(), String> {
        self.notes.retain(|kept| kept.unverified().origin != note.unverified().origin);
        self.notes.push(note);
        let text: Vec<_> = self.notes.iter().map(SignedCheckpoint::as_str).collect();
        let fresh = self.path.with_extension("new");
        std::fs::write(&fresh, text.join("\n"))
            .and_then(|()| std::fs::rename(&fresh, &self.path))
            .map_err(|error| format!("--state {}: {error}", self.path.display()))
    }
}

fn parse(text: &str) -> Result<Vec<SignedCheckpoint>, String> {
    let parts: Vec<_> = text.trim_end().split("\n\n").filter(|part| !part.is_empty()).collect();
    let note = |note: &[&str]| SignedCheckpoint::parse(&format!("{}\n", note.join("\n\n")));
    parts.chunks(2).map(|parts| note(parts).map_err(|error| error.to_string())).collect()
}

/// A log's first name, and which of its generations `origin` is: `…/audit/2` is the second of `…/audit`.
fn generation(origin: &Name) -> (&str, u64) {
    let split = origin.as_str().rsplit_once('/');
    let numbered = split.and_then(|(log, number)| Some((log, mastio_audit::proof::decimal(number)?)));
    numbered.filter(|(_, number)| *number > 1).unwrap_or((origin.as_str(), 1))
}

#[cfg(test)]
mod tests {
    use mastio_audit::{
        checkpoint::Checkpoint,
        note::{KeyKind, NoteSigner},
        tree::TreeHead,
    };
    use mastio_core::SystemRng;

    use super::*;

    fn note(origin: &str, size: u64) -> SignedCheckpoint {
        let name = Name::parse(origin).unwrap();
        let signer = NoteSigner::generate(KeyKind::Log, name.clone(), &SystemRng).unwrap();
        Checkpoint { origin: name, head: TreeHead { size, root: [1; 32] } }.sign(&signer).unwrap()
    }

    #[test]
    fn a_log_never_comes_back_to_a_generation_that_it_gave_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seen.txt");
        let mut seen = Seen::read(&path).unwrap();
        let name = |origin| Name::parse(origin).unwrap();
        assert!(seen.before(&name("a.example/audit")).unwrap().is_none());
        let (first, second) = (note("a.example/audit", 50), note("a.example/audit/2", 70));
        seen.keep(note("a.example/audit", 40)).unwrap();
        seen.keep(first.clone()).unwrap();
        assert_eq!(seen.before(&name("a.example/audit/2")).unwrap(), Some(&first));
        seen.keep(second.clone()).unwrap();

        let seen = Seen::read(&path).unwrap();
        assert_eq!(seen.notes, [first, second.clone()]);
        assert_eq!(seen.before(&name("a.example/audit/2")).unwrap(), Some(&second));
        assert_eq!(seen.before(&name("a.example/audit/3")).unwrap(), Some(&second));
        assert!(seen.before(&name("a.example/audit")).unwrap_err().contains("handed over"));
        assert!(seen.before(&name("b.example/audit/3")).unwrap_err().contains("another log"));
    }
}
