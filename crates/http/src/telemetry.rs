//! The log: one line per event, JSON or text, to standard error (contract `operations.md` §7).

use std::{
    fmt::{self, Write as _},
    io::Write,
    sync::Arc,
};

use mastio_core::Clock;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a reader.
    Text,
    /// For a log collector: `timestamp`, `level`, `logger`, `message`, `request_id` and `extra` where there are any.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("not a log filter: {0:?}; write a level such as info, or mastio_http=debug,info")]
    Filter(String),
    /// Another one was there first.
    #[error("the log is already set up")]
    Twice,
}

/// Starts the log of this process. `filter` is a level or directives as in `RUST_LOG`.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(format: Format, filter: &str, clock: Arc<dyn Clock>) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter).map_err(|_| TelemetryError::Filter(filter.to_owned()))?;
    let lines =
        Lines { format, clock, out: |line: &str| drop(std::io::stderr().lock().write_all(line.as_bytes())) };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|_| TelemetryError::Twice)
}

/// Writes events as lines. A line that cannot be written is lost: there is nowhere left to say so.
struct Lines<W> {
    format: Format,
    clock: Arc<dyn Clock>,
    out: W,
}

/// The request that a span is about.
struct OfRequest(String);

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let request_id = fields.0.remove("request_id");
        if let (Some(Value::String(request_id)), Some(span)) = (request_id, context.span(id)) {
            span.extensions_mut().insert(OfRequest(request_id));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(message)) => message,
            _ => String::new(),
        };
        let request_id = context
            .event_scope(event)
            .into_iter()
            .flatten()
            .find_map(|span| span.extensions().get::<OfRequest>().map(|of| of.0.clone()));
        let line = Line {
            timestamp: self.clock.now().to_string(),
            level: level(*event.metadata().level()),
            logger: event.metadata().target(),
            message,
            request_id,
            extra: fields.0,
        };
        (self.out)(&match self.format {
            Format::Json => line.json(),
            Format::Text => line.text(),
        });
    }
}

/// The names that log collectors know from the Python server.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    logger: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    extra: Map<String, Value>,
}

impl Line<'_> {
    fn json(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    fn text(&self) -> String {
        let mut line = String::new();
        push_plain(
            &mut line,
            &format!("{} {:<7} {} {}", self.timestamp, self.level, self.logger, self.message),
        );
        for (name, value) in &self.extra {
            // JSON quotes what could break the line.
            let _ = write!(line, " {name}={value}");
        }
        if let Some(request_id) = &self.request_id {
            line.push_str(" request_id=");
            push_plain(&mut line, request_id);
        }
        line.push('\n');
        line
    }
}

/// Appends a text without the characters that would start a new line or move a terminal's cursor.
fn push_plain(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

/// The fields of an event or a span.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

#[cfg(test)]
#[path = "telemetry/tests.rs"]
pub(crate) mod tests;
