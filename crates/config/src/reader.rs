//! Reading variables one by one, noting every problem on the way.
//!
//! Each method answers `None` when there is nothing to return, because nothing is set or because a problem was noted;
//! in the second case the whole load fails, so nobody sees the gap.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    Environment, Problem, Problems, Source, VARIABLES,
    source::{Found, Origin, is_known},
    variable::{Kind, Stage, Variable, WhenSet, parse_boolean, variable},
};

pub(crate) struct Reader<'a> {
    source: &'a Source,
    dir: &'a Path,
    environment: Environment,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    unknown: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a Source, dir: &'a Path) -> Self {
        let (problems, warnings) = (source.problems().to_vec(), source.warnings().to_vec());
        let environment = Environment::Development;
        let mut reader = Self { source, dir, environment, problems, warnings, unknown: Vec::new() };
        let environment = reader.parse(variable!("MCP_PROXY_ENVIRONMENT"), Environment::from_word);
        reader.environment = environment.unwrap_or(Environment::Development);
        reader
    }

    pub(crate) fn environment(&self) -> Environment {
        self.environment
    }

    pub(crate) fn in_production(&self) -> bool {
        self.environment == Environment::Production
    }

    pub(crate) fn is_set(&self, variable: &Variable) -> bool {
        self.source.is_set(variable)
    }

    pub(crate) fn problem(&mut self, variable: &Variable, what: impl fmt::Display, remedy: &str) {
        self.problems.push(Problem::new(self.spelling(variable), what.to_string(), remedy));
    }

    pub(crate) fn warn(&mut self, variable: &Variable, what: impl fmt::Display, remedy: &str) {
        self.warnings.push(Problem::new(self.spelling(variable), what.to_string(), remedy));
    }

    /// Notes that what every deployment sets is not set. Where there is no `proxy.env` either, this is another folder than
    /// the operator thinks, and a value of its own would help nobody.
    pub(crate) fn missing(&mut self, variable: &Variable, remedy: &str) {
        match self.source.absent() {
            Some(absent) => self.problems.insert(0, absent.clone()),
            None => self.problem(variable, "is not set", remedy),
        }
    }

    /// Notes a problem in production when the variable is not set under any of its names.
    pub(crate) fn required_in_production(&mut self, variable: &Variable, remedy: &str) {
        if self.in_production() && !self.is_set(variable) {
            self.problem(variable, "is not set, and production needs it", remedy);
        }
    }

    /// Whether the variable is set to something that does not happen anyway.
    pub(crate) fn departs_from_default(&self, variable: &Variable) -> bool {
        self.source.find(variable).is_some_and(|found| !variable.means_default(found.value))
    }

    /// The name that the operator used, or would use.
    fn spelling(&self, variable: &Variable) -> String {
        self.source.find(variable).map_or(variable.name, |found| found.name).to_owned()
    }

    /// Reads the value or the default with `parse`, which answers `None` for what is not of the variable's kind.
    pub(crate) fn parse<T>(
        &mut self,
        variable: &'static Variable,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.source.find(variable).map_or(variable.default, |found| found.value);
        if text.is_empty() {
            return None;
        }
        let parsed = parse(text);
        if parsed.is_none() {
            let what =
                format!("is {}, but must be {}", quote(&variable.printable(text)), variable.kind.expected());
            self.problem(variable, what, "correct or remove it");
        }
        parsed
    }

    pub(crate) fn boolean(&mut self, variable: &'static Variable) -> Option<bool> {
        self.parse(variable, parse_boolean)
    }

    /// A whole number within the range of the variable's kind.
    pub(crate) fn integer<T: TryFrom<u64>>(&mut self, variable: &'static Variable) -> Option<T> {
        let Kind::Integer { min, max } = variable.kind else { return None };
        self.parse(variable, |text| {
            let number = text.parse().ok().filter(|number| (min..=max).contains(number))?;
            T::try_from(number).ok()
        })
    }

    /// A whole number of `unit` seconds.
    pub(crate) fn duration(&mut self, variable: &'static Variable, unit: u64) -> Option<Duration> {
        self.integer(variable).map(|count: u64| Duration::from_secs(count * unit))
    }

    /// A path; a relative one is relative to the data directory.
    pub(crate) fn path(&mut self, variable: &'static Variable) -> Option<PathBuf> {
        let dir = self.dir;
        self.parse(variable, |text| Some(dir.join(text)))
    }

    pub(crate) fn dir(&self) -> &'a Path {
        self.dir
    }

    /// A secret of at least `min` characters, from the variable or from the file that `<NAME>_FILE` names.
    pub(crate) fn secret(&mut self, variable: &'static Variable, min: usize) -> Option<SecretString> {
        let source = self.source;
        let secret: SecretString = match (source.find(variable), source.secret_file(variable)) {
            (None, None) => return None,
            (Some(_), Some(file)) => {
                self.problem(variable, format!("is set, and so is {}", file.name), "keep one of the two");
                return None;
            }
            (Some(found), None) => found.value.into(),
            (None, Some(file)) => self.secret_file(&file)?,
        };
        if secret.expose_secret().chars().count() < min {
            let what = format!("is shorter than {min} characters");
            self.problem(variable, what, "replace it by the output of `openssl rand -hex 32`");
            return None;
        }
        Some(secret)
    }

    fn secret_file(&mut self, file: &Found<'_>) -> Option<SecretString> {
        let path = self.dir.join(file.value);
        let problem = match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => return Some(text.trim().into()),
            Ok(_) => "is empty".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        };
        let what = format!("{} {problem}", quote(&path.to_string_lossy()));
        self.problems.push(Problem::new(file.name, what, "correct the path or the file"));
        None
    }

    /// Looks at every name that no setting reads: unknown, not built, or hidden by an alias.
    pub(crate) fn look_at_the_rest(&mut self) {
        for (name, origin) in self.source.names() {
            if !is_known(name) {
                self.unknown.extend(unknown(name, origin));
            }
        }
        for variable in VARIABLES {
            self.look_at_stage(variable);
            self.look_at_aliases(variable);
        }
    }

    fn look_at_stage(&mut self, variable: &Variable) {
        let source = self.source;
        let Some(found) = source.find(variable).or_else(|| source.secret_file(variable)) else { return };
        if variable.means_default(found.value) {
            return;
        }
        let (refuse, why) = match variable.stage {
            Stage::Built | Stage::Elsewhere { .. } => return,
            Stage::Moot { why } | Stage::Later { when_set: WhenSet::Warn, why } => (false, why),
            Stage::Later { when_set: WhenSet::Refuse { unless }, why } => {
                (!unless.iter().any(|harmless| found.value.eq_ignore_ascii_case(harmless)), why)
            }
        };
        if refuse {
            self.problems.push(Problem::new(found.name, why, "remove it, or stay with a Mastio that has it"));
        } else {
            self.warnings.push(Problem::new(
                found.name,
                format!("has no effect: {why}"),
                "it can be removed",
            ));
        }
    }

    fn look_at_aliases(&mut self, variable: &Variable) {
        if let Some((winner, hidden)) = self.hidden(variable) {
            let what = format!("is hidden by {}, which is set to something else", winner.name);
            self.warnings.push(Problem::new(hidden.name, what, "keep one of the two"));
        }
    }

    /// Whether the variable is set to two different things under two of its names.
    pub(crate) fn contradicts_itself(&self, variable: &Variable) -> bool {
        self.hidden(variable).is_some()
    }

    /// The value that counts and a different one under another name of the same variable.
    fn hidden(&self, variable: &Variable) -> Option<(Found<'a>, Found<'a>)> {
        let source = self.source;
        let winner = source.find(variable)?;
        let others = variable.names().filter_map(|name| source.get(name));
        others
            .filter(|other| other.name != winner.name && other.value != winner.value)
            .map(|hidden| (winner, hidden))
            .next()
    }

    /// What was noted: the warnings, or the problems when there is one. Unknown names belong to either: a setting that
    /// is missing may stand there misspelt.
    pub(crate) fn finish(self) -> Result<Vec<Problem>, Problems> {
        let Self { mut problems, mut warnings, unknown, .. } = self;
        if problems.is_empty() {
            warnings.extend(unknown);
            Ok(warnings)
        } else {
            problems.extend(unknown);
            Err(Problems(problems))
        }
    }
}

