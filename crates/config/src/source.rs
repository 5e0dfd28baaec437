//! What the process environment and `proxy.env` say, before it means anything.

use std::{
    collections::BTreeMap, ffi::OsString, fmt, fs, io::ErrorKind, os::unix::fs::PermissionsExt, path::Path,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    Problem, VARIABLES,
    proxy_env::{self, FILE_NAME},
    variable::Variable,
};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The environment of the process; it beats the file.
    Environment,
    /// The file `proxy.env`.
    ProxyEnv,
    /// Neither: the table's default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "environment",
            Self::ProxyEnv => FILE_NAME,
            Self::Default => "default",
        })
    }
}

/// A value that is set: which name set it, to what, and where.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: &'a str,
    pub(crate) origin: Origin,
}

/// The names and values that concern a Mastio. Names are in capitals, values without surrounding blanks and never
/// empty: an empty value is as good as none.
#[derive(Debug)]
pub struct Source {
    environment: BTreeMap<String, SecretString>,
    file: BTreeMap<String, SecretString>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    absent: Option<Problem>,
}

impl Source {
    /// From an environment and the text of a `proxy.env`, empty when there is none.
    pub fn new(environment: impl IntoIterator<Item = (String, String)>, proxy_env: &str) -> Self {
        let (entries, problems) = proxy_env::parse(proxy_env);
        let mut source = Self {
            environment: BTreeMap::new(),
            file: BTreeMap::new(),
            problems,
            warnings: Vec::new(),
            absent: None,
        };
        for (name, value) in environment {
            source.add_environment(&name, &value);
        }
        for entry in entries.into_iter().filter(|entry| !entry.value.is_empty()) {
            if entry.value.contains(" #") && is_ours(&entry.name) {
                let what = format!("has a # inside its value in {FILE_NAME}, which is part of the value");
                source.warnings.push(Problem::new(&entry.name, what, "put comments on lines of their own"));
            }
            source.file.insert(entry.name, entry.value.into());
        }
        source
    }

    /// From the environment of this process and `<dir>/proxy.env`. What cannot be read becomes a problem of
    /// [`Settings::load`](crate::Settings::load).
    #[must_use]
    pub fn from_process(dir: &Path) -> Self {
        let path = dir.join(FILE_NAME);
        let (text, absent, unreadable) = match fs::read_to_string(&path) {
            Ok(text) => (text, None, None),
            Err(error) if error.kind() == ErrorKind::NotFound => (String::new(), Some(absent(dir)), None),
            Err(error) => (String::new(), None, Some(error)),
        };
        let mut source = Self { absent, ..Self::new([], &text) };
        for (name, value) in std::env::vars_os() {
            source.add_os_environment(&name, value);
        }
        let place = path.display().to_string();
        if let Some(error) = unreadable {
            source.problems.push(Problem::new(&place, format!("cannot be read: {error}"), "correct it"));
        }
        if fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            let what = "can be read by others than its owner, and it holds secrets";
            source.warnings.push(Problem::new(&place, what, format!("chmod 600 {place}")));
        }
        source
    }

    fn add_os_environment(&mut self, name: &OsString, value: OsString) {
        let Some(name) = name.to_str() else { return };
        match value.into_string() {
            Ok(value) => self.add_environment(name, &value),
            Err(_) if is_ours(&name.to_ascii_uppercase()) => {
                self.problems.push(Problem::new(name, "is not UTF-8 text", "correct it"));
            }
            Err(_) => {}
        }
    }

    fn add_environment(&mut self, name: &str, value: &str) {
        let (name, value) = (name.to_ascii_uppercase(), value.trim());
        if !is_ours(&name) || value.is_empty() {
            return;
        }
        let before = self.environment.insert(name.clone(), value.into());
        if before.is_some_and(|before| before.expose_secret() != value) {
            let what = "is in the environment in capitals and in small letters, with different values";
            self.problems.push(Problem::new(name, what, "keep one of them"));
        }
    }

    /// The value of a name, the environment's before the file's.
    pub(crate) fn get(&self, name: &str) -> Option<Found<'_>> {
        self.layers().find_map(|(layer, origin)| look_up(layer, origin, name))
    }

    /// The `<NAME>_FILE` of a secret: the path of the file that holds it.
    pub(crate) fn secret_file(&self, variable: &Variable) -> Option<Found<'_>> {
        self.get(&variable.file_name()?)
    }

    /// The value of a variable: the environment beats the file, and in each an alias beats the name.
    pub(crate) fn find(&self, variable: &Variable) -> Option<Found<'_>> {
        self.layers()
            .find_map(|(layer, origin)| variable.names().find_map(|name| look_up(layer, origin, name)))
    }

    /// Whether a variable is set under any of its names, `_FILE` included.
    pub(crate) fn is_set(&self, variable: &Variable) -> bool {
        self.find(variable).is_some() || self.secret_file(variable).is_some()
    }

    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// That there is no `proxy.env`. The environment may be all there is, so this is wrong only where something is missing.
    pub(crate) fn absent(&self) -> Option<&Problem> {
        self.absent.as_ref()
    }

    pub(crate) fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Every name that is set, once, with whether it stands in the file.
    pub(crate) fn names(&self) -> BTreeMap<&str, Origin> {
        let file = self.file.keys().map(|name| (name.as_str(), Origin::ProxyEnv));
        let environment = self.environment.keys().map(|name| (name.as_str(), Origin::Environment));
        environment.chain(file).collect()
    }

    fn layers(&self) -> impl Iterator<Item = (&BTreeMap<String, SecretString>, Origin)> {
        [(&self.environment, Origin::Environment), (&self.file, Origin::ProxyEnv)].into_iter()
    }
}

