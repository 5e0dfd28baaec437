//! Numbers of things as people read them.

use std::fmt::Display;

/// A whole number of whatever type.
pub trait Count: Copy + Display + PartialEq + From<u8> {}

impl<T: Copy + Display + PartialEq + From<u8>> Count for T {}

/// `one` of one, `many` of any other number; for where the number itself stands elsewhere.
#[must_use]
pub fn plural<'a>(count: impl Count, one: &'a str, many: &'a str) -> &'a str {
    if count == 1.into() { one } else { many }
}

/// The number with its word: `1 agent`, `0 agents`.
#[must_use]
pub fn counted(count: impl Count, one: &str, many: &str) -> String {
    format!("{count} {}", plural(count, one, many))
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_one_and_all_else_is_many() {
        let told = [0_u64, 1, 2, 21].map(|count| counted(count, "entry", "entries"));
        assert_eq!(told, ["0 entries", "1 entry", "2 entries", "21 entries"]);
        assert_eq!(counted(1_usize, "day", "days"), "1 day");
        assert_eq!(counted(1_i64, "day", "days"), "1 day");
    }
}
