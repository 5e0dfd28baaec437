//! Searching the audit log.
//!
//! What the index has (see [`super::index`]) is found through it; the entries after its last chunk are read from
//! `local_audit` itself, so an entry is found as soon as it is committed. Archived entries that were brought back are
//! found too. The order is that of ids, which is the order of commits.

use std::ops::ControlFlow;

use mastio_audit::LocalRow;
use mastio_core::AgentId;
use rusqlite::params_from_iter;

use super::{
    Entry, EventName, Filter, LOCAL_COLUMNS, View,
    filter::{Words, bound},
    index,
};
use crate::{ReadError, Store, clause::Clause, sqlite::fault, writer::Unavailable};

/// In which order entries are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As one reads a log at its end.
    NewestFirst,
    /// As it happened.
    OldestFirst,
}

impl Order {
    fn sql(self) -> &'static str {
        match self {
            Self::NewestFirst => "DESC",
            Self::OldestFirst => "ASC",
        }
    }

    /// What the id of an entry is to that of the one before it on the page.
    fn follows(self) -> &'static str {
        match self {
            Self::NewestFirst => "<",
            Self::OldestFirst => ">",
        }
    }
}

/// Some of the entries, in the order that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// The id after which the next page begins, if there is one.
    pub next: Option<i64>,
}

/// At most `limit` of the entries that `filter` lets through, newest first, after the one with the id `after`.
///
/// # Errors
/// When the database cannot be read.
pub async fn search(
    store: &Store,
    filter: Filter,
    after: Option<i64>,
    limit: u32,
) -> Result<Page, ReadError> {
    let database = std::sync::Arc::clone(store.database());
    let read = move || database.audit(|view| view.search(&filter, Order::NewestFirst, after, limit));
    let answered = tokio::task::spawn_blocking(read).await;
    Ok(answered.unwrap_or_else(|join| Err(Unavailable::Broken(join.to_string())))?)
}

/// The newest entries about `agent`, newest first, at most `limit`.
///
/// # Errors
/// When the database cannot be read.
pub async fn about(store: &Store, agent: &AgentId, limit: u32) -> Result<Vec<Entry>, ReadError> {
    let filter = Filter { agent: Some(agent.to_string()), ..Filter::default() };
    Ok(search(store, filter, None, limit).await?.entries)
}

/// Where entries are read, and by whose ids they are ordered.
struct Place {
    tables: &'static str,
    id: &'static str,
}

const TAIL: Place = Place { tables: "local_audit a", id: "a.id" };
const INDEX: Place = Place { tables: "audit_search s CROSS JOIN local_audit a ON a.id = s.id", id: "s.id" };
const TEXT: Place =
    Place { tables: "audit_text t CROSS JOIN local_audit a ON a.id = t.rowid", id: "t.rowid" };

/// Archived entries that were brought back. All are older than what the log still has.
const RESTORED: Place = Place { tables: "restored_audit a", id: "a.id" };

