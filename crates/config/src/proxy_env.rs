//! The file `proxy.env` in the data directory: its grammar, and the fresh one of a first start.
//!
//! The grammar is what operators' `grep ^NAME proxy.env | cut -d= -f2` and `sed "s|^NAME=.*|…|"` understand (contract
//! `operations.md` §14): one `NAME=value` per line, split at the first `=`; blank lines; comments on lines of their
//! own that begin with `#`. Nothing else is interpreted, so whatever looks as if it hoped to be is a [`Problem`].

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use mastio_core::Rng;

use crate::{Environment, Problem, Source, variable::variable};

/// The file's name in the data directory.
pub const FILE_NAME: &str = "proxy.env";

/// One `NAME=value`, the name in capitals, the value without surrounding blanks.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// What the text says, and every line that is not of the grammar. No problem quotes a value: it may be a secret.
pub(crate) fn parse(text: &str) -> (Vec<Entry>, Vec<Problem>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    let mut first_lines = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            Ok(entry) => {
                if let Some(first) = first_lines.insert(entry.name.clone(), number) {
                    let what = format!("stands on lines {first} and {number} of {FILE_NAME}");
                    problems.push(Problem::new(&entry.name, what, "keep one of them"));
                }
                entries.push(entry);
            }
            Err((what, remedy)) => {
                problems.push(Problem::new(format!("{FILE_NAME} line {number}"), what, remedy));
            }
        }
    }
    (entries, problems)
}

fn parse_line(line: &str) -> Result<Entry, (&'static str, &'static str)> {
    let Some((name, value)) = line.split_once('=') else {
        return Err(("is not NAME=value", "correct it, or put # before it"));
    };
    if name.starts_with("export ") {
        return Err(("begins with export, which is not interpreted here", "remove that word"));
    }
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let name_ok = name.bytes().next().is_some_and(letter)
        && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit());
    if !name_ok {
        return Err(("has no plain name before the =", "begin the line with NAME=, without blanks"));
    }
    let value = value.trim();
    let quoted = |quote| value.len() >= 2 && value.starts_with(quote) && value.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return Err(("has a value in quotes, which would be part of it", "remove the quotes"));
    }
    Ok(Entry { name: name.to_ascii_uppercase(), value: value.to_owned() })
}

/// Whether a first start in `dir` should make a `proxy.env`: nobody gave an admin secret, it is development, and
/// there is neither a `proxy.env` nor data that an earlier secret belongs to.
#[must_use]
pub fn is_wanted(source: &Source, dir: &Path) -> bool {
    let secret = variable!("MCP_PROXY_ADMIN_SECRET");
    let environment = source.find(variable!("MCP_PROXY_ENVIRONMENT"));
    let development =
        environment.is_none_or(|found| Environment::from_word(found.value) == Some(Environment::Development));
    let has_data = fs::read_dir(dir.join("data")).is_ok_and(|mut entries| entries.next().is_some());
    development && !source.is_set(secret) && !has_data && !dir.join(FILE_NAME).exists()
}

/// Writes `<dir>/proxy.env`, readable by its owner only, with a fresh admin secret and dashboard key of 64 hex digits
/// each. Never overwrites. A [`Source`] that was read before does not know it: read it again.
///
/// # Errors
/// What the file system says, [`io::ErrorKind::AlreadyExists`] among it; then nothing of ours is left behind.
pub fn write_fresh(dir: &Path, rng: &dyn Rng) -> io::Result<PathBuf> {
    let path = dir.join(FILE_NAME);
    let text = format!(
        "# Settings of this Mastio: one NAME=value per line, no quotes. `mastio config show` prints them all.\n\
         # Whoever reads this file can administer the Mastio.\n\
         MCP_PROXY_ADMIN_SECRET={}\n\
         MCP_PROXY_DASHBOARD_SIGNING_KEY={}\n",
        fresh_secret(rng),
        fresh_secret(rng),
    );
    // Linked into place when it is whole: a crash leaves no half-written file that the next start would believe.
    let draft = dir.join(".proxy.env.new");
    let write = || {
        let _ = fs::remove_file(&draft);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::hard_link(&draft, &path)?;
        File::open(dir)?.sync_all()
    };
    let written = write();
    let _ = fs::remove_file(&draft);
    written.map(|()| path.clone())
}

