//! The one way to the terminal, or to whatever reads what a command says.
//!
//! A reader that goes away, as `head` does, ends no command: what is said from then on goes nowhere, and the command does
//! its work and cleans up behind it. One that would say things for ever looks at [`is_closed`]. And what others wrote,
//! such as the subject of a certificate that was brought, cannot steer a terminal or reverse the order of what is read.

use std::{
    fmt,
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use mastio_core::is_deceptive;

/// A line on standard output, as `println!` makes it.
macro_rules! say {
    ($($told:tt)*) => { $crate::out::to_stdout(format_args!("{}\n", format_args!($($told)*))) };
}

/// The same without an end of line, and at once: a question, or text that has its own.
macro_rules! say_part {
    ($($told:tt)*) => { $crate::out::to_stdout(format_args!($($told)*)) };
}

/// A line on standard error: what went wrong, or how far it is.
macro_rules! complain {
    ($($told:tt)*) => { $crate::out::to_stderr(format_args!("{}\n", format_args!($($told)*))) };
}

/// The same without an end of line.
macro_rules! complain_part {
    ($($told:tt)*) => { $crate::out::to_stderr(format_args!($($told)*)) };
}

pub(crate) use {complain, complain_part, say, say_part};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether nobody reads standard output any more.
pub(crate) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

pub(crate) fn to_stdout(told: fmt::Arguments<'_>) {
    if is_closed() {
        return;
    }
    if let Err(error) = write(&mut io::stdout().lock(), told) {
        CLOSED.store(true, Ordering::Relaxed);
        if error.kind() != io::ErrorKind::BrokenPipe {
            complain!("standard output cannot be written: {error}");
        }
    }
}

/// Where nobody reads what went wrong there is nobody to tell.
pub(crate) fn to_stderr(told: fmt::Arguments<'_>) {
    let _ = write(&mut io::stderr().lock(), told);
}

fn write(to: &mut impl Write, told: fmt::Arguments<'_>) -> io::Result<()> {
    to.write_all(visible(&told.to_string()).as_bytes())?;
    to.flush()
}

/// `text` as it may be shown: what a terminal obeys or hides is written as `\u` and four digits, as JSON writes it too, so
/// that a JSON document says the same as before. Ends of lines and tabs stay.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(character),
            hidden if is_deceptive(hidden) => {
                shown.push_str(&format!("\\u{:04x}", u32::from(hidden)));
            }
            plain => shown.push(plain),
        }
    }
    shown
}

/// The same for what others wrote, amid a line of ours: it cannot begin another line.
pub(crate) fn one_line(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_not_sent() {
        assert_eq!(visible("\u{1b}[2Jok\r\n\tö"), "\\u001b[2Jok\\u000d\n\tö");
        assert_eq!(visible("\u{202e}gnp.exe\u{2066}\u{9b}1m"), "\\u202egnp.exe\\u2066\\u009b1m");
        assert_eq!(one_line("a\nok b"), "a\\nok b");
    }

    #[test]
    fn a_json_document_says_the_same() {
        let told = serde_json::json!({ "subject": "CN=\u{202e}x\u{1b}\u{85}", "name": "Zoë 🙂" });
        let shown = visible(&told.to_string());
        assert!(!shown.chars().any(is_deceptive), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), told);
    }
}