fn absent(dir: &Path) -> Problem {
    let place = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let place = place.display();
    let what = match dir.exists() {
        true => format!("is not in {place}"),
        false => format!("is not in {place}, for there is no such folder"),
    };
    let remedy = "name the data directory with --dir, or set MCP_PROXY_ADMIN_SECRET in the environment";
    Problem::new(FILE_NAME, what, remedy)
}

fn look_up<'a>(layer: &'a BTreeMap<String, SecretString>, origin: Origin, name: &str) -> Option<Found<'a>> {
    layer.get_key_value(name).map(|(name, value)| Found { name, value: value.expose_secret(), origin })
}

/// Whether a name of the environment concerns us. `name` is in capitals.
fn is_ours(name: &str) -> bool {
    name.starts_with("MCP_PROXY_") || is_known(name)
}

/// Whether the table has the name, as such, as an alias or as a `_FILE` variant.
pub(crate) fn is_known(name: &str) -> bool {
    VARIABLES.iter().any(|variable| {
        variable.names().any(|known| known == name) || variable.file_name().is_some_and(|known| known == name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variable::variable;

    fn source(environment: &[(&str, &str)], file: &str) -> Source {
        Source::new(environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())), file)
    }

    #[test]
    fn the_environment_beats_the_file_and_an_alias_beats_the_name() {
        let database = variable!("MCP_PROXY_DATABASE_URL");
        let found = |environment: &[(&str, &str)], file: &str| {
            let source = source(environment, file);
            source.find(database).map(|found| (found.name.to_owned(), found.value.to_owned(), found.origin))
        };
        let expect = |name: &str, value: &str, origin| Some((name.to_owned(), value.to_owned(), origin));
        let (name, alias) = ("MCP_PROXY_DATABASE_URL", "PROXY_DB_URL");
        let file = "MCP_PROXY_DATABASE_URL=file\nPROXY_DB_URL=file-alias\n";

        assert_eq!(found(&[], ""), None);
        assert_eq!(found(&[], file), expect(alias, "file-alias", Origin::ProxyEnv));
        assert_eq!(found(&[(name, "env")], file), expect(name, "env", Origin::Environment));
        assert_eq!(found(&[(name, "a"), (alias, "b")], file), expect(alias, "b", Origin::Environment));
        assert_eq!(found(&[("proxy_db_url", " c ")], ""), expect(alias, "c", Origin::Environment));
        assert_eq!(found(&[(name, " "), (alias, "")], file), expect(alias, "file-alias", Origin::ProxyEnv));
    }

    #[test]
    fn one_name_in_two_spellings_is_a_problem_only_when_it_is_ours() {
        let twice = source(&[("MCP_PROXY_PORT", "1"), ("mcp_proxy_port", "2")], "");
        assert_eq!(twice.problems().len(), 1);
        let same = source(&[("MCP_PROXY_PORT", "1"), ("mcp_proxy_port", "1")], "");
        assert_eq!(same.problems(), []);
        let foreign = source(&[("HTTP_PROXY", "a"), ("http_proxy", "b")], "");
        assert_eq!(foreign.problems(), []);
    }

    #[test]
    fn debug_shows_no_value() {
        let text = format!("{:?}", source(&[("MCP_PROXY_ADMIN_SECRET", "hunter2")], "LOG_FORMAT=hunter3"));
        assert!(text.contains("MCP_PROXY_ADMIN_SECRET") && !text.contains("hunter"), "{text}");
    }

    #[test]
    fn where_nothing_is_set_the_folder_without_a_file_is_named_and_no_secret_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        for (dir, told) in
            [(dir.path(), "; name"), (nowhere.as_path(), ", for there is no such folder; name")]
        {
            let refused = |environment: &[(&str, &str)]| {
                let source = Source { absent: Some(absent(dir)), ..source(environment, "") };
                crate::Settings::load(&source, dir).map_err(|problems| problems.to_string())
            };
            let said = refused(&[("MCP_PROXY_PORT", "x")]).unwrap_err();
            let first = format!("proxy.env: is not in {}{told} the data directory with --dir", dir.display());
            assert!(said.starts_with(&first) && !said.contains("openssl rand"), "{said}");
            assert!(refused(&[("MCP_PROXY_ADMIN_SECRET", "0123456789abcdef")]).is_ok());
        }
    }

    #[test]
    fn the_file_in_the_directory_is_read_and_its_mode_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::from_process(dir.path());
        assert!(source.problems().is_empty() && source.absent().is_some());
        let path = dir.path().join(FILE_NAME);
        fs::write(&path, "MCP_PROXY_ORG_ID=from-file\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let source = Source::from_process(dir.path());
        assert_eq!(source.find(variable!("MCP_PROXY_ORG_ID")).unwrap().value, "from-file");
        assert!(source.absent().is_none());
        assert!(source.warnings()[0].remedy.starts_with("chmod 600 "));

        fs::write(&path, b"MCP_PROXY_ORG_ID=\xff\n").unwrap();
        assert!(Source::from_process(dir.path()).problems()[0].what.starts_with("cannot be read"));
    }
}
