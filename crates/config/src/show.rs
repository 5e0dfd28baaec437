//! The configuration in effect, for people.

use std::fmt::Write;

use crate::{
    Source, VARIABLES,
    source::{Found, Origin},
    variable::{Stage, Variable},
};

/// One line `NAME=value  (from …)` for each variable that this release uses, and for each other one that is set.
/// Secrets are masked, and so are passwords inside addresses. Values are as they were written: `Settings::load` says
/// whether they are good.
#[must_use]
pub fn show(source: &Source) -> String {
    let mut lines = String::new();
    for variable in VARIABLES {
        let found = in_effect(source, variable);
        if variable.stage != Stage::Built && found.is_none() {
            continue;
        }
        let (value, from) = match found {
            Some((found, value)) if found.name == variable.name => (value, format!("from {}", found.origin)),
            Some((found, value)) => (value, format!("from {}, {}", found.origin, found.name)),
            None if variable.default.is_empty() => (String::new(), "not set".to_owned()),
            None => (variable.default.to_owned(), format!("from {}", Origin::Default)),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{}={value}  ({from})", variable.name);
    }
    lines
}

/// What sets the variable, and its value as it may be printed.
fn in_effect<'a>(source: &'a Source, variable: &Variable) -> Option<(Found<'a>, String)> {
    let found = source.find(variable).or_else(|| source.secret_file(variable))?;
    Some((found, variable.printable(found.value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_where_its_value_comes_from_and_no_secret() {
        let environment = [
            ("PROXY_DB_URL", "postgres://u:hunter2@db/x"),
            ("MCP_PROXY_DB_ENCRYPTION_KEY_FILE", "/run/secrets/key"),
            ("MCP_PROXY_VAULT_TOKEN", "hunter3"),
        ];
        let file = "MCP_PROXY_ADMIN_SECRET=hunter4\nMCP_PROXY_PORT=9444\n";
        let text = show(&Source::new(environment.map(|(n, v)| (n.to_owned(), v.to_owned())), file));
        for line in [
            "MCP_PROXY_DATABASE_URL=postgres://u:********@db/x  (from environment, PROXY_DB_URL)",
            "MCP_PROXY_DB_ENCRYPTION_KEY=********  (from environment, MCP_PROXY_DB_ENCRYPTION_KEY_FILE)",
            "MCP_PROXY_VAULT_TOKEN=********  (from environment)",
            "MCP_PROXY_ADMIN_SECRET=********  (from proxy.env)",
            "MCP_PROXY_PORT=9444  (from proxy.env)",
            "MCP_PROXY_HOST=0.0.0.0  (from default)",
            "MCP_PROXY_ORG_ID=  (not set)",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("hunter") && !text.contains("MCP_PROXY_REDIS_URL"));
    }
}