/// The value between quotes, on one line and not too long.
fn quote(value: &str) -> String {
    let shown: String = value.chars().take(80).collect();
    format!("{shown:?}{}", if shown.len() < value.len() { "…" } else { "" })
}

/// The warning about a name that the table does not have. `proxy.env` may hold names of other programs, so there a
/// name without our prefix is only mentioned when it resembles one of ours.
fn unknown(name: &str, origin: Origin) -> Option<Problem> {
    let likeness = if name.starts_with(PREFIX) { 0.6 } else { 0.8 };
    let remedy = match resembling(name, likeness) {
        Some(known) => format!("did you mean {known}?"),
        None if name.starts_with(PREFIX) => "remove it".to_owned(),
        None => return None,
    };
    Some(Problem::new(name, format!("is not a setting of this Mastio (from {origin})"), remedy))
}

const PREFIX: &str = "MCP_PROXY_";

/// The known name most like `name`, prefixes apart, unless none is at least `likeness` (0 to 1).
fn resembling(name: &str, likeness: f64) -> Option<&'static str> {
    let bare = |name: &'static str| name.strip_prefix(PREFIX).unwrap_or(name);
    let typed = name.strip_prefix(PREFIX).unwrap_or(name);
    let candidates = VARIABLES.iter().flat_map(Variable::names);
    let rated = candidates.map(|known| (strsim::normalized_damerau_levenshtein(typed, bare(known)), known));
    let (score, known) = rated.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (score >= likeness).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised() {
        for (typed, meant) in [
            ("MCP_PROXY_ADMIN_SECERT", Some("MCP_PROXY_ADMIN_SECRET")),
            ("MCP_PROXY_PUBLIC_URL", Some("MCP_PROXY_PROXY_PUBLIC_URL")),
            ("MCP_PROXY_DPOP_WINDOW", Some("MCP_PROXY_DPOP_IAT_WINDOW")),
            ("MCP_PROXY_LOG_FORMAT", Some("LOG_FORMAT")),
            ("MCP_PROXY_WORKERS", None),
            ("MCP_PROXY_XYZZY", None),
        ] {
            assert_eq!(resembling(typed, 0.6), meant, "{typed}");
        }
    }

    #[test]
    fn other_programs_names_are_left_alone_in_the_file() {
        assert_eq!(unknown("TZ", Origin::ProxyEnv), None);
        assert_eq!(unknown("PATH", Origin::ProxyEnv), None);
        let slip = unknown("ADMIN_SECRET", Origin::ProxyEnv).unwrap();
        assert_eq!(slip.remedy, "did you mean MCP_PROXY_ADMIN_SECRET?");
        let foreign = unknown("MCP_PROXY_XYZZY", Origin::Environment).unwrap();
        assert_eq!(
            foreign.to_string(),
            "MCP_PROXY_XYZZY: is not a setting of this Mastio (from environment); remove it"
        );
    }

    #[test]
    fn quoted_values_stay_on_one_short_line() {
        assert_eq!(quote("a\nb"), r#""a\nb""#);
        assert_eq!(quote(&"x".repeat(200)).chars().count(), 83);
    }
}
