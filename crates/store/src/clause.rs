//! Conditions of a query, put together.

use crate::Value;

/// Conditions that are joined by AND, with their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clause {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Clause {
    /// Every `?` of the condition is `value`.
    pub(crate) fn and(&mut self, condition: &str, value: impl Into<Value>) {
        let place = self.bind(value);
        self.and_always(&condition.replace('?', &place));
    }

    /// A condition without a value of its own.
    pub(crate) fn and_always(&mut self, condition: &str) {
        self.sql.push_str(if self.sql.is_empty() { " WHERE " } else { " AND " });
        self.sql.push_str(condition);
    }

    /// The place of a value in the SQL text.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.values.len())
    }
}
