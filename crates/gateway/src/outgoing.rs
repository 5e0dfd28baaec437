//! A one-shot message as its sender hands it in, and the envelope that is left when it was checked
//! (contract `calls.md` §7, §9).

use mastio_authority::{Outage, registry::Agent};
use mastio_core::{Stamp, canonical::canonicalise};
use mastio_jose::Envelope;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::send::SendError;

/// Largest payload in bytes, as the sender wrote it.
pub(crate) const MAX_PAYLOAD: usize = 1 << 20;
/// Longest correlation id, nonce and `reply_to`.
pub(crate) const MAX_NAME: usize = 128;
/// Longest signature in characters: RSA with 8192 bits has 1368.
const MAX_SIGNATURE: usize = 2048;
/// How far the sender's clock may be away from ours, in seconds.
pub(crate) const CLOCK_TOLERANCE: u64 = 300;
/// The only version of the envelope.
pub(crate) const VERSION: u64 = 2;

/// Whether the payload can be read on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// In the clear, within TLS.
    #[default]
    MtlsOnly,
    /// Encrypted for the recipient.
    Envelope,
}

impl Mode {
    /// The word on the wire and in the signed text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MtlsOnly => "mtls-only",
            Self::Envelope => "envelope",
        }
    }
}

/// The body of `POST /v1/egress/message/send`. Nothing of it is believed yet; what clients send beside it is ignored.
#[derive(Debug, Clone, Deserialize)]
pub struct Outgoing {
    /// `<org>::<name>` or a SPIFFE id.
    pub recipient_id: String,
    /// An object, with its numbers as the sender wrote them.
    pub payload: Box<RawValue>,
    /// Names the message for good: a second one with it, from this sender to this recipient, is a duplicate.
    pub correlation_id: Option<String>,
    /// What it answers: a correlation id or message id.
    pub reply_to: Option<String>,
    /// What the payload is.
    #[serde(default)]
    pub mode: Mode,
    /// Over [`Envelope::oneshot_envelope`], base64url.
    pub signature: Option<String>,
    /// Never used before by this sender.
    pub nonce: Option<String>,
    /// When it was signed, seconds since the epoch.
    pub timestamp: Option<i64>,
    /// How long it waits for its recipient.
    #[serde(default = "default_ttl")]
    pub ttl_seconds: u64,
    /// The version of the envelope.
    #[serde(default = "default_version")]
    pub v: u64,
}

fn default_ttl() -> u64 {
    300
}

fn default_version() -> u64 {
    VERSION
}

impl Outgoing {
    /// What names the exchange; empty counts as absent, as it does for the clients.
    pub(crate) fn correlation_id(&self) -> Option<&str> {
        self.correlation_id.as_deref().filter(|text| !text.is_empty())
    }

    fn reply_to(&self) -> Option<&str> {
        self.reply_to.as_deref().filter(|text| !text.is_empty())
    }

    /// Checks what can be checked without knowing anybody, and returns the canonical payload.
    pub(crate) fn check_form(&self) -> Result<Box<RawValue>, SendError> {
        let size = self.payload.get().len();
        if size > MAX_PAYLOAD {
            return Err(SendError::PayloadSize(size));
        }
        if !self.payload.get().starts_with('{') {
            return Err(SendError::PayloadKind);
        }
        let payload = canonicalise(self.payload.get())?;
        check_name("correlation_id", self.correlation_id())?;
        check_name("reply_to", self.reply_to())?;
        check_name("nonce", self.nonce.as_deref())?;
        if self.signature.as_ref().is_some_and(|signature| signature.len() > MAX_SIGNATURE) {
            return Err(SendError::SignatureSize);
        }
        if !(10..=3600).contains(&self.ttl_seconds) {
            return Err(SendError::Ttl);
        }
        if self.v != VERSION {
            return Err(SendError::Version(self.v));
        }
        Ok(RawValue::from_string(payload).map_err(Outage::internal)?)
    }

    /// The envelope, once it is known to be fresh and signed by `sender` over the canonical `payload`.
    pub(crate) fn verify<'a>(
        &'a self,
        payload: &'a RawValue,
        sender: &Agent,
        now: Stamp,
    ) -> Result<SignedEnvelope<'a>, SendError> {
        let (Some(signature), Some(nonce), Some(timestamp)) =
            (self.signature.as_deref(), self.nonce.as_deref(), self.timestamp)
        else {
            return Err(SendError::Unsigned(self.mode));
        };
        let correlation_id = self.correlation_id().ok_or(SendError::Correlation)?;
        let skew = now.unix().abs_diff(timestamp);
        if skew > CLOCK_TOLERANCE {
            return Err(SendError::Timestamp(skew));
        }
        let key = sender.key.as_ref().ok_or(SendError::NoKey)?;
        let reply_to = self.reply_to();
        let signed = Envelope { sender: sender.id().as_str(), nonce, timestamp, payload: payload.get() }
            .oneshot_envelope(correlation_id, self.mode.as_str(), reply_to)?;
        key.verify_detached(signed.as_bytes(), signature).map_err(|_| SendError::Signature(self.mode))?;
        Ok(SignedEnvelope {
            correlation_id,
            mode: self.mode,
            nonce,
            payload,
            reply_to,
            signature,
            timestamp,
            v: VERSION,
        })
    }
}

