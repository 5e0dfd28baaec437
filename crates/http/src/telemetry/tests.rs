use std::sync::Mutex;

use mastio_core::{ManualClock, Stamp};
use tracing::subscriber::DefaultGuard;

use super::*;

/// Keeps what this thread logs as long as the guard lives.
pub(crate) fn capture(format: Format) -> (DefaultGuard, Arc<Mutex<String>>) {
    // A call site that another test meets first, without any subscriber, would stay off for this one as well.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
    let written = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&written);
    let clock = Arc::new(ManualClock::at(Stamp::from_unix(1_776_798_000)));
    let lines = Lines { format, clock, out: move |line: &str| sink.lock().unwrap().push_str(line) };
    (tracing_subscriber::registry().with(lines).set_default(), written)
}

/// What `work` logs.
fn logged(format: Format, work: impl FnOnce()) -> String {
    let (guard, written) = capture(format);
    work();
    drop(guard);
    std::mem::take(&mut *written.lock().unwrap())
}

fn events() {
    tracing::warn!(target: "mcp_proxy", "plain");
    let span = tracing::info_span!("request", request_id = "r-1");
    span.in_scope(|| tracing::info!(target: "mastio_http", status = 200, who = "a\nb", "answered"));
}

#[test]
fn json_lines() {
    let text = logged(Format::Json, events);
    let at = r#""timestamp":"2026-04-21T19:00:00.000000+00:00""#;
    let first = format!(r#"{{{at},"level":"WARNING","logger":"mcp_proxy","message":"plain"}}"#);
    let second = format!(
        r#"{{{at},"level":"INFO","logger":"mastio_http","message":"answered","request_id":"r-1","extra":{{"status":200,"who":"a\nb"}}}}"#
    );
    assert_eq!(text.lines().collect::<Vec<_>>(), [first, second]);
}

#[test]
fn text_lines_cannot_be_broken() {
    let text = logged(Format::Text, events);
    let second = r#"2026-04-21T19:00:00.000000+00:00 INFO    mastio_http answered status=200 who="a\nb" request_id=r-1"#;
    assert_eq!(text.lines().nth(1), Some(second));
    let text = logged(Format::Text, || tracing::info!("{}", "two\nlines\u{1b}[2J"));
    assert!(text.ends_with("two\\nlines\\u{1b}[2J\n") && text.lines().count() == 1, "{text}");
}

#[test]
fn a_bad_filter_is_named() {
    let clock = Arc::new(ManualClock::at(Stamp::from_unix(0)));
    let error = init(Format::Text, "mastio=loud", clock).unwrap_err();
    assert!(error.to_string().contains("mastio=loud"), "{error}");
}
