//! One-shot messages: table `local_messages`, and `message_keys` for idempotency per sender and recipient.

use mastio_core::{AgentId, Stamp};

use crate::{Query, ReadError, Row, RowError, Statement, Store};

const TABLE: &str = "local_messages";

/// A message on its way in.
#[derive(Debug)]
pub struct NewMessage<'a> {
    /// A fresh UUID.
    pub msg_id: &'a str,
    /// Who sends it.
    pub sender: &'a AgentId,
    /// Who shall read it.
    pub recipient: &'a AgentId,
    /// The envelope as canonical JSON.
    pub envelope: &'a str,
    /// The sender's name for the exchange.
    pub correlation_id: &'a str,
    /// What it answers.
    pub reply_to: Option<&'a str>,
    /// The envelope's nonce: once per sender.
    pub nonce: &'a str,
    /// Now.
    pub at: Stamp,
    /// When it is not delivered any more.
    pub expires_at: Stamp,
}

/// Which statement of [`NewMessage::enqueue`] was rejected tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnqueueStep {
    /// The sender used this correlation id towards this recipient before.
    Duplicate = 0,
    /// The sender used this nonce before.
    NonceReused = 1,
}

impl NewMessage<'_> {
    /// The key under which the existing system files a one-shot (contract `calls.md` §7).
    fn idempotency_key(&self) -> String {
        format!("oneshot:{}", self.correlation_id)
    }

    /// The statements, in the order of [`EnqueueStep`].
    #[must_use]
    pub fn enqueue(&self) -> [Statement; 2] {
        let key = self.idempotency_key();
        [
            Statement::one(
                "INSERT INTO message_keys (sender, recipient, idempotency_key, msg_id) VALUES (?1, ?2, ?3, ?4)",
                vec![self.sender.into(), self.recipient.into(), key.clone().into(), self.msg_id.into()],
            ),
            Statement::one(
                "INSERT INTO local_messages (msg_id, sender_agent_id, recipient_agent_id, payload_ciphertext, \
                 idempotency_key, delivery_status, enqueued_at, expires_at, nonce, is_oneshot, correlation_id, \
                 reply_to_correlation_id) VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, 1, ?9, ?10)",
                vec![
                    self.msg_id.into(),
                    self.sender.into(),
                    self.recipient.name().into(),
                    self.envelope.into(),
                    key.into(),
                    self.at.into(),
                    self.expires_at.into(),
                    format!("{}|{}", self.sender, self.nonce).into(),
                    self.correlation_id.into(),
                    self.reply_to.into(),
                ],
            ),
        ]
    }

    /// The message that was filed under the same key before.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn earlier(&self, store: &Store) -> Result<Option<String>, ReadError> {
        let sql =
            "SELECT msg_id FROM message_keys WHERE sender = ?1 AND recipient = ?2 AND idempotency_key = ?3";
        let values = vec![self.sender.into(), self.recipient.into(), self.idempotency_key().into()];
        let rows = store.rows(Query::new("message_keys", sql, values)).await?;
        Ok(rows.first().map(|row| row.text("msg_id").map(str::to_owned)).transpose()?)
    }
}

/// A message waiting for its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingMessage {
    /// Its id.
    pub msg_id: String,
    /// Who sent it; rows of the existing system may hold other forms than an agent id.
    pub sender: String,
    /// The envelope.
    pub envelope: String,
    /// The sender's name for the exchange.
    pub correlation_id: Option<String>,
    /// What it answers.
    pub reply_to: Option<String>,
    /// The key it is filed under.
    pub idempotency_key: Option<String>,
    /// When it was accepted.
    pub enqueued_at: Stamp,
    /// When it is not delivered any more.
    pub expires_at: Option<Stamp>,
}

impl WaitingMessage {
    fn read(row: &Row) -> Result<Self, RowError> {
        let text = |column| row.text_or_null(column).map(|text| text.map(str::to_owned));
        Ok(Self {
            msg_id: row.text("msg_id")?.to_owned(),
            sender: row.text("sender_agent_id")?.to_owned(),
            envelope: row.text("payload_ciphertext")?.to_owned(),
            correlation_id: text("correlation_id")?,
            reply_to: text("reply_to_correlation_id")?,
            idempotency_key: text("idempotency_key")?,
            enqueued_at: row.stamp("enqueued_at")?,
            expires_at: row.stamp_or_null("expires_at")?,
        })
    }
}

