//! The number of the newest revocation list of each issuer: table `crl_numbers`.

use mastio_core::Stamp;

use crate::{Query, ReadError, Statement, sqlite::Database};

/// The number of the newest list of the issuer with this subject key identifier (hex); 0 when there was none.
///
/// # Errors
/// When the database cannot be read.
pub fn number(database: &Database, issuer_ski: &str) -> Result<i64, ReadError> {
    let sql = "SELECT issuer_ski, number FROM crl_numbers WHERE issuer_ski = ?1";
    let rows = database.rows_now(&Query::new("crl_numbers", sql, vec![issuer_ski.into()]))?;
    Ok(rows.first().map_or(Ok(0), |row| row.int("number"))?)
}

/// Uses `number`, the one after the newest; touches no row when somebody else used it first.
#[must_use]
pub fn use_number(issuer_ski: &str, number: i64) -> Statement {
    Statement::one(
        "INSERT INTO crl_numbers (issuer_ski, number) VALUES (?1, ?2) \
         ON CONFLICT (issuer_ski) DO UPDATE SET number = excluded.number WHERE number = excluded.number - 1",
        vec![issuer_ski.into(), number.into()],
    )
}

/// Raises every number past all that can have been used before `now`: after an older copy of the database was
/// restored, lists that were published since would be numbered again. No issuer signs a list every second.
#[must_use]
pub fn raise_numbers(now: Stamp) -> Statement {
    Statement::any("UPDATE crl_numbers SET number = ?1 WHERE number < ?1", vec![now.unix().into()])
}