/// The signed text separates its parts by `|`, so none of them may contain one.
fn check_name(field: &'static str, text: Option<&str>) -> Result<(), SendError> {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    match text {
        Some(text) if !(1..=MAX_NAME).contains(&text.len()) || !text.bytes().all(is_name_byte) => {
            Err(SendError::Name(field))
        }
        _ => Ok(()),
    }
}

/// An envelope whose signature was verified. The fields stand in the order of their names, are ASCII without
/// characters to escape, and the payload is canonical: so is its JSON.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct SignedEnvelope<'a> {
    pub(crate) correlation_id: &'a str,
    pub(crate) mode: Mode,
    pub(crate) nonce: &'a str,
    pub(crate) payload: &'a RawValue,
    pub(crate) reply_to: Option<&'a str>,
    signature: &'a str,
    timestamp: i64,
    v: u64,
}

impl SignedEnvelope<'_> {
    /// The text that is stored and that the recipient verifies.
    pub(crate) fn to_json(self) -> Result<String, Outage> {
        serde_json::to_string(&self).map_err(Outage::internal)
    }
}

#[cfg(test)]
mod tests {
    use mastio_core::{canonical::MAX_DEPTH, sha256};

    use super::*;

    fn outgoing(rest: &str) -> Outgoing {
        serde_json::from_str(&format!(r#"{{"recipient_id":"acme::bob",{rest}}}"#)).unwrap()
    }

    fn refusal(rest: &str) -> String {
        outgoing(rest).check_form().unwrap_err().to_string()
    }

    #[test]
    fn the_stored_text_is_that_of_the_contract() {
        let payload = outgoing(r#""payload":{"text":"hé"}"#).check_form().unwrap();
        let envelope = SignedEnvelope {
            correlation_id: "c-1",
            mode: Mode::MtlsOnly,
            nonce: "n-1",
            payload: &payload,
            reply_to: None,
            signature: "c2ln",
            timestamp: 1_700_000_000,
            v: VERSION,
        };
        let text = envelope.to_json().unwrap();
        assert_eq!(
            hex::encode(sha256(text.as_bytes())),
            "7c69c64cd3ea548c5130099ce434e172cf5c2a789c368af1e9c8d6f6b3706563",
            "{text}"
        );
        assert_eq!(canonicalise(&text).unwrap(), text);
    }

    #[test]
    fn absent_fields_get_the_defaults_of_the_contract() {
        let message = outgoing(r#""payload":{},"capabilities":["x"],"correlation_id":"","reply_to":null"#);
        assert_eq!((message.mode, message.ttl_seconds, message.v), (Mode::MtlsOnly, 300, 2));
        assert_eq!(message.correlation_id(), None);
        assert!(message.check_form().is_ok());
        assert!(serde_json::from_str::<Mode>("\"plain\"").is_err());
    }

    #[test]
    fn payloads_are_objects_of_a_bounded_size_and_depth() {
        assert_eq!(refusal(r#""payload":[1]"#), "payload must be a JSON object");
        let sized = |bytes: usize| format!(r#""payload":{{"a":"{}"}}"#, "x".repeat(bytes - 8));
        assert!(outgoing(&sized(MAX_PAYLOAD)).check_form().is_ok());
        assert!(refusal(&sized(MAX_PAYLOAD + 1)).starts_with("payload has 1048577 bytes"));
        let deep = |lists: usize| format!(r#""payload":{{"a":{}{}}}"#, "[".repeat(lists), "]".repeat(lists));
        assert!(outgoing(&deep(MAX_DEPTH - 1)).check_form().is_ok());
        assert!(refusal(&deep(MAX_DEPTH)).contains("deeper than"));
        assert!(refusal(r#""payload":{"a":1e999}"#).contains("out of range"));
    }

    #[test]
    fn names_cannot_move_the_borders_of_the_signed_text() {
        for field in ["correlation_id", "reply_to", "nonce"] {
            for bad in ["a|b".to_owned(), "a b".into(), "é".into(), "x".repeat(129), "a\\\"b".into()] {
                let said = refusal(&format!(r#""payload":{{}},"{field}":"{bad}""#));
                assert!(said.starts_with(field), "{bad}: {said}");
            }
            let longest = format!(r#""payload":{{}},"{field}":"{}""#, "x".repeat(128));
            assert!(outgoing(&longest).check_form().is_ok());
        }
        assert!(refusal(r#""payload":{},"nonce":"""#).starts_with("nonce"));
    }

    #[test]
    fn lifetime_and_version_are_bounded() {
        for bad in [0, 9, 3601] {
            assert!(refusal(&format!(r#""payload":{{}},"ttl_seconds":{bad}"#)).starts_with("ttl_seconds"));
        }
        assert!(outgoing(r#""payload":{},"ttl_seconds":3600"#).check_form().is_ok());
        assert_eq!(refusal(r#""payload":{},"v":1"#), "envelope version 1 is not supported; send v=2");
    }
}
