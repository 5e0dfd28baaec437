//! Rows, migrations and the one writer, on SQLite.
