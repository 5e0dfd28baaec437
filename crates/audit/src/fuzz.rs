//! The parsers here that see bytes before authentication, as plain functions that take any bytes and must return.

use crate::{tree::TreeHead, witness::AddCheckpoint};

/// The body of a request to a witness. What is read is written again as it was, but for how base64 is written.
pub fn add_checkpoint(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(request) = text.parse::<AddCheckpoint>() else { return };
    let _ = request.relation_to(&TreeHead::empty());
    let _ = request.relation_to(&request.checkpoint.unverified().head);
    debug_assert_eq!(request.to_string().parse().as_ref(), Ok(&request));
}
