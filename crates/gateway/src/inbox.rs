//! Receiving one-shot messages: read as often as you like, acknowledged once, swept when they are over
//! (contract `calls.md` §7, design decision 13).

use std::time::Duration;

use mastio_authority::{Outage, Refusal, authenticate::Caller};
use mastio_core::{Event, Stamp, event::catalogue};
use mastio_store::{
    Rejection, Unit, WriteError,
    messages::{self, WaitingMessage},
};
use serde::Serialize;

/// Most rows of one reading.
pub const MAX_ROWS: u32 = 500;
/// How long correlation ids and nonces of past messages are remembered. Longer than a timestamp is accepted, so that
/// a forgotten nonce cannot come back.
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// A waiting message: a row of `GET /v1/egress/message/inbox`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboxRow {
    /// The server's name for it, to acknowledge it by.
    pub msg_id: String,
    /// The sender's name for it.
    pub correlation_id: Option<String>,
    /// What it answers.
    pub reply_to: Option<String>,
    /// Who sent it.
    pub sender_agent_id: String,
    /// The envelope as JSON text, whatever the mode.
    pub payload_ciphertext: String,
    /// `oneshot:` and the correlation id.
    pub idempotency_key: Option<String>,
    /// When it was accepted.
    pub enqueued_at: Stamp,
    /// When it is not delivered any more.
    pub expires_at: Option<Stamp>,
}

impl From<WaitingMessage> for InboxRow {
    fn from(message: WaitingMessage) -> Self {
        Self {
            msg_id: message.msg_id,
            correlation_id: message.correlation_id,
            reply_to: message.reply_to,
            sender_agent_id: message.sender,
            payload_ciphertext: message.envelope,
            idempotency_key: message.idempotency_key,
            enqueued_at: message.enqueued_at,
            expires_at: message.expires_at,
        }
    }
}

/// Why a message was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AckError {
    /// Absent, done, expired or somebody else's: one answer for all.
    #[error("message_not_found")]
    NotFound,
    /// Something of ours.
    #[error("{0}")]
    Outage(#[from] Outage),
}

impl Refusal for AckError {
    fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Outage(outage) => outage.status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound => "message_not_found",
            Self::Outage(outage) => outage.reason(),
        }
    }
}

impl crate::Gateway {
    /// The caller's waiting messages that were accepted after `since`, oldest first, at most `limit` and never more than
    /// [`MAX_ROWS`]. Reading consumes nothing.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn inbox(
        &self,
        caller: &Caller,
        since: Option<Stamp>,
        limit: u32,
    ) -> Result<Vec<InboxRow>, Outage> {
        let (store, now) = (self.authority.store(), self.authority.clock().now());
        let waiting = messages::inbox(store, caller.agent.id(), since, now, limit.min(MAX_ROWS)).await?;
        Ok(waiting.into_iter().map(InboxRow::from).collect())
    }

    /// Takes a message out of the caller's inbox for good.
    ///
    /// # Errors
    /// When it does not wait there, or not any more.
    pub async fn acknowledge(&self, caller: &Caller, msg_id: &str) -> Result<(), AckError> {
        let (recipient, now) = (caller.agent.id(), self.authority.clock().now());
        let waiting = messages::waiting(self.authority.store(), recipient, msg_id).await;
        let message = waiting
            .map_err(Outage::from)?
            .filter(|message| message.expires_at.is_none_or(|end| end > now))
            .ok_or(AckError::NotFound)?;
        let correlation_id = message.correlation_id.unwrap_or_default();
        let event = Event::new(&catalogue::OneshotDelivered {
            msg_id: message.msg_id,
            correlation_id: correlation_id.clone(),
            sender_agent_id: message.sender,
        });
        let unit = Unit::of(event.about(recipient.as_str()).within(correlation_id))
            .write(messages::acknowledge(recipient, msg_id, now));
        match self.authority.commit(unit).await {
            Ok(_) => Ok(()),
            // Acknowledged or swept by somebody else in between.
            Err(WriteError::Rejected(Rejection::Rows { .. })) => Err(AckError::NotFound),
            Err(error) => Err(Outage::from(error).into()),
        }
    }

    /// Ends what ran out, and forgets what was over a day ago. Call it every 30 seconds or so.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn sweep(&self) -> Result<(), Outage> {
        let now = self.authority.clock().now();
        let unit = Unit::default().write_all(messages::sweep(now, now.minus(MEMORY)));
        self.authority.commit(unit).await?;
        Ok(())
    }
}