/// How the index finds what is asked for: by whatever leaves least to look at.
enum Way<'f> {
    Text(&'f Words),
    Session(&'f str),
    /// By agent, by event, or by both.
    Names,
    Refused(&'f str),
    All,
}

impl<'f> Way<'f> {
    fn choose(filter: &'f Filter) -> Self {
        let refused = filter.result.as_deref().filter(|result| *result != "ok");
        match (&filter.text, &filter.session, refused) {
            (Some(words), ..) => Self::Text(words),
            (_, Some(session), _) => Self::Session(session),
            _ if filter.agent.is_some() || filter.event.is_some() => Self::Names,
            (.., Some(result)) => Self::Refused(result),
            _ => Self::All,
        }
    }
}

/// A search under way.
struct Asked<'f> {
    filter: &'f Filter,
    order: Order,
    after: Option<i64>,
    /// The last id that the index has.
    through: i64,
    /// Whether archived entries that were brought back count.
    restored: bool,
    /// How many entries are still wanted.
    room: usize,
    found: Vec<Entry>,
}

/// A statement with its values.
struct Select {
    sql: String,
    clause: Clause,
}

impl Asked<'_> {
    /// The entries that the index does not have yet.
    fn tail(&self) -> Select {
        let mut clause = Clause::default();
        clause.and("a.id > ?", self.through);
        self.filter.conditions(&mut clause);
        self.select(&TAIL, clause)
    }

    fn restored(&self) -> Option<Select> {
        let mut clause = Clause::default();
        self.filter.conditions(&mut clause);
        self.restored.then(|| self.select(&RESTORED, clause))
    }

    fn select(&self, place: &Place, mut clause: Clause) -> Select {
        self.go_on(&mut clause, place.id);
        let (Place { tables, id }, order) = (place, self.order.sql());
        let sql = format!("{LOCAL_COLUMNS} FROM {tables}{} ORDER BY {id} {order}", clause.sql);
        Select { sql, clause }
    }

    /// The entries of each name in the order asked for, merged. Only code writes names, so they are far fewer than
    /// SQLite merges at once.
    fn merged(&self, names: &[String], mut clause: Clause) -> Option<Select> {
        self.go_on(&mut clause, INDEX.id);
        if let Some(agent) = &self.filter.agent {
            clause.and("s.agent_id = ?", agent.as_str());
        }
        let (order, room, scope) = (self.order.sql(), self.room, clause.sql.clone());
        let part = |name: &String| {
            let (Place { tables, id }, name) = (INDEX, clause.bind(name.as_str()));
            format!(
                "SELECT * FROM ({LOCAL_COLUMNS} FROM {tables}{scope} AND s.event_type = {name} \
                 ORDER BY {id} {order} LIMIT {room})"
            )
        };
        let parts: Vec<String> = names.iter().map(part).collect();
        let sql = format!("{} ORDER BY id {order} LIMIT {room}", parts.join(" UNION ALL "));
        (!names.is_empty()).then_some(Select { sql, clause })
    }

    /// Goes on where the page before ended.
    fn go_on(&self, clause: &mut Clause, id: &str) {
        if let Some(after) = self.after {
            clause.and(&format!("{id} {} ?", self.order.follows()), after);
        }
    }

    fn take(&mut self, row: &LocalRow<'_>) -> ControlFlow<()> {
        if self.filter.text_is_in(row) {
            self.found.push(Entry::of(row));
            self.room -= 1;
        }
        if self.room == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl View<'_> {
    /// At most `limit` of the entries that `filter` lets through, after the one with the id `after`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn search(
        &self,
        filter: &Filter,
        order: Order,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Page, Unavailable> {
        self.find(filter, order, after, limit, true)
    }

    /// The first entry in this order that `filter` lets through and that is in the log itself.
    pub(super) fn first_in_log(&self, filter: &Filter, order: Order) -> Result<Option<Entry>, Unavailable> {
        Ok(self.find(filter, order, None, 1, false)?.entries.pop())
    }

    fn find(
        &self,
        filter: &Filter,
        order: Order,
        after: Option<i64>,
        limit: u32,
        restored: bool,
    ) -> Result<Page, Unavailable> {
        let through = index::through(&self.transaction).map_err(|error| fault(&error))?;
        // One more than asked for tells whether there is a next page.
        let room = limit as usize + 1;
        let mut asked = Asked { filter, order, after, through, restored, room, found: Vec::new() };
        match order {
            Order::NewestFirst => {
                self.collect(Some(asked.tail()), &mut asked)?;
                self.collect(self.indexed(&asked)?, &mut asked)?;
                self.collect(asked.restored(), &mut asked)?;
            }
            Order::OldestFirst => {
                self.collect(asked.restored(), &mut asked)?;
                self.collect(self.indexed(&asked)?, &mut asked)?;
                self.collect(Some(asked.tail()), &mut asked)?;
            }
        }
        let mut entries = asked.found;
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        Ok(Page { next: entries.last().map(|entry| entry.id).filter(|_| more), entries })
    }

    /// The entries that the index has.
    fn indexed(&self, asked: &Asked<'_>) -> Result<Option<Select>, Unavailable> {
        let Some((first, last)) = self.ids(asked.filter)? else { return Ok(None) };
        let way = Way::choose(asked.filter);
        let place = if matches!(way, Way::Text(_)) { TEXT } else { INDEX };
        let mut clause = Clause::default();
        clause.and(&format!("{} >= ?", place.id), first);
        clause.and(&format!("{} <= ?", place.id), last);
        asked.filter.conditions(&mut clause);
        match way {
            Way::Text(words) => clause.and("t.audit_text MATCH ?", words.to_fts5()),
            Way::Names => return Ok(asked.merged(&self.names(asked.filter)?, clause)),
            Way::Session(session) => clause.and("s.session_id = ?", session),
            Way::Refused(result) => {
                clause.and("s.result = ?", result);
                clause.and_always("s.result <> 'ok'");
            }
            Way::All => {}
        }
        Ok(Some(asked.select(&place, clause)))
    }

    /// Between which ids the index has entries of the times asked for.
    fn ids(&self, filter: &Filter) -> Result<Option<(i64, i64)>, Unavailable> {
        let mut clause = Clause::default();
        if let Some(from) = filter.from {
            clause.and("latest >= ?", bound(from));
        }
        if let Some(until) = filter.until {
            clause.and("earliest < ?", bound(until));
        }
        let sql = format!("SELECT min(first_id), max(last_id) FROM audit_chunks{}", clause.sql);
        let read = |row: &rusqlite::Row<'_>| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get(1)?));
        let ids = self.transaction.query_row(&sql, params_from_iter(clause.values.iter()), read);
        ids.map_err(|error| fault(&error))
    }

    /// The names of events that the index has of those asked for, of the agent asked for. It steps from one to the
    /// next: there are few names, and many entries of each.
    fn names(&self, filter: &Filter) -> Result<Vec<String>, Unavailable> {
        let any = EventName::Within(String::new());
        let event = filter.event.as_ref().unwrap_or(&any);
        if let EventName::Is(name) = event {
            return Ok(vec![name.clone()]);
        }
        let (first, end) = event.range();
        let mut clause = Clause::default();
        if let Some(agent) = &filter.agent {
            clause.and("agent_id = ?", agent.as_str());
        }
        clause.and("event_type < ?", end);
        let from = clause.bind(first);
        let scope = &clause.sql;
        let sql = format!(
            "WITH RECURSIVE names(name) AS (SELECT min(event_type) FROM audit_search{scope} AND event_type >= {from} \
             UNION ALL SELECT (SELECT min(event_type) FROM audit_search{scope} AND event_type > names.name) \
             FROM names WHERE names.name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL"
        );
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.transaction.prepare_cached(&sql)?;
            statement.query_map(params_from_iter(clause.values.iter()), |row| row.get(0))?.collect()
        };
        read().map_err(|error| fault(&error))
    }

    fn collect(&self, select: Option<Select>, asked: &mut Asked<'_>) -> Result<(), Unavailable> {
        match select {
            Some(select) if asked.room > 0 => {
                self.each(&select.sql, &select.clause, &mut |row| asked.take(row))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
