//! The line of roots of this organisation, out of the registry: which root took the place of which, and on whose word.

use mastio_core::Thumbprint;
use mastio_pki::{
    Certificate,
    lineage::{self, Break, Line, Onward},
};
use mastio_store::{
    ReadError,
    cas::{self, CaRow, CaState},
    keys::CaKind,
    rotations::{self, Phase, Rotation},
    sqlite::Database,
};

/// How many rotations are looked at: more than anybody makes.
pub(crate) const ROTATIONS: i64 = 1000;

/// The line that ends at the active root; `None` while there is none. Roots that cannot be read are left out.
///
/// # Errors
/// When the database cannot be read.
pub fn line(database: &Database) -> Result<Option<Line>, ReadError> {
    Ok(line_of(&cas::all(database)?, &rotations::newest(database, ROTATIONS)?))
}

/// The same out of rows that were read: the registry, and rotations, the newest first.
pub(crate) fn line_of(registry: &[CaRow], rotations: &[Rotation]) -> Option<Line> {
    let roots: Vec<Root<'_>> = registry.iter().filter_map(Root::read).collect();
    let mut newest = roots.iter().find(|root| root.row.state == CaState::Active)?;
    let mut later = Vec::new();
    let mut left: Vec<_> = roots.iter().filter(|root| !std::ptr::eq(*root, newest)).collect();
    while let Some((index, onward)) = predecessor(&left, newest, rotations) {
        later.push((onward, newest.certificate.clone()));
        newest = left.remove(index);
    }
    let line = Line::of(newest.certificate.clone());
    Some(later.into_iter().rev().fold(line, |line, (onward, root)| line.then(onward, root)))
}

/// A root that certified at some time.
struct Root<'a> {
    row: &'a CaRow,
    certificate: Certificate,
}

impl<'a> Root<'a> {
    fn read(row: &'a CaRow) -> Option<Self> {
        let was_root = row.kind == CaKind::Root && row.activated_at.is_some();
        let certificate = was_root.then(|| Certificate::from_pem(&row.certificate).ok()).flatten()?;
        Some(Self { row, certificate })
    }

    /// What its row says about `next`. A statement that names another root says nothing about this one.
    fn onward(&self, next: &Certificate, rotations: &[Rotation]) -> Onward {
        let because_of_compromise =
            |rotation: &Rotation| rotation.compromise && rotation.old_root == self.row.thumbprint;
        // The rotation to `next` was open when keys became known, and with it lay the key that stated this.
        let broken_off = |rotation: &Rotation| {
            (rotation.old_root, rotation.new_root) == (self.row.thumbprint, next.thumbprint())
                && rotation.phase == Phase::Aborted
        };
        match &self.row.lineage {
            _ if self.row.compromised && rotations.iter().any(broken_off) => Onward::Break(Break::Compromise),
            _ if rotations.iter().any(because_of_compromise) => Onward::Break(Break::Compromise),
            // What was stated before a later key was compromised stays true, although nothing of before is believed.
            Some(text) if lineage::successor(text) == Some(next.thumbprint()) => {
                Onward::Statement(text.clone())
            }
            _ if self.row.compromised => Onward::Break(Break::Compromise),
            _ => Onward::Break(Break::Unrecorded),
        }
    }
}

/// Which of `roots` came before `next`: one that vouches for it, else the one that a rotation names, else the one that was
/// replaced last, which is all that an adopted database tells.
fn predecessor(roots: &[&Root<'_>], next: &Root<'_>, rotations: &[Rotation]) -> Option<(usize, Onward)> {
    let vouching =
        |root: &&Root<'_>| matches!(root.onward(&next.certificate, rotations), Onward::Statement(_));
    let rotated: Option<Thumbprint> = rotations
        .iter()
        .find(|rotation| rotation.phase == Phase::Done && rotation.new_root == next.row.thumbprint)
        .map(|rotation| rotation.old_root);
    let named = |root: &&Root<'_>| rotated == Some(root.row.thumbprint);
    let replaced = || {
        let before = roots.iter().enumerate().filter(|(_, root)| {
            root.row.state == CaState::Superseded && root.row.superseded_at <= next.row.activated_at
        });
        before.max_by_key(|(_, root)| root.row.superseded_at).map(|(index, _)| index)
    };
    let index = roots.iter().position(vouching).or_else(|| roots.iter().position(named)).or_else(replaced)?;
    Some((index, roots[index].onward(&next.certificate, rotations)))
}

#[cfg(test)]
mod tests;
