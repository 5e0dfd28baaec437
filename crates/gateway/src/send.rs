//! Sending a one-shot message: checked, signed by its sender, filed once (contract `calls.md` §7, §14.5, §14.6, §14.13).

use std::time::Duration;

use mastio_authority::{Outage, Refusal, authenticate::Caller};
use mastio_core::{AgentId, Event, Thumbprint, canonical::CanonicalError, event::catalogue};
use mastio_store::{
    Rejection, Unit, WriteError,
    messages::{EnqueueStep, NewMessage},
};
use serde::Serialize;

use crate::{
    Gateway, Mode, Outgoing, Path, ReachDenied, Recipient, RecipientError, UnknownRecipient,
    outgoing::{CLOCK_TOLERANCE, MAX_NAME, MAX_PAYLOAD, SignedEnvelope, VERSION},
    reach,
};

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// More than 1 MiB.
    #[error("payload has {0} bytes; at most {MAX_PAYLOAD} are accepted")]
    PayloadSize(usize),
    /// Not an object.
    #[error("payload must be a JSON object")]
    PayloadKind,
    /// Without a canonical form nobody can sign it.
    #[error("payload cannot be signed: {0}")]
    Payload(#[from] CanonicalError),
    /// A correlation id, nonce or `reply_to`.
    #[error("{0} must be 1 to {MAX_NAME} letters, digits, '.', '_', ':' or '-'")]
    Name(&'static str),
    /// Longer than any signature.
    #[error("signature is longer than any that could verify")]
    SignatureSize,
    /// Too short or too long a life.
    #[error("ttl_seconds must be 10 to 3600")]
    Ttl,
    /// Another version of the envelope.
    #[error("envelope version {0} is not supported; send v={VERSION}")]
    Version(u64),
    /// Not a recipient.
    #[error("invalid recipient_id")]
    Recipient(#[from] RecipientError),
    /// There is no way out of the organisation.
    #[error("Broker uplink not configured — cross-org one-shot unavailable")]
    NoUplink,
    /// Beyond the caller's reach.
    #[error(transparent)]
    Reach(#[from] ReachDenied),
    /// Nobody of ours.
    #[error(transparent)]
    NotFound(#[from] UnknownRecipient),
    /// A part of the signature is missing.
    #[error("{} requires fields: signature, nonce, timestamp", .0.as_str())]
    Unsigned(Mode),
    /// The signature covers the correlation id, so the server cannot choose one.
    #[error("correlation_id is missing; choose one and sign it with the envelope")]
    Correlation,
    /// Signed long ago, or by a wrong clock.
    #[error("timestamp is {0} s away from the server's clock; at most {CLOCK_TOLERANCE} s are accepted")]
    Timestamp(u64),
    /// The sender has no certificate that could verify it.
    #[error("no certificate with a usable key is pinned for the sender; enroll again")]
    NoKey,
    /// Signed by another key or over something else.
    #[error("{} requires a valid envelope signature: signature verification failed", .0.as_str())]
    Signature(Mode),
    /// Another message of this sender had it.
    #[error("nonce already used")]
    NonceReused,
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for SendError {
    fn status(&self) -> u16 {
        match self {
            Self::PayloadSize(_) => 413,
            Self::Ttl => 422,
            Self::NoUplink => 503,
            Self::Reach(_) => 403,
            Self::NotFound(_) => 404,
            Self::Signature(_) => 401,
            Self::NonceReused => 409,
            Self::Outage(outage) => outage.status(),
            _ => 400,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::PayloadSize(_) => "payload_too_large",
            Self::PayloadKind | Self::Payload(_) => "payload_invalid",
            Self::Name(_) | Self::SignatureSize | Self::Ttl => "field_invalid",
            Self::Version(_) => "version_unsupported",
            Self::Recipient(_) => "recipient_invalid",
            Self::NoUplink => "no_uplink",
            Self::Reach(_) => ReachDenied::REASON,
            Self::NotFound(_) => "recipient_unknown",
            Self::Unsigned(_) | Self::Correlation => "unsigned",
            Self::Timestamp(_) => "timestamp_out_of_range",
            Self::NoKey => "no_key",
            Self::Signature(_) => "signature_invalid",
            Self::NonceReused => "nonce_reused",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

impl SendError {
    /// Whether the sender was denied something, rather than got something wrong.
    fn is_denial(&self) -> bool {
        matches!(self, Self::Reach(_) | Self::Signature(_))
    }
}

/// What became of a message that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits for its recipient.
    Enqueued,
    /// It had been accepted before.
    Duplicate,
}

/// The answer of `POST /v1/egress/message/send`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// As the sender chose it.
    pub correlation_id: String,
    /// The server's name for the message; of a duplicate, that of the first one.
    pub msg_id: String,
    /// What became of it.
    pub status: Status,
}

impl Gateway {
    /// Files a message for an agent of ours. Once this returns it is durable, and so is its audit entry, which names
    /// `request_id`. A denial is answered without waiting for its entry.
    ///
    /// # Errors
    /// [`SendError`]; then nothing was filed.
    pub async fn send(
        &self,
        caller: &Caller,
        outgoing: &Outgoing,
        request_id: &str,
    ) -> Result<Sent, SendError> {
        let payload = outgoing.check_form()?;
        let recipient = self.recipient(&outgoing.recipient_id)?;
        let filed = async {
            let addressee = self.addressee(caller, &recipient).await?;
            let envelope = outgoing.verify(&payload, &caller.agent, self.authority.clock().now())?;
            let ttl = Duration::from_secs(outgoing.ttl_seconds);
            self.file(caller.agent.id(), &addressee, envelope, ttl, request_id).await
        };
        filed.await.inspect_err(|error| {
            if error.is_denial() {
                self.tell_denial(caller.agent.id(), &recipient, outgoing.correlation_id(), error.reason());
            }
        })
    }

    /// The agent that `recipient` is, if the caller may write to it.
    async fn addressee(&self, caller: &Caller, recipient: &Recipient) -> Result<AgentId, SendError> {
        if recipient.path == Path::CrossOrg {
            return Err(SendError::NoUplink);
        }
        reach::check(caller.agent.row.reach, recipient)?;
        let agent = self.active_agent(&recipient.principal).await?;
        let agent = agent.ok_or_else(|| UnknownRecipient(recipient.principal.clone()))?;
        Ok(agent.id().clone())
    }

    async fn file(
        &self,
        sender: &AgentId,
        recipient: &AgentId,
        envelope: SignedEnvelope<'_>,
        ttl: Duration,
        request_id: &str,
    ) -> Result<Sent, SendError> {
        let now = self.authority.clock().now();
        let (msg_id, text) = (self.authority.rng().uuid().to_string(), envelope.to_json()?);
        let message = NewMessage {
            msg_id: &msg_id,
            sender,
            recipient,
            envelope: &text,
            correlation_id: envelope.correlation_id,
            reply_to: envelope.reply_to,
            nonce: envelope.nonce,
            at: now,
            expires_at: now.plus(ttl),
        };
        let event = sent_event(&message, &envelope, request_id);
        let unit = Unit::of(event).write_all(message.enqueue());
        let (msg_id, status) = match self.authority.commit(unit).await {
            Ok(_) => (msg_id, Status::Enqueued),
            Err(error) => match step(&error) {
                Some(EnqueueStep::Duplicate) => {
                    let earlier = message.earlier(self.authority.store()).await.map_err(Outage::from)?;
                    // The first one was swept away in between; now there is room for this one.
                    (earlier.ok_or(Outage::Contended)?, Status::Duplicate)
                }
                Some(EnqueueStep::NonceReused) => return Err(SendError::NonceReused),
                None => return Err(Outage::from(error).into()),
            },
        };
        Ok(Sent { correlation_id: envelope.correlation_id.to_owned(), msg_id, status })
    }

    fn tell_denial(
        &self,
        sender: &AgentId,
        recipient: &Recipient,
        correlation_id: Option<&str>,
        reason: &'static str,
    ) {
        let recipient = recipient.principal.to_string();
        let event = Event::new(&catalogue::OneshotDenied { reason, recipient }).about(sender.as_str());
        let event = match correlation_id {
            Some(correlation_id) => event.within(correlation_id),
            None => event,
        };
        if let Err(error) = self.authority.post(Unit::of(event)) {
            tracing::error!(%error, %sender, reason, "a refused message could not be written to the audit log");
        }
    }
}

fn sent_event(message: &NewMessage<'_>, envelope: &SignedEnvelope<'_>, request_id: &str) -> Event {
    let payload = envelope.payload.get().as_bytes();
    let details = catalogue::OneshotSent {
        correlation_id: message.correlation_id.to_owned(),
        msg_id: message.msg_id.to_owned(),
        recipient: message.recipient.to_string(),
        reply_to: message.reply_to.map(str::to_owned),
        mode: envelope.mode.as_str(),
        payload_sha256: Thumbprint::of(payload),
        bytes: payload.len() as u64,
        request_id: request_id.to_owned(),
    };
    Event::new(&details).about(message.sender.as_str()).within(message.correlation_id)
}

/// Which statement of [`NewMessage::enqueue`] the database rejected for being there already.
fn step(error: &WriteError) -> Option<EnqueueStep> {
    let WriteError::Rejected(Rejection::Constraint { statement, .. }) = error else { return None };
    [EnqueueStep::Duplicate, EnqueueStep::NonceReused].into_iter().find(|step| *step as usize == *statement)
}
