//! Points in time, and the clock as a parameter.

use std::{
    fmt,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use time::{
    OffsetDateTime, PrimitiveDateTime, UtcOffset, format_description::BorrowedFormatItem,
    macros::format_description,
};

/// An instant in UTC with microsecond precision.
///
/// Written strictly, `2026-04-21T21:00:00.123456+00:00`; read leniently, because existing tables hold a blank for
/// `T`, `Z` for the offset, no offset at all (meaning UTC) and fractions of any length (contract
/// `audit-and-database.md` §2.2). Compare stamps, never their texts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(i64);

/// Why a text is not a point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a timestamp: expected ISO 8601 such as 2026-04-21T21:00:00.123456+00:00")]
pub struct StampError;

const MICROS: i64 = 1_000_000;
const DATE_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

impl Stamp {
    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the Unix epoch.
    #[must_use]
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS))
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn unix(self) -> i64 {
        self.0.div_euclid(MICROS)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// The instant as `time`'s own type, for libraries that want it.
    #[must_use]
    pub fn to_date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// This instant, or one microsecond later if it falls on a whole second. The reference drops an empty fraction,
    /// so audit entries never carry one (design decision 20).
    #[must_use]
    pub const fn with_fraction(self) -> Self {
        if self.0 % MICROS == 0 { Self(self.0 + 1) } else { self }
    }

    /// Later by `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Earlier by `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads a time, or a day such as `2026-01-31` for its beginning in UTC.
    ///
    /// # Errors
    /// When the text is neither.
    pub fn parse_or_day(text: &str) -> Result<Self, StampError> {
        Self::parse(text).or_else(|_| Self::parse(&format!("{text}T00:00:00Z")))
    }

    /// Reads any of the forms that existing tables hold.
    ///
    /// # Errors
    /// When the text is no date and time.
    pub fn parse(text: &str) -> Result<Self, StampError> {
        let text = text.trim();
        if !text.is_ascii() || text.len() < 19 || !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
            return Err(StampError);
        }
        let date_time = PrimitiveDateTime::parse(&format!("{}T{}", &text[..10], &text[11..19]), DATE_TIME)
            .map_err(|_| StampError)?;
        let rest = &text[19..];
        let (micros, zone) = match rest.strip_prefix('.') {
            Some(rest) => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                if digits == 0 {
                    return Err(StampError);
                }
                let micros =
                    format!("{:0<6}", &rest[..digits.min(6)]).parse::<i64>().map_err(|_| StampError)?;
                (micros, &rest[digits..])
            }
            None => (0, rest),
        };
        let whole = date_time.assume_utc().unix_timestamp() - parse_offset(zone)?;
        Ok(Self(whole * MICROS + micros))
    }
}

/// Seconds east of UTC.
fn parse_offset(zone: &str) -> Result<i64, StampError> {
    if matches!(zone, "" | "Z" | "z") {
        return Ok(0);
    }
    let (sign, digits) = match zone.split_at_checked(1) {
        Some(("+", digits)) => (1, digits.replace(':', "")),
        Some(("-", digits)) => (-1, digits.replace(':', "")),
        _ => return Err(StampError),
    };
    let number = |range| digits.get(range).and_then(|d: &str| d.parse::<i8>().ok()).ok_or(StampError);
    if digits.len() != 4 {
        return Err(StampError);
    }
    let offset = UtcOffset::from_hms(number(0..2)?, number(2..4)?, 0).map_err(|_| StampError)?;
    Ok(sign * i64::from(offset.whole_seconds()))
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.to_date_time();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}+00:00",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.microsecond()
        )
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Stamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Stamp;

    /// Time since an arbitrary start that never goes back: for durations, limits and time-outs.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(std::time::Instant);

impl Default for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Stamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Stamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that moves only when told to, for tests.
#[derive(Debug)]
pub struct ManualClock {
    start: i64,
    micros: AtomicI64,
    set_back: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn at(start: Stamp) -> Self {
        Self { start: start.0, micros: AtomicI64::new(start.0), set_back: AtomicI64::new(0) }
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }

    /// Sets the wall clock back, as people do. Durations are not touched.
    pub fn set_back(&self, by: Duration) {
        self.set_back.fetch_add(i64::try_from(by.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Stamp {
        Stamp(self.micros.load(Ordering::Relaxed) - self.set_back.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Stamp(self.micros.load(Ordering::Relaxed)).since(Stamp(self.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_beginning() {
        let beginning = Stamp::parse("2026-01-31T00:00:00Z").unwrap();
        for text in ["2026-01-31", "2026-01-31T02:00:00+02:00"] {
            assert_eq!(Stamp::parse_or_day(text), Ok(beginning), "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "2026-01-31T", "2026-01-31T12"] {
            assert!(Stamp::parse_or_day(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_form_in_existing_tables_is_read() {
        let micros = 1_776_798_000_123_456;
        for text in [
            "2026-04-21T19:00:00.123456+00:00",
            "2026-04-21 19:00:00.123456+00:00",
            "2026-04-21T19:00:00.123456Z",
            "2026-04-21T21:00:00.123456+02:00",
            "2026-04-21T19:00:00.1234567",
        ] {
            assert_eq!(Stamp::parse(text).unwrap().unix_micros(), micros, "{text}");
        }
        assert_eq!(Stamp::parse("2026-04-21 19:00:00").unwrap().unix_micros(), 1_776_798_000_000_000);
        for bad in [
            "",
            "yesterday",
            "2026-04-21",
            "2026-13-01T00:00:00",
            "2026-04-21T19:00:00.",
            "2026-04-21T19:00:00é",
        ] {
            assert!(Stamp::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn writing_is_strict() {
        assert_eq!(Stamp::from_unix(1_776_798_000).to_string(), "2026-04-21T19:00:00.000000+00:00");
        assert_eq!(
            Stamp::from_unix(1_776_798_000).with_fraction().to_string(),
            "2026-04-21T19:00:00.000001+00:00"
        );
    }
}
