//! The audit log at one moment.

use std::ops::ControlFlow;

use mastio_audit::{LocalRow, lines::Anchor};
use rusqlite::{Connection, Transaction, params_from_iter};

use super::{
    Entry, Filter, LOCAL_COLUMNS, Order,
    archive::{Mark, told_marks},
    local_row, organisations,
};
use crate::{
    clause::Clause,
    sqlite::{fault, has_table},
    writer::Unavailable,
};

/// The audit log at one moment: one read transaction. See [`Database::audit`](crate::sqlite::Database::audit).
#[derive(Debug)]
pub struct View<'c> {
    pub(super) transaction: Transaction<'c>,
}

/// A part of one chain, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The organisation whose chain it is.
    pub org: String,
    /// The place of its first entry.
    pub first: i64,
    /// The place of its last entry.
    pub last: i64,
}

impl<'c> View<'c> {
    pub(crate) fn of(connection: &'c Connection) -> Result<Self, Unavailable> {
        let transaction = connection.unchecked_transaction().map_err(|error| fault(&error))?;
        Ok(Self { transaction })
    }

    /// The organisations that have a chain.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn chains(&self) -> Result<Vec<String>, Unavailable> {
        organisations(&self.transaction).map_err(|error| fault(&error))
    }

    /// The shortest part of the chain of `org` in which everything lies that `filter` lets through; `None` if there
    /// is nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn range(&self, org: &str, filter: &Filter) -> Result<Option<Range>, Unavailable> {
        let whole = Filter::of_chain(org);
        let filter = Filter { org: whole.org.clone(), ..filter.clone() };
        let (oldest, newest) = (self.oldest(org)?, self.newest(org)?);
        let (first, last) = if filter == whole || oldest.is_none() {
            (oldest, newest)
        } else {
            let end = |order| self.first_in_log(&filter, order);
            (end(Order::OldestFirst)?, end(Order::NewestFirst)?)
        };
        let seq = |entry: Option<Entry>| entry.and_then(|entry| entry.chain_seq);
        let (first, last) = (seq(first), seq(last));
        Ok(first.zip(last).map(|(first, last)| Range {
            org: org.to_owned(),
            first: first.min(last),
            last: last.max(first),
        }))
    }

    /// How many entries of `range` `filter` lets through; counting ends at `enough`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn count(&self, range: &Range, filter: &Filter, enough: u64) -> Result<u64, Unavailable> {
        let mut count = 0;
        self.walk(range, filter, &mut |_| {
            count += 1;
            if count < enough { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(count)
    }

    /// Hands the entries of `range` that `filter` lets through to `each`, in the order of the chain, until it breaks
    /// off. Memory is constant.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn walk(
        &self,
        range: &Range,
        filter: &Filter,
        each: &mut dyn FnMut(&LocalRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), Unavailable> {
        let mut clause = within(range, "a");
        filter.conditions(&mut clause);
        let sql = format!("{LOCAL_COLUMNS} FROM local_audit a{} ORDER BY a.chain_seq", clause.sql);
        self.each(&sql, &clause, &mut |row| {
            if filter.text_is_in(row) { each(row) } else { ControlFlow::Continue(()) }
        })
    }

    /// Hands the time stamps on entries of `range` that `filter` lets through to `each`, in the order of the chain.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn anchors(
        &self,
        range: &Range,
        filter: &Filter,
        each: &mut dyn FnMut(&Anchor<'_>) -> ControlFlow<()>,
    ) -> Result<(), Unavailable> {
        let mut clause = within(range, "t");
        filter.conditions(&mut clause);
        let sql = format!(
            "SELECT t.org_id, t.chain_seq, t.row_hash, t.tsa_token, t.tsa_url, t.created_at, a.details \
             FROM audit_tsa_anchors t CROSS JOIN local_audit a ON a.org_id = t.org_id AND a.chain_seq = t.chain_seq{} \
             ORDER BY t.chain_seq",
            clause.sql
        );
        let mut read = || {
            let mut statement = self.transaction.prepare_cached(&sql)?;
            let mut rows = statement.query(params_from_iter(clause.values.iter()))?;
            while let Some(row) = rows.next()? {
                let text = |index| super::text(row, index).map(Option::unwrap_or_default);
                let anchor = Anchor {
                    org_id: text(0)?,
                    chain_seq: row.get(1)?,
                    row_hash: text(2)?,
                    tsa_token: row.get_ref(3)?.as_bytes()?,
                    tsa_url: text(4)?,
                    created_at: text(5)?,
                };
                let told =
                    filter.text.as_ref().is_none_or(|words| words.are_in(super::text(row, 6).ok().flatten()));
                if told && each(&anchor).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|error| fault(&error))
    }

    /// The entry in this place of the chain of `org`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn entry(&self, org: &str, seq: i64) -> Result<Option<Entry>, Unavailable> {
        let mut found = None;
        let range = Range { org: org.to_owned(), first: seq, last: seq };
        self.walk(&range, &Filter::default(), &mut |row| {
            found = Some(Entry::of(row));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// The newest entry of the chain of `org`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn newest(&self, org: &str) -> Result<Option<Entry>, Unavailable> {
        self.at_end(org, "DESC")
    }

    /// The oldest entry of the chain of `org` that was not archived.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn oldest(&self, org: &str) -> Result<Option<Entry>, Unavailable> {
        self.at_end(org, "ASC")
    }

    fn at_end(&self, org: &str, direction: &str) -> Result<Option<Entry>, Unavailable> {
        let mut clause = Clause::default();
        clause.and("a.org_id = ?", org);
        clause.and_always("a.chain_seq IS NOT NULL");
        let sql = format!(
            "{LOCAL_COLUMNS} FROM local_audit a{} ORDER BY a.chain_seq {direction} LIMIT 1",
            clause.sql
        );
        self.first(&sql, &clause)
    }

    /// The newest archive of the chain of `org`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn archived(&self, org: &str) -> Result<Option<Mark>, Unavailable> {
        Ok(self.marks(org)?.pop())
    }

    /// The archive that the entry in this place of the chain of `org` went to.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn archive_of(&self, org: &str, seq: i64) -> Result<Option<Mark>, Unavailable> {
        Ok(self.marks(org)?.into_iter().find(|mark| (mark.span.first..=mark.span.last).contains(&seq)))
    }

    fn marks(&self, org: &str) -> Result<Vec<Mark>, Unavailable> {
        told_marks(&self.transaction, org).map_err(|error| fault(&error))
    }

    /// The entry in this place of the chain of `org`, if it was archived and brought back.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn restored(&self, org: &str, seq: i64) -> Result<Option<Entry>, Unavailable> {
        let mut clause = Clause::default();
        clause.and("a.org_id = ?", org);
        clause.and("a.chain_seq = ?", seq);
        let sql = format!("{LOCAL_COLUMNS} FROM restored_audit a{}", clause.sql);
        self.first(&sql, &clause)
    }

    /// What the table of an adopted database says about `agent`, newest first, at most `limit` of the rows before the
    /// id `before`. Its words are put as ours: `status` becomes `result`, and `success` is `ok`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn admin_entries(
        &self,
        agent: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Entry>, Unavailable> {
        let exists = has_table(&self.transaction, super::ADMIN_CHAIN).map_err(|error| fault(&error))?;
        if !exists {
            return Ok(Vec::new());
        }
        let mut clause = Clause::default();
        clause.and("agent_id = ?", agent);
        clause.and("id < ?", before.unwrap_or(i64::MAX));
        let sql = format!(
            "SELECT id, timestamp, action, agent_id, request_id, NULL, \
             CASE status WHEN 'success' THEN 'ok' ELSE status END, detail, prev_hash, row_hash, chain_seq, NULL, \
             hash_format FROM audit_log{} ORDER BY id DESC LIMIT {limit}",
            clause.sql
        );
        let mut found = Vec::new();
        self.each(&sql, &clause, &mut |row| {
            found.push(Entry::of(row));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn first(&self, sql: &str, clause: &Clause) -> Result<Option<Entry>, Unavailable> {
        let mut found = None;
        self.each(sql, clause, &mut |row| {
            found = Some(Entry::of(row));
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Hands the rows of `sql`, which selects [`LOCAL_COLUMNS`], to `each` until it breaks off.
    pub(super) fn each(
        &self,
        sql: &str,
        clause: &Clause,
        each: &mut dyn FnMut(&LocalRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), Unavailable> {
        let mut read = || {
            let mut statement = self.transaction.prepare_cached(sql)?;
            let mut rows = statement.query(params_from_iter(clause.values.iter()))?;
            while let Some(row) = rows.next()? {
                if each(&local_row(row)?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|error| fault(&error))
    }
}

fn within(range: &Range, table: &str) -> Clause {
    let mut clause = Clause::default();
    clause.and(&format!("{table}.org_id = ?"), range.org.as_str());
    clause.and(&format!("{table}.chain_seq >= ?"), range.first);
    clause.and(&format!("{table}.chain_seq <= ?"), range.last);
    clause
}