/// What waits for `recipient`, oldest first, expired messages and those not accepted after `since` left out. Its id or its bare name may be in the column.
///
/// # Errors
/// When the database cannot be read or a row is illegal.
pub async fn inbox(
    store: &Store,
    recipient: &AgentId,
    since: Option<Stamp>,
    now: Stamp,
    limit: u32,
) -> Result<Vec<WaitingMessage>, ReadError> {
    let sql = "SELECT msg_id, sender_agent_id, payload_ciphertext, correlation_id, reply_to_correlation_id, \
               idempotency_key, enqueued_at, expires_at FROM local_messages \
               WHERE recipient_agent_id IN (?1, ?2) AND is_oneshot = 1 AND delivery_status = 0 \
               AND (expires_at IS NULL OR expires_at > ?3) AND (?5 IS NULL OR enqueued_at > ?5) \
               ORDER BY enqueued_at, msg_id LIMIT ?4";
    let (limit, since) = (i64::from(limit).into(), since.into());
    let values = vec![recipient.into(), recipient.name().into(), now.into(), limit, since];
    let rows = store.rows(Query::new(TABLE, sql, values)).await?;
    Ok(rows.iter().map(WaitingMessage::read).collect::<Result<_, RowError>>()?)
}

/// The waiting message `msg_id` of `recipient`.
///
/// # Errors
/// When the database cannot be read or the row is illegal.
pub async fn waiting(
    store: &Store,
    recipient: &AgentId,
    msg_id: &str,
) -> Result<Option<WaitingMessage>, ReadError> {
    let sql = "SELECT msg_id, sender_agent_id, payload_ciphertext, correlation_id, reply_to_correlation_id, \
               idempotency_key, enqueued_at, expires_at FROM local_messages \
               WHERE msg_id = ?3 AND recipient_agent_id IN (?1, ?2) AND is_oneshot = 1 AND delivery_status = 0";
    let values = vec![recipient.into(), recipient.name().into(), msg_id.into()];
    let rows = store.rows(Query::new(TABLE, sql, values)).await?;
    Ok(rows.first().map(WaitingMessage::read).transpose()?)
}

/// Marks a waiting message as read; touches no row when it is not waiting for `recipient`.
#[must_use]
pub fn acknowledge(recipient: &AgentId, msg_id: &str, at: Stamp) -> Statement {
    Statement::one(
        "UPDATE local_messages SET delivery_status = 1, delivered_at = ?4 \
         WHERE msg_id = ?3 AND recipient_agent_id IN (?1, ?2) AND is_oneshot = 1 AND delivery_status = 0",
        vec![recipient.into(), recipient.name().into(), msg_id.into(), at.into()],
    )
}

/// Marks what ran out as expired, and forgets what was delivered or expired before `forget_before`.
#[must_use]
pub fn sweep(now: Stamp, forget_before: Stamp) -> [Statement; 3] {
    [
        Statement::any(
            "UPDATE local_messages SET delivery_status = 2, expired_at = ?1 \
             WHERE delivery_status = 0 AND expires_at IS NOT NULL AND expires_at <= ?1",
            vec![now.into()],
        ),
        Statement::any(
            // By the primary key: the column of the recipient holds a bare name, of the sender's organisation.
            "DELETE FROM message_keys WHERE (sender, recipient, idempotency_key, msg_id) IN (SELECT sender_agent_id, \
             substr(sender_agent_id, 1, instr(sender_agent_id, '::') + 1) || recipient_agent_id, \
             idempotency_key, msg_id FROM local_messages \
             WHERE is_oneshot = 1 AND delivery_status IN (1, 2) AND enqueued_at < ?1)",
            vec![forget_before.into()],
        ),
        Statement::any(
            "DELETE FROM local_messages WHERE is_oneshot = 1 AND delivery_status IN (1, 2) AND enqueued_at < ?1",
            vec![forget_before.into()],
        ),
    ]
}
