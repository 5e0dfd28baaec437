//! Characters that do not show what they do.

/// Whether a terminal or a page obeys `character`, or hides it, in place of showing it: controls, and what changes the
/// direction of writing (Unicode UAX #9) or ends a line.
#[must_use]
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
