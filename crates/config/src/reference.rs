//! The operator's page about configuration, written from the table.

use std::fmt::Write;

use crate::{
    VARIABLES,
    variable::{Kind, SECTIONS, Stage, Variable, WhenSet},
};

const HEAD: &str = "\
# Configuration

<!-- Written from the table in crates/config; `UPDATE=1 cargo test -p mastio-config` writes it again. -->

A Mastio reads its settings once, at start, from the environment of its process and from `proxy.env` in its data
directory (`--dir`). `mastio config check` reads them without starting anything; `mastio config show` prints what is
in effect, secrets masked.

- The environment beats `proxy.env`. An empty value is as good as none. Names are matched in any case.
- `proxy.env` has one `NAME=value` per line, split at the first `=`. A comment is a line of its own that begins with
  `#`. Quotes and `export` are not interpreted but refused, and so is a name that stands there twice.
- Truth values are `1/0`, `true/false`, `yes/no`, `on/off`, `t/f` and `y/n`, in any case.
- For every secret, `<NAME>_FILE` may name a file that holds it; never set both.
- Relative paths are relative to the data directory.
- A name in brackets is another name of the same setting; in the same place it wins.
- Every problem is reported at once, one line each, and the exit code is 1. An unknown `MCP_PROXY_*` name is a warning.
";

/// The page `docs/reference/configuration.md`.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = HEAD.to_owned();
    for (title, variables) in SECTIONS {
        heading(&mut page, title, ["Name", "Default", "Value", "What it does"]);
        for variable in *variables {
            let default = if variable.default.is_empty() { String::new() } else { code(variable.default) };
            row(&mut page, &[names(variable), default, value(variable.kind), variable.help.to_owned()]);
        }
    }
    heading(
        &mut page,
        "Not built yet, and refused because ignoring it would be unsafe",
        ["Name", "Except", "Why"],
    );
    for variable in VARIABLES {
        if let Stage::Later { when_set: WhenSet::Refuse { unless }, why } = variable.stage {
            row(&mut page, &[names(variable), harmless(variable, unless), why.to_owned()]);
        }
    }
    let later = by_reason(|stage| match stage {
        Stage::Later { when_set: WhenSet::Warn, why } => Some(why),
        _ => None,
    });
    reasons(&mut page, "Not built yet, and ignored with a warning", later);
    let moot = by_reason(|stage| if let Stage::Moot { why } = stage { Some(why) } else { None });
    reasons(&mut page, "Not needed, and ignored with a warning", moot);
    let elsewhere = by_reason(|stage| if let Stage::Elsewhere { why } = stage { Some(why) } else { None });
    reasons(&mut page, "Read by others", elsewhere);
    page
}

fn heading<const N: usize>(page: &mut String, title: &str, columns: [&str; N]) {
    // Writing to a string cannot fail.
    let _ = writeln!(page, "\n## {title}\n\n| {} |\n|{}", columns.join(" | "), "---|".repeat(N));
}

fn row(page: &mut String, cells: &[String]) {
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn names(variable: &Variable) -> String {
    let aliases: String = variable.aliases.iter().map(|alias| format!(" (or `{alias}`)")).collect();
    format!("{}{aliases}", code(variable.name))
}

fn value(kind: Kind) -> String {
    match kind {
        Kind::Choice(words) => words.iter().map(|word| code(word)).collect::<Vec<_>>().join(", "),
        _ => kind.expected(),
    }
}

fn harmless(variable: &Variable, unless: &[&str]) -> String {
    let words = [variable.default].into_iter().chain(unless.iter().copied());
    words.filter(|word| !word.is_empty()).map(code).collect::<Vec<_>>().join(", ")
}

/// The variables for whose stage `why` has an answer, together with those of the same answer, in the table's order.
fn by_reason(why: impl Fn(Stage) -> Option<&'static str>) -> Vec<(&'static str, Vec<String>)> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for variable in VARIABLES {
        let Some(reason) = why(variable.stage) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, members)) => members.push(names(variable)),
            None => groups.push((reason, vec![names(variable)])),
        }
    }
    groups
}

fn reasons(page: &mut String, title: &str, groups: Vec<(&'static str, Vec<String>)>) {
    heading(page, title, ["Why", "Names"]);
    for (why, members) in groups {
        row(page, &[why.to_owned(), members.join(", ")]);
    }
}