fn fresh_secret(rng: &dyn Rng) -> String {
    let mut raw = [0; 32];
    rng.fill(&mut raw);
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use mastio_core::SeededRng;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_split_at_the_first_equals_sign() {
        let text = "# a comment\n\nMCP_PROXY_PORT=9444\r\nmcp_proxy_org_id= acme \nA=b=c==\nEMPTY=\n";
        let (entries, problems) = parse(text);
        let pairs: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.value.as_str())).collect();
        assert_eq!(problems, []);
        assert_eq!(
            pairs,
            [("MCP_PROXY_PORT", "9444"), ("MCP_PROXY_ORG_ID", "acme"), ("A", "b=c=="), ("EMPTY", "")]
        );
    }

    #[test]
    fn what_would_not_be_understood_is_a_problem_that_quotes_no_value() {
        for (text, says) in [
            ("hunter2", "proxy.env line 1: is not NAME=value"),
            ("\nexport A=hunter2", "proxy.env line 2: begins with export"),
            (" A=hunter2", "proxy.env line 1: has no plain name"),
            ("A =hunter2", "proxy.env line 1: has no plain name"),
            ("=hunter2", "proxy.env line 1: has no plain name"),
            ("1A=hunter2", "proxy.env line 1: has no plain name"),
            ("A=\"hunter2\"", "proxy.env line 1: has a value in quotes"),
            ("A='hunter2'", "proxy.env line 1: has a value in quotes"),
            ("A=hunter2\na=hunter3", "A: stands on lines 1 and 2 of proxy.env"),
        ] {
            let (_, problems) = parse(text);
            assert_eq!(problems.len(), 1, "{text}");
            let line = problems[0].to_string();
            assert!(line.starts_with(says) && !line.contains("hunter"), "{line}");
        }
        assert_eq!(parse("A=it's\nB=\"").1, [], "quotes inside a value are just characters");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_what_was_read_reads_the_same_again(text in "(?s).{0,200}|[A-B=#'\" \n]{0,60}") {
            let (entries, _) = parse(&text);
            let rendered: String = entries.iter().map(|e| format!("{}={}\n", e.name, e.value)).collect();
            prop_assert!(parse(&rendered).0 == entries);
        }
    }

    #[test]
    fn a_fresh_file_is_private_boots_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_wanted(&Source::new([], ""), dir.path()));
        let path = write_fresh(dir.path(), &SeededRng::new(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let text = fs::read_to_string(&path).unwrap();
        let begins = |line: &&str| line.contains("MCP_PROXY_ADMIN_SECRET");
        assert_eq!(text.lines().filter(begins).count(), 1);
        let source = Source::new([], &text);
        let loaded = crate::Settings::load(&source, dir.path()).unwrap();
        assert_eq!(loaded.warnings, []);
        assert!(loaded.settings.dashboard.signing_key.is_some());

        assert!(!is_wanted(&Source::new([], ""), dir.path()));
        let again = write_fresh(dir.path(), &SeededRng::new(2)).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_fresh_file_is_not_wanted_where_a_secret_or_data_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            is_wanted(&Source::new(pairs, ""), dir.path())
        };
        assert!(wanted(&[("MCP_PROXY_ADMIN_SECRET", ""), ("MCP_PROXY_ENVIRONMENT", "development")]));
        assert!(!wanted(&[("MCP_PROXY_ADMIN_SECRET", "short")]));
        assert!(!wanted(&[("MCP_PROXY_ADMIN_SECRET_FILE", "/run/secrets/admin")]));
        assert!(!wanted(&[("MCP_PROXY_ENVIRONMENT", "Production")]));
        assert!(!wanted(&[("MCP_PROXY_ENVIRONMENT", "prod")]));
        fs::create_dir(dir.path().join("data")).unwrap();
        assert!(wanted(&[]));
        fs::write(dir.path().join("data/mcp_proxy.db"), "").unwrap();
        assert!(!wanted(&[]));
    }
}
