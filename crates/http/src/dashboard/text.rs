//! Facts as people read them.

use mastio_core::{Stamp, counted};

/// `2026-11-22 07:05 UTC`.
pub(super) fn moment(stamp: Stamp) -> String {
    let text = stamp.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// `2026-11-22 07:05:09 UTC`, for what is compared with logs.
pub(super) fn second(stamp: Stamp) -> String {
    let text = stamp.to_string();
    match (text.get(..10), text.get(11..19)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// How far away a moment is: `in 365 days`, `3 minutes ago`. The past is rounded down, the future up.
pub(super) fn distance(stamp: Stamp, now: Stamp) -> String {
    let seconds = stamp.unix() - now.unix();
    let (length, unit) = match seconds.abs() {
        0..60 => return "just now".to_owned(),
        60..3_600 => (60, "minute"),
        3_600..86_400 => (3_600, "hour"),
        _ => (86_400, "day"),
    };
    let whole = seconds.abs() / length;
    let count = whole + i64::from(seconds > 0 && seconds % length > 0);
    let told = counted(count, unit, &format!("{unit}s"));
    match seconds > 0 {
        true => format!("in {told}"),
        false => format!("{told} ago"),
    }
}

/// Hex digits in groups of four, which eyes can compare.
pub(super) fn grouped(hex: &str) -> String {
    let groups: Vec<&str> =
        hex.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(" ")
}

/// Sixteen digits of a fingerprint, for comparing on the phone: about 53 bits of it.
pub(crate) fn code(fingerprint: &str) -> String {
    const DIGITS: u64 = 10_000_000_000_000_000;
    let head = fingerprint.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    grouped(&format!("{:016}", head % DIGITS))
}

/// What stands between commas, without blanks and empty pieces.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|piece| !piece.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_speech() {
        let now = Stamp::from_unix(1_790_000_000);
        let at = |seconds: i64| distance(Stamp::from_unix(now.unix() + seconds), now);
        assert_eq!(
            [0, 59, 60, -120, 3_601, -86_401, 31_535_999].map(at),
            [
                "just now",
                "just now",
                "in 1 minute",
                "2 minutes ago",
                "in 2 hours",
                "1 day ago",
                "in 365 days"
            ]
        );
        assert_eq!(moment(now), "2026-09-21 14:13 UTC");
        assert_eq!(second(now), "2026-09-21 14:13:20 UTC");
    }

    #[test]
    fn pieces_are_cut_at_commas_and_digits_in_fours() {
        assert_eq!(list(" a, b c ,, "), ["a", "b c"]);
        assert_eq!(grouped("0123456789"), "0123 4567 89");
        assert_eq!(code(&"ff".repeat(32)), "6744 0737 0955 1615");
        assert_eq!(code(&"00".repeat(32)), "0000 0000 0000 0000");
    }
}
