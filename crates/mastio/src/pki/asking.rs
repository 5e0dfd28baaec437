//! A question to whoever sits at the terminal, before what cannot be taken back.

use std::io::{self, IsTerminal};

use super::Failure;
use crate::out::complain_part;

/// Whether whoever sits at the terminal agrees to what `question` says. Where nobody sits there it is an error:
/// `in_a_script`, which says how a script agrees.
pub(super) fn agreed(question: &str, in_a_script: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(in_a_script.into());
    }
    complain_part!("{question} Go on? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
