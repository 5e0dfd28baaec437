//! An agent's side of the Mastio: enrol, log in, call.
//!
//! Read it from the bottom up:
//!
//! - [`Identity`]: an agent's certificates and key; [`assertion`] and [`proof`] are what it signs to log in and call
//!   (contract `auth.md` §3, §4),
//! - [`Client`]: where the Mastio is, whom to trust there and which certificate to show; it opens [`Connection`]s,
//!   which carry requests and return each [`Answer`] as it came,
//! - [`Agent`]: logs in by any of three sequences and calls with what it got (contract `auth.md` §15); opened from a
//!   directory it renews its certificate by itself, and it follows a rotation of the Org CA,
//! - [`Message`] and [`Received`]: one-shot messages, signed here and verified there (contract `calls.md` §7, §9),
//! - [`Admin`]: what an operator's script does with the admin secret (contract `enrollment.md` §4, §5).

mod admin;
mod agent;
mod answer;
mod assertion;
mod client;
mod connection;
mod egress;
mod error;
mod folder;
mod following;
mod identity;
mod message;
mod proof;
mod prover;
mod renewal;
#[cfg(test)]
mod testing;

pub use admin::{Admin, EnrolledAgent, RegisteredAgent};
pub use agent::{Agent, Login};
pub use answer::Answer;
pub use assertion::assertion;
pub use client::{Client, ClientBuilder};
pub use connection::Connection;
pub use egress::{Peer, Resolved, Sent, Whoami};
pub use error::ClientError;
pub use identity::{Identity, IdentityError};
pub use message::{Message, MessageError, Received, VerifiedMessage, signed_message_body};
pub use proof::proof;
