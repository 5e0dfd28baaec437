//! The table of everything that can be set: data, from which the reader, the reference page and the did-you-mean work.

mod built;
mod unbuilt;

/// One name in the environment or in `proxy.env`.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// The canonical name, in capitals. Names are matched in any case.
    pub name: &'static str,
    /// Other names of the same setting. They win over `name` in the same place (contract `operations.md` §2.1).
    pub aliases: &'static [&'static str],
    /// What a value looks like.
    pub kind: Kind,
    /// The value when nothing is set, as an operator would write it; empty when there is none. Relative paths are
    /// relative to the data directory (`--dir`).
    pub default: &'static str,
    /// One line for the reference page; empty for what is not built.
    pub help: &'static str,
    /// Whether this release uses it.
    pub stage: Stage,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text of the form that the words describe.
    Text(&'static str),
    /// Never printed. `<NAME>_FILE` may name a file that holds it instead.
    Secret,
    /// `1/0 true/false yes/no on/off t/f y/n`, in any case.
    Boolean,
    /// A whole number between two others, both included.
    Integer {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// CIDR networks, separated by commas.
    Networks,
    /// An address such as `https://mastio.example.com:9443`.
    Url,
    /// A file or directory.
    Path,
}

/// Whether this release uses a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It does.
    Built,
    /// Its feature is not built yet. A value that means the default is as good as none.
    Later {
        /// What setting it does.
        when_set: WhenSet,
        /// Which feature is missing.
        why: &'static str,
    },
    /// There is nothing to set here, by design; setting it warns.
    Moot {
        /// Why not.
        why: &'static str,
    },
    /// Somebody else reads it; here it is only known.
    Elsewhere {
        /// Who.
        why: &'static str,
    },
}

/// What setting a variable does whose feature is not built yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenSet {
    /// A warning: ignoring it is safe.
    Warn,
    /// Exit 1: ignoring it would be unsafe, except for the values that ask for nothing.
    Refuse {
        /// These values, in lower case.
        unless: &'static [&'static str],
    },
}

/// The built variables by theme, with the title of each theme.
pub(crate) const SECTIONS: &[(&str, &[Variable])] = &[
    ("Who this Mastio is", built::IDENTITY),
    ("Listeners", built::NETWORK),
    ("Storage and keys", built::STORAGE),
    ("Tokens and proofs", built::ACCESS),
    ("Expiry", built::EXPIRY),
    ("Audit log", built::AUDIT),
    ("Limits", built::LIMITS),
    ("Process", built::PROCESS),
];

/// Every variable that is known.
pub const VARIABLES: &[Variable] = &concat::<{ count() }>();

const fn count() -> usize {
    let (mut total, mut section) = (unbuilt::UNBUILT.len(), 0);
    while section < SECTIONS.len() {
        total += SECTIONS[section].1.len();
        section += 1;
    }
    total
}

const fn concat<const N: usize>() -> [Variable; N] {
    let mut all = [unbuilt::UNBUILT[0]; N];
    let (mut at, mut section) = (0, 0);
    while section <= SECTIONS.len() {
        let part = if section < SECTIONS.len() { SECTIONS[section].1 } else { unbuilt::UNBUILT };
        let mut row = 0;
        while row < part.len() {
            all[at] = part[row];
            at += 1;
            row += 1;
        }
        section += 1;
    }
    all
}

/// The row of a name; a name that is not in the table does not compile.
macro_rules! variable {
    ($name:literal) => {
        const { $crate::variable::row($name) }
    };
}
pub(crate) use variable;

#[expect(
    clippy::panic,
    reason = "only the `variable!` macro calls it, inside a const block: a compile error"
)]
pub(crate) const fn row(name: &str) -> &'static Variable {
    let mut at = 0;
    while at < VARIABLES.len() {
        if same(VARIABLES[at].name.as_bytes(), name.as_bytes()) {
            return &VARIABLES[at];
        }
        at += 1;
    }
    panic!("no such variable in the table")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

