//! Where the state is kept (contract `operations.md` §10).

use std::path::PathBuf;

use crate::{reader::Reader, variable::variable};

/// The database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
}

pub(super) fn database(read: &mut Reader<'_>) -> Option<Database> {
    let variable = variable!("MCP_PROXY_DATABASE_URL");
    match read.parse(variable, Address::parse)? {
        Address::Sqlite(path) => Some(Database::Sqlite(read.dir().join(path))),
        Address::Memory => {
            let what = "names a database in memory, which would forget every identity at the next stop";
            read.problem(variable, what, "name a file");
            None
        }
        Address::Postgres => {
            let what = "names PostgreSQL, which is not built yet; SQLite instead would be another database";
            read.problem(
                variable,
                what,
                "remove it to use SQLite, or stay with a Mastio that has PostgreSQL",
            );
            None
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Address {
    Sqlite(String),
    Memory,
    Postgres,
}

impl Address {
    /// `None` for another scheme, a host, parameters or no path. Nothing is percent-decoded, as in the existing
    /// deployments.
    fn parse(text: &str) -> Option<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            // A colon in a plain path is a slip in an address, such as sqlite:x.db.
            return if text == ":memory:" { Some(Self::Memory) } else { Self::file(text) };
        };
        let (engine, _driver) = scheme.split_once('+').unwrap_or((scheme, ""));
        match engine.to_ascii_lowercase().as_str() {
            "postgres" | "postgresql" => Some(Self::Postgres),
            "sqlite" if matches!(rest, "" | "/" | "/:memory:") => Some(Self::Memory),
            "sqlite" => Self::file(rest.strip_prefix('/')?),
            _ => None,
        }
    }

    fn file(path: &str) -> Option<Self> {
        (!path.contains([':', '?']) && !path.ends_with('/')).then(|| Self::Sqlite(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read() {
        let sqlite = |path: &str| Some(Address::Sqlite(path.to_owned()));
        for (text, address) in [
            ("sqlite+aiosqlite:///./mcp_proxy.db", sqlite("./mcp_proxy.db")),
            ("sqlite+aiosqlite:////data/mcp_proxy.db", sqlite("/data/mcp_proxy.db")),
            ("sqlite:///rel/a b%20.db", sqlite("rel/a b%20.db")),
            ("SQLite:////abs.db", sqlite("/abs.db")),
            ("plain.db", sqlite("plain.db")),
            ("/data/mcp_proxy.db", sqlite("/data/mcp_proxy.db")),
            ("postgres://u:p@db/x", Some(Address::Postgres)),
            ("postgresql://u:p@db/x", Some(Address::Postgres)),
            ("postgresql+asyncpg://u:p@db/x", Some(Address::Postgres)),
            ("sqlite://", Some(Address::Memory)),
            ("sqlite:///", Some(Address::Memory)),
            ("sqlite+aiosqlite:///:memory:", Some(Address::Memory)),
            (":memory:", Some(Address::Memory)),
            ("sqlite://host/x.db", None),
            ("sqlite:///x.db?mode=ro", None),
            ("sqlite:x.db", None),
            ("data/", None),
            ("mysql://db/x", None),
        ] {
            assert_eq!(Address::parse(text), address, "{text}");
        }
    }
}
