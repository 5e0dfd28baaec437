//! Canonical JSON as the Python clients write it: `json.dumps(sort_keys=True, separators=(",", ":"))`.
//!
//! Signatures over messages and hashes over audit details are taken over this text (contract `calls.md` §9,
//! `audit-and-database.md` §1.3). Numbers keep their Python meaning: integers of any size stay as written, floats get
//! Python's shortest form (`1e+21`, `1.0`). Therefore the input is text and never passes through a number type that
//! could round it.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write};

use serde_json::value::RawValue;

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 32;

/// Why a text has no canonical form.
#[derive(Debug, thiserror::Error)]
pub enum CanonicalError {
    /// Not JSON, or a string with a lone surrogate.
    #[error("not valid JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// More than [`MAX_DEPTH`] levels.
    #[error("JSON nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// A float beyond the range of a double.
    #[error("JSON number out of range")]
    Range,
}

/// The canonical form of the JSON text `json`.
///
/// # Errors
/// When it is not JSON, nests too deep, or holds a float that is out of range.
pub fn canonicalise(json: &str) -> Result<String, CanonicalError> {
    let mut out = String::with_capacity(json.len());
    write_value(&mut out, serde_json::from_str(json)?, 0)?;
    Ok(out)
}

/// The canonical form of a value of ours.
///
/// # Errors
/// When the value does not serialise to JSON.
pub fn to_string<T: serde::Serialize>(value: &T) -> Result<String, CanonicalError> {
    canonicalise(&serde_json::to_string(value)?)
}

fn write_value(out: &mut String, raw: &RawValue, depth: usize) -> Result<(), CanonicalError> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{' | b'[') if depth == MAX_DEPTH => Err(CanonicalError::Depth),
        Some(b'{') => {
            let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text)?;
            out.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_value(out, value, depth + 1)?;
            }
            out.push('}');
            Ok(())
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, item, depth + 1)?;
            }
            out.push(']');
            Ok(())
        }
        Some(b'"') => {
            write_string(out, &serde_json::from_str::<Cow<'_, str>>(text)?);
            Ok(())
        }
        Some(b'-' | b'0'..=b'9') => write_number(out, text),
        _ => {
            out.push_str(text);
            Ok(())
        }
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for unit in text.chars() {
        match unit {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(unit),
            _ => {
                let mut utf16 = [0; 2];
                for half in unit.encode_utf16(&mut utf16) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{half:04x}");
                }
            }
        }
    }
    out.push('"');
}

fn write_number(out: &mut String, text: &str) -> Result<(), CanonicalError> {
    if !text.contains(['.', 'e', 'E']) {
        out.push_str(if text == "-0" { "0" } else { text });
        return Ok(());
    }
    let value: f64 = text.parse().map_err(|_| CanonicalError::Range)?;
    if !value.is_finite() {
        return Err(CanonicalError::Range);
    }
    out.push_str(&python_float(value));
    Ok(())
}

/// Python's `repr` of a float: the shortest digits that read back, an exponent below 1e-4 and from 1e16 on.
fn python_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        if plain.contains('.') { plain } else { plain + ".0" }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_the_contract_vector() {
        let payload = r#"{"z":1,"a":"hé","f":1.5,"e":1e21,"n":null,"u":"😀","l":[true]}"#;
        let expected = r#"{"a":"h\u00e9","e":1e+21,"f":1.5,"l":[true],"n":null,"u":"\ud83d\ude00","z":1}"#;
        assert_eq!(canonicalise(payload).unwrap(), expected);
    }

    #[test]
    fn numbers_keep_their_python_text() {
        for (json, python) in [
            ("1.0", "1.0"),
            ("1e16", "1e+16"),
            ("1e15", "1000000000000000.0"),
            ("1e-7", "1e-07"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("-0.0", "-0.0"),
            ("-0", "0"),
            ("1.5E300", "1.5e+300"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("0.1", "0.1"),
            ("2.50", "2.5"),
        ] {
            assert_eq!(canonicalise(json).unwrap(), python, "{json}");
        }
        assert!(matches!(canonicalise("1e999"), Err(CanonicalError::Range)));
    }

    #[test]
    fn later_keys_win_and_depth_is_bounded() {
        assert_eq!(canonicalise(r#"{"a":1,"a":2}"#).unwrap(), r#"{"a":2}"#);
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(canonicalise(&deep(MAX_DEPTH)).is_ok());
        assert!(matches!(canonicalise(&deep(MAX_DEPTH + 1)), Err(CanonicalError::Depth)));
    }

    proptest! {
        #[test]
        fn canonical_text_is_its_own_canonical_form(text in any::<String>(), float in any::<f64>(), int in any::<i64>()) {
            prop_assume!(float.is_finite());
            let json = serde_json::json!({ "t": text, "f": float, "i": int, "l": [text, null] }).to_string();
            let once = canonicalise(&json).unwrap();
            prop_assert!(once.is_ascii());
            prop_assert_eq!(canonicalise(&once).unwrap(), once);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = canonicalise(&text);
        }
    }
}
