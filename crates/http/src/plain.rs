//! Texts of strangers that people and terminals will show.

use crate::answer::Invalid;

/// Whether a text shows as what it is: without control characters, and without those that turn the direction of what
/// follows (U+202A to U+202E, U+2066 to U+2069).
pub(crate) fn is_plain(text: &str) -> bool {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| c.is_control() || turns(c))
}

/// The problem of a member of the body that is not plain.
pub(crate) fn not_plain(name: &str, text: &str) -> Option<Invalid> {
    let msg = "one line without control characters and overrides of the direction of writing allowed";
    (!is_plain(text)).then(|| Invalid::member(name, "value_error", msg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_as_something_else_is_not_plain() {
        for plain in ["", "Mario Rossi", "{\"os\": \"linux\"}", "ü é 李 مرحبا 👩\u{200d}🔬"] {
            assert!(is_plain(plain), "{plain:?}");
        }
        for other in [
            "\0",
            "a\u{1b}[2J",
            "a\nb",
            "a\tb",
            "\u{7f}",
            "\u{9b}",
            "\u{202e}oiram",
            "\u{202a}",
            "\u{2066}",
            "\u{2069}",
        ] {
            assert!(!is_plain(other), "{other:?}");
        }
    }
}
