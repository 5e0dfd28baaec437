//! A question as data, and rows that are read with their name on every error.

use std::borrow::Cow;

use mastio_core::Stamp;

use crate::{Value, writer::Unavailable};

/// A SELECT with its values.
#[derive(Debug, Clone)]
pub struct Query {
    /// The table that errors are reported against.
    pub table: &'static str,
    /// SQL with numbered parameters. The first column names the row in errors.
    pub sql: Cow<'static, str>,
    /// The values, in order.
    pub values: Vec<Value>,
}

impl Query {
    /// A query of `table`.
    #[must_use]
    pub fn new(table: &'static str, sql: &'static str, values: Vec<Value>) -> Self {
        Self { table, sql: sql.into(), values }
    }

    /// Any one row of `table`, to learn whether there is one.
    #[must_use]
    pub fn first_of(table: &'static str) -> Self {
        Self { table, sql: format!("SELECT 1 AS one FROM {table} LIMIT 1").into(), values: vec![] }
    }
}

/// Why a question got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The database cannot read now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A stored row is not what its table promises.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// A stored row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}, row {row}: column {column}: {problem}")]
pub struct RowError {
    /// The table.
    pub table: &'static str,
    /// The first column of the row.
    pub row: String,
    /// The column.
    pub column: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// One row of an answer.
#[derive(Debug, Clone)]
pub struct Row {
    table: &'static str,
    columns: std::sync::Arc<[String]>,
    values: Vec<Value>,
}

impl Row {
    pub(crate) fn new(table: &'static str, columns: std::sync::Arc<[String]>, values: Vec<Value>) -> Self {
        Self { table, columns, values }
    }

    fn value(&self, column: &'static str) -> Result<&Value, RowError> {
        self.columns
            .iter()
            .position(|name| name == column)
            .map(|index| &self.values[index])
            .ok_or_else(|| self.bad(column, "is not in the answer"))
    }

    /// An error about `column` of this row.
    #[must_use]
    pub fn bad(&self, column: &'static str, problem: impl ToString) -> RowError {
        let row = match self.values.first() {
            Some(Value::Text(text)) => text.clone(),
            Some(Value::Int(number)) => number.to_string(),
            _ => "?".to_owned(),
        };
        RowError { table: self.table, row, column, problem: problem.to_string() }
    }

    /// Text that must be there.
    ///
    /// # Errors
    /// When it is NULL or of another type.
    pub fn text(&self, column: &'static str) -> Result<&str, RowError> {
        self.text_or_null(column)?.ok_or_else(|| self.bad(column, "is NULL"))
    }

    /// Text or NULL.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn text_or_null(&self, column: &'static str) -> Result<Option<&str>, RowError> {
        match self.value(column)? {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            _ => Err(self.bad(column, "is not text")),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn blob(&self, column: &'static str) -> Result<&[u8], RowError> {
        match self.value(column)? {
            Value::Blob(bytes) => Ok(bytes),
            _ => Err(self.bad(column, "is not a blob")),
        }
    }

    /// An integer.
    ///
    /// # Errors
    /// When it is NULL or of another type.
    pub fn int(&self, column: &'static str) -> Result<i64, RowError> {
        match self.value(column)? {
            Value::Int(number) => Ok(*number),
            _ => Err(self.bad(column, "is not an integer")),
        }
    }

    /// An integer or NULL.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn int_or_null(&self, column: &'static str) -> Result<Option<i64>, RowError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            _ => self.int(column).map(Some),
        }
    }

    /// A number with a fraction, or NULL.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn real_or_null(&self, column: &'static str) -> Result<Option<f64>, RowError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Real(number) => Ok(Some(*number)),
            _ => Err(self.bad(column, "is not a number with a fraction")),
        }
    }

    /// A point in time, in any of the forms that existing tables hold.
    ///
    /// # Errors
    /// When it is not one.
    pub fn stamp(&self, column: &'static str) -> Result<Stamp, RowError> {
        Stamp::parse(self.text(column)?).map_err(|error| self.bad(column, error))
    }

    /// A point in time or NULL.
    ///
    /// # Errors
    /// When it is neither.
    pub fn stamp_or_null(&self, column: &'static str) -> Result<Option<Stamp>, RowError> {
        let text = self.text_or_null(column)?.filter(|text| !text.is_empty());
        text.map(|text| Stamp::parse(text).map_err(|error| self.bad(column, error))).transpose()
    }

    /// Text read by `parse`.
    ///
    /// # Errors
    /// When it is NULL or does not parse.
    pub fn parse<T, E: ToString>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, RowError> {
        parse(self.text(column)?).map_err(|error| self.bad(column, error))
    }

    /// Text read by `parse`, or NULL.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn parse_or_null<T, E: ToString>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, RowError> {
        let text = self.text_or_null(column)?.filter(|text| !text.is_empty());
        text.map(|text| parse(text).map_err(|error| self.bad(column, error))).transpose()
    }
}
