//! A line of roots, oldest first, and its text: what an auditor is given, and checks without us.
//!
//! The text is PEM certificates with what leads from each to the next between them: a statement of
//! [`lineage`](super), or a line that begins with `break: `. Empty lines and lines that begin with `#` say nothing.

use std::fmt;

use mastio_core::Stamp;

use super::{LineageError, verify};
use crate::{Certificate, PemError, pem};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const BREAK: &str = "break: ";

/// Longest text that is read, in bytes: some hundred roots.
const MAX_TEXT: usize = 1024 * 1024;

/// Why no key vouches for a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The key of before may be known to others, so that its word is worth nothing.
    Compromise,
    /// There is no statement: the rotation is older than statements are.
    Unrecorded,
}

impl Break {
    /// The word for it; never changes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compromise => "compromise",
            Self::Unrecorded => "unrecorded",
        }
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compromise => "the key of the root before it was compromised, and vouches for nothing",
            Self::Unrecorded => "no statement was kept when it took its place",
        })
    }
}

/// What leads from one root to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Onward {
    /// The statement of the older one, whatever it is worth.
    Statement(String),
    /// Nothing does.
    Break(Break),
}

/// Why a root does not lead to the next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Said so by whoever wrote the line.
    #[error("the line is broken here: {0}")]
    Break(Break),
    /// The statement.
    #[error(transparent)]
    Statement(#[from] LineageError),
}

/// From one root to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'a> {
    /// The older one.
    pub from: &'a Certificate,
    /// The one that took its place.
    pub to: &'a Certificate,
    /// When the older one's key vouched for it, or why that is not so.
    pub vouched: Result<Stamp, StepError>,
}

/// Why a text is not a line of roots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than any line.
    #[error("the lineage is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// No certificate.
    #[error("no certificate found: expected what mastio pki lineage --export writes")]
    Empty,
    /// A certificate that cannot be read. Positions count from 1.
    #[error("root {position} of the lineage: {source}")]
    Certificate {
        /// Which.
        position: usize,
        /// What is wrong with it.
        source: PemError,
    },
    /// Two roots with nothing between them, or something behind the last one.
    #[error("after root {0} of the lineage: expected a statement or `break: `, and then a certificate")]
    Gap(usize),
}

/// Roots, each the successor of the one before it. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    oldest: Certificate,
    later: Vec<(Onward, Certificate)>,
}

impl Line {
    /// The line of one root.
    #[must_use]
    pub fn of(oldest: Certificate) -> Self {
        Self { oldest, later: Vec::new() }
    }

    /// Adds the successor of the newest root.
    #[must_use]
    pub fn then(mut self, onward: Onward, root: Certificate) -> Self {
        self.later.push((onward, root));
        self
    }

    /// The roots, the oldest first.
    pub fn roots(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.oldest).chain(self.later.iter().map(|(_, root)| root))
    }

    /// The newest root.
    #[must_use]
    pub fn newest(&self) -> &Certificate {
        self.later.last().map_or(&self.oldest, |(_, root)| root)
    }

    /// Every step with what it is worth, the oldest first.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        self.roots().zip(&self.later).map(|(from, (onward, to))| {
            let vouched = match onward {
                Onward::Statement(text) => verify(text, from, to).map_err(StepError::from),
                Onward::Break(why) => Err(StepError::Break(*why)),
            };
            Step { from, to, vouched }
        })
    }

    /// The steps from `trusted` on, if it is one of these roots: whoever believes it believes the newest one when each
    /// of them is vouched for.
    pub fn steps_from(&self, trusted: &Certificate) -> Option<impl Iterator<Item = Step<'_>>> {
        let position = self.roots().position(|root| root == trusted)?;
        Some(self.steps().skip(position))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`LineError`]. Statements are taken as they are: [`Line::steps`] judges them.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        if text.len() > MAX_TEXT {
            return Err(LineError::TooLong);
        }
        let (before, rest) = text.split_once(BEGIN).ok_or(LineError::Empty)?;
        if said(before).is_some() {
            return Err(LineError::Gap(0));
        }
        let mut line: Option<Self> = None;
        let mut onward = None;
        for (index, part) in rest.split(BEGIN).enumerate() {
            let position = index + 1;
            let (body, behind) =
                part.split_once(END).ok_or(LineError::Certificate { position, source: PemError::Damaged })?;
            let root = pem::first_certificate(&format!("{BEGIN}{body}{END}\n"))
                .map_err(|source| LineError::Certificate { position, source })?;
            line = Some(match (line, onward) {
                (None, _) => Self::of(root),
                (Some(line), Some(onward)) => line.then(onward, root),
                (Some(_), None) => return Err(LineError::Gap(index)),
            });
            onward =
                said(behind).map(|text| Onward::parse(&text).ok_or(LineError::Gap(position))).transpose()?;
        }
        match (line, onward) {
            (Some(line), None) => Ok(line),
            (line, _) => Err(LineError::Gap(line.map_or(0, |line| line.roots().count()))),
        }
    }
}

/// What stands between two certificates, without what says nothing.
fn said(between: &str) -> Option<String> {
    let lines = between.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    Some(text).filter(|text| !text.is_empty())
}

impl Onward {
    fn parse(text: &str) -> Option<Self> {
        let Some(word) = text.strip_prefix(BREAK) else { return Some(Self::Statement(text.to_owned())) };
        let word = word.trim_end();
        [Break::Compromise, Break::Unrecorded]
            .into_iter()
            .find(|known| known.as_str() == word)
            .map(Self::Break)
    }
}

/// The text that [`Line::parse`] reads.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "# {}\n{}", self.oldest.subject(), self.oldest.pem())?;
        for (onward, root) in &self.later {
            match onward {
                Onward::Statement(text) => write!(f, "\n{text}")?,
                Onward::Break(why) => write!(f, "\n{BREAK}{}\n", why.as_str())?,
            }
            write!(f, "\n# {}\n{}", root.subject(), root.pem())?;
        }
        Ok(())
    }
}
