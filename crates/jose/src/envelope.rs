//! The bytes that agents sign when they send messages (contract `calls.md` §7, §9). Signatures over them are checked
//! with [`crate::VerifyingKey::verify_detached`].

use mastio_core::canonical::{CanonicalError, canonicalise};

/// What every signed message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The sending agent's id.
    pub sender: &'a str,
    /// Chosen by the sender.
    pub nonce: &'a str,
    /// Seconds since the epoch, as the sender wrote them.
    pub timestamp: i64,
    /// The payload as raw JSON: numbers must keep the sender's text.
    pub payload: &'a str,
}

impl Envelope<'_> {
    /// The text signed for a message in a session; `seq` is absent for senders that do not count.
    ///
    /// # Errors
    /// When the payload has no canonical form.
    pub fn session(&self, session_id: &str, seq: Option<u64>) -> Result<String, CanonicalError> {
        let Self { sender, nonce, timestamp, payload } = self;
        let payload = canonicalise(payload)?;
        Ok(match seq {
            Some(seq) => format!("{session_id}|{sender}|{nonce}|{timestamp}|{seq}|{payload}"),
            None => format!("{session_id}|{sender}|{nonce}|{timestamp}|{payload}"),
        })
    }

    /// The text signed inside a one-shot message, over the payload in the clear.
    ///
    /// # Errors
    /// When the payload has no canonical form.
    pub fn oneshot(&self, correlation_id: &str) -> Result<String, CanonicalError> {
        self.session(&format!("oneshot:{correlation_id}"), Some(0))
    }

    /// The text signed around a one-shot message, version 2, over the payload on the wire.
    ///
    /// # Errors
    /// When the payload has no canonical form.
    pub fn oneshot_envelope(
        &self,
        correlation_id: &str,
        mode: &str,
        reply_to: Option<&str>,
    ) -> Result<String, CanonicalError> {
        let Self { sender, nonce, timestamp, payload } = self;
        let (reply_to, payload) = (reply_to.unwrap_or_default(), canonicalise(payload)?);
        Ok(format!(
            "oneshot-env:v2|{correlation_id}|{sender}|{nonce}|{timestamp}|{mode}|{reply_to}|{payload}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use mastio_core::sha256;

    use super::*;

    const ENVELOPE: Envelope<'_> = Envelope {
        sender: "acme::alice",
        nonce: "n-1",
        timestamp: 1_700_000_000,
        payload: r#"{"z":1,"a":"hé","f":1.5,"e":1e21,"n":null,"u":"😀","l":[true]}"#,
    };

    fn digest(signed: Result<String, CanonicalError>) -> String {
        hex::encode(sha256(signed.unwrap().as_bytes()))
    }

    #[test]
    fn signed_bytes_match_the_contract() {
        let session = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
        assert_eq!(
            digest(ENVELOPE.session(session, Some(0))),
            "bf61d5d28179d84039785ee686cfc37589291c26799445ef2697b13872147a40"
        );
        assert_eq!(
            digest(ENVELOPE.session(session, None)),
            "45e005efd78deda64e44cfea7f2e9ca6500e1c04b89016e5549be52f5b644454"
        );
        assert_eq!(
            digest(ENVELOPE.oneshot_envelope("c-1", "mtls-only", None)),
            "1d62086544f62e31b259a7105a29530645ae8b43706a7aecccd0c67360d22f42"
        );
        assert_eq!(
            digest(ENVELOPE.oneshot("c-1")),
            "8a51e7cb7c13161cc2672b23349e630ac74e1762c12befe6979da508242a2ddf"
        );
    }

    #[test]
    fn replies_and_bad_payloads() {
        let signed = ENVELOPE.oneshot_envelope("c-2", "envelope", Some("c-1")).unwrap();
        assert!(signed.starts_with("oneshot-env:v2|c-2|acme::alice|n-1|1700000000|envelope|c-1|{\"a\""));
        assert!(Envelope { payload: "{", ..ENVELOPE }.oneshot("c-1").is_err());
    }
}