impl Variable {
    const fn built(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Self {
        Self { name, aliases: &[], kind, default, help, stage: Stage::Built }
    }

    const fn unbuilt(name: &'static str, kind: Kind, default: &'static str, stage: Stage) -> Self {
        Self { name, aliases: &[], kind, default, help: "", stage }
    }

    const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    /// The names under which it is looked up, the winning one first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.aliases.iter().copied().chain([self.name])
    }

    /// `<NAME>_FILE`, for a secret.
    #[must_use]
    pub fn file_name(&self) -> Option<String> {
        (self.kind == Kind::Secret).then(|| format!("{}_FILE", self.name))
    }

    /// The value as it may be printed: a secret is masked, and so is the password inside an address.
    #[must_use]
    pub fn printable(&self, value: &str) -> String {
        const MASK: &str = "********";
        if self.kind == Kind::Secret {
            return MASK.to_owned();
        }
        let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
        // Generous on purpose: a password may hold an unescaped '/', '?' or '@'.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, host)) => (format!("{}:{MASK}@", user.split(':').next().unwrap_or_default()), host),
            None => (String::new(), rest),
        };
        let rest = rest.split_once('?').map_or_else(|| rest.to_owned(), |(path, _)| format!("{path}?{MASK}"));
        format!("{scheme}://{user}{rest}")
    }

    /// Whether `value` asks for what happens anyway.
    pub(crate) fn means_default(&self, value: &str) -> bool {
        match self.kind {
            Kind::Boolean => {
                parse_boolean(value).is_some_and(|value| parse_boolean(self.default) == Some(value))
            }
            _ => value.eq_ignore_ascii_case(self.default),
        }
    }
}

impl Kind {
    /// Completes the sentence "the value must be …".
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::Text(form) => (*form).to_owned(),
            Self::Secret => "a secret".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Networks => "networks such as 10.0.0.0/8, separated by commas".to_owned(),
            Self::Url => "an address such as https://mastio.example.com:9443".to_owned(),
            Self::Path => "a path".to_owned(),
        }
    }
}

/// Reads a truth value (contract `operations.md` §2.1).
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "t" | "y" => Some(true),
        "0" | "false" | "no" | "off" | "f" | "n" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_in_capitals_and_means_one_thing() {
        let mut seen = BTreeSet::new();
        for variable in VARIABLES {
            for name in variable.names().map(str::to_owned).chain(variable.file_name()) {
                assert_eq!(name, name.to_ascii_uppercase());
                assert!(seen.insert(name.clone()), "{name} is in the table twice");
            }
        }
        assert!(seen.len() > 150, "the table has lost rows: {}", seen.len());
    }

    #[test]
    fn what_is_built_has_a_line_of_help_and_the_rest_a_reason() {
        for variable in VARIABLES {
            let told = match variable.stage {
                Stage::Built => variable.help,
                Stage::Later { why, .. } | Stage::Moot { why } | Stage::Elsewhere { why } => why,
            };
            assert!(!told.is_empty() && !told.contains('|'), "{}", variable.name);
            assert!(variable.kind != Kind::Secret || variable.default.is_empty(), "{}", variable.name);
        }
    }

    #[test]
    fn passwords_never_print() {
        let url = Variable::built("URL", Kind::Url, "", "");
        for (value, printed) in [
            ("postgres://u:p/a@s?s@db:5432/x", "postgres://u:********@db:5432/x"),
            ("redis://:hunter2@cache/0", "redis://:********@cache/0"),
            ("postgres://db/x?password=hunter2", "postgres://db/x?********"),
            ("https://mastio.example.com:9443", "https://mastio.example.com:9443"),
            ("data/mcp_proxy.db", "data/mcp_proxy.db"),
        ] {
            assert_eq!(url.printable(value), printed);
        }
        assert_eq!(Variable::built("S", Kind::Secret, "", "").printable("hunter2"), "********");
    }
}
