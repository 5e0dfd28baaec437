//! One-shot messages: signed by the sender, verified by the recipient (contract `calls.md` §7, §9).

use base64::{Engine, engine::general_purpose::URL_SAFE};
use mastio_core::{Stamp, canonical::CanonicalError};
use mastio_jose::{Envelope, JwkError, SignatureError, SigningError, VerifyingKey};
use mastio_pki::Certificate;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The payload in the clear, between agents of one organisation.
const MODE: &str = "mtls-only";
/// The version of the envelope.
const VERSION: u8 = 2;

/// Why a message cannot be sent, or must not be believed.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The payload is not JSON.
    #[error("the message's payload is not JSON: {0}")]
    Payload(#[from] CanonicalError),
    /// Not signed: the cryptographic library failed.
    #[error("the message could not be signed: {0}")]
    Signing(#[from] SigningError),
    /// The received text is no envelope, or lacks signature, nonce, time or payload.
    #[error("the received message is not an envelope: {0}")]
    Envelope(#[from] serde_json::Error),
    /// An envelope of another version or mode.
    #[error(
        "the received message has version {version} and mode '{mode}': only version {VERSION}, '{MODE}' is read"
    )]
    Unsupported {
        /// Its version.
        version: u8,
        /// Its mode.
        mode: String,
    },
    /// What the server says about the message differs from what the sender signed.
    #[error("the received message's {0} is not the one in its signed envelope")]
    Misplaced(&'static str),
    /// The certificate speaks for somebody else.
    #[error("the certificate does not belong to the sender '{0}'")]
    Sender(String),
    /// The certificate's key is of a kind that signs no messages.
    #[error("the sender's key cannot verify messages: {0}")]
    Key(#[from] JwkError),
    /// Signed by another key, or changed on its way.
    #[error("the received message does not verify: {0}")]
    Signature(#[from] SignatureError),
}

/// A message to send.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// `<org>::<name>` or a SPIFFE id.
    pub recipient: &'a str,
    /// The payload as JSON text, an object. Its numbers reach the recipient as they are written here.
    pub payload: &'a str,
    /// Names the message for good: a second one with it is a duplicate.
    pub correlation_id: &'a str,
    /// What it answers, if anything.
    pub reply_to: Option<&'a str>,
}

#[derive(Serialize)]
struct Body<'a> {
    recipient_id: &'a str,
    payload: &'a RawValue,
    correlation_id: &'a str,
    reply_to: Option<&'a str>,
    mode: &'static str,
    signature: String,
    nonce: &'a str,
    timestamp: i64,
    v: u8,
}

/// The body of `POST /v1/egress/message/send`, signed by the sender at `now` (whole seconds are sent). `nonce` was
/// never used before.
///
/// # Errors
/// [`MessageError::Payload`] or [`MessageError::Signing`].
pub fn signed_message_body(
    sender: &crate::Identity,
    message: &Message<'_>,
    nonce: &str,
    now: Stamp,
) -> Result<String, MessageError> {
    let Message { recipient, payload, correlation_id, reply_to } = *message;
    let envelope = Envelope { sender: sender.agent_id().as_str(), nonce, timestamp: now.unix(), payload };
    let signed = envelope.oneshot_envelope(correlation_id, MODE, reply_to)?;
    let body = Body {
        recipient_id: recipient,
        payload: serde_json::from_str(payload).map_err(CanonicalError::from)?,
        correlation_id,
        reply_to,
        mode: MODE,
        signature: URL_SAFE.encode(sender.signer().sign_der(signed.as_bytes())?),
        nonce,
        timestamp: now.unix(),
        v: VERSION,
    };
    Ok(serde_json::to_string(&body).map_err(CanonicalError::from)?)
}

/// A row of the inbox. What it says is the server's word until [`Received::verify`].
#[derive(Debug, Clone, Deserialize)]
pub struct Received {
    /// The server's name for it, to acknowledge it by.
    pub msg_id: String,
    /// The sender's name for it.
    pub correlation_id: String,
    /// What it answers, if anything.
    pub reply_to: Option<String>,
    /// Who is said to have sent it.
    pub sender_agent_id: String,
    /// The envelope, as JSON text.
    pub payload_ciphertext: String,
}

/// What a sender has signed.
#[derive(Debug, Clone)]
pub struct VerifiedMessage {
    /// The payload as JSON text.
    pub payload: Box<RawValue>,
    /// When the sender made it, to the second.
    pub timestamp: Stamp,
    /// The sender's nonce.
    pub nonce: String,
}

#[derive(Deserialize)]
struct Signed {
    correlation_id: String,
    mode: String,
    nonce: String,
    payload: Box<RawValue>,
    reply_to: Option<String>,
    signature: String,
    timestamp: i64,
    v: u8,
}

impl Received {
    /// Checks that the owner of `certificate` is the sender and signed this very message. Whether the certificate
    /// itself is to be believed is the caller's to know.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn verify(&self, certificate: &Certificate) -> Result<VerifiedMessage, MessageError> {
        let owner = certificate.principal().map(ToString::to_string);
        if owner.as_deref() != Some(self.sender_agent_id.as_str()) {
            return Err(MessageError::Sender(self.sender_agent_id.clone()));
        }
        let Signed { correlation_id, mode, nonce, payload, reply_to, signature, timestamp, v } =
            serde_json::from_str(&self.payload_ciphertext)?;
        if v != VERSION || mode != MODE {
            return Err(MessageError::Unsupported { version: v, mode });
        }
        if correlation_id != self.correlation_id {
            return Err(MessageError::Misplaced("correlation_id"));
        }
        if reply_to != self.reply_to {
            return Err(MessageError::Misplaced("reply_to"));
        }
        let envelope =
            Envelope { sender: &self.sender_agent_id, nonce: &nonce, timestamp, payload: payload.get() };
        let signed = envelope.oneshot_envelope(&correlation_id, &mode, reply_to.as_deref())?;
        VerifyingKey::from_spki_der(certificate.spki_der())?
            .verify_detached(signed.as_bytes(), &signature)?;
        Ok(VerifiedMessage { payload, timestamp: Stamp::from_unix(timestamp), nonce })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        Identity,
        testing::{NOW, Pki},
    };

    const MESSAGE: Message<'_> = Message {
        recipient: "acme::bob",
        payload: r#"{"z": 1.0, "a": "hé", "big": 123456789012345678901234567890}"#,
        correlation_id: "c-1",
        reply_to: Some("c-0"),
    };

    /// The inbox row that a server makes of a body.
    fn delivered(sender: &Identity, message: &Message<'_>) -> Received {
        let body = signed_message_body(sender, message, "n-1", NOW).unwrap();
        Received {
            msg_id: "m-1".into(),
            correlation_id: message.correlation_id.into(),
            reply_to: message.reply_to.map(Into::into),
            sender_agent_id: sender.agent_id().to_string(),
            payload_ciphertext: body,
        }
    }

    #[test]
    fn bodies_carry_the_payload_as_written_and_verify() {
        let alice = Pki::new().identity("alice");
        let received = delivered(&alice, &MESSAGE);
        assert!(received.payload_ciphertext.contains(MESSAGE.payload), "{received:?}");
        let body: Value = serde_json::from_str(&received.payload_ciphertext).unwrap();
        assert_eq!(body["recipient_id"], "acme::bob");
        assert_eq!((&body["v"], &body["mode"]), (&json!(2), &json!("mtls-only")));
        assert_eq!(body["timestamp"], NOW.unix());
        let verified = received.verify(&alice.chain()[0]).unwrap();
        assert_eq!((verified.payload.get(), verified.timestamp), (MESSAGE.payload, NOW));
    }

    #[test]
    fn every_signed_member_is_covered() {
        let alice = Pki::new().identity("alice");
        let received = delivered(&alice, &MESSAGE);
        for (from, to) in [
            (r#""n-1""#, r#""n-2""#),
            ("1767225600", "1767225601"),
            (r#""z": 1.0"#, r#""z": 1"#),
            ("2345", "5432"),
        ] {
            let changed = received.payload_ciphertext.replacen(from, to, 1);
            assert_ne!(changed, received.payload_ciphertext);
            let changed = Received { payload_ciphertext: changed, ..received.clone() };
            let error = changed.verify(&alice.chain()[0]).unwrap_err();
            assert!(matches!(error, MessageError::Signature(_)), "{from}: {error}");
        }
    }

    #[test]
    fn rows_that_disagree_with_their_envelope_are_refused() {
        let pki = Pki::new();
        let (alice, bob) = (pki.identity("alice"), pki.identity("bob"));
        let received = delivered(&alice, &MESSAGE);
        assert!(matches!(received.verify(&bob.chain()[0]), Err(MessageError::Sender(_))));
        let forged = Received { sender_agent_id: "acme::bob".into(), ..received.clone() };
        assert!(matches!(forged.verify(&bob.chain()[0]), Err(MessageError::Signature(_))));
        let moved = Received { correlation_id: "c-2".into(), ..received.clone() };
        assert!(matches!(moved.verify(&alice.chain()[0]), Err(MessageError::Misplaced("correlation_id"))));
        let moved = Received { reply_to: None, ..received.clone() };
        assert!(matches!(moved.verify(&alice.chain()[0]), Err(MessageError::Misplaced("reply_to"))));
        let old = Received {
            payload_ciphertext: received.payload_ciphertext.replace(r#""v":2"#, r#""v":1"#),
            ..received
        };
        assert!(matches!(old.verify(&alice.chain()[0]), Err(MessageError::Unsupported { version: 1, .. })));
    }

    #[test]
    fn payloads_must_be_json() {
        let alice = Pki::new().identity("alice");
        let bad = Message { payload: "{", ..MESSAGE };
        assert!(matches!(signed_message_body(&alice, &bad, "n", NOW), Err(MessageError::Payload(_))));
    }
}
