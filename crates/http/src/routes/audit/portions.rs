//! Answers that are as long as what they hand out.

use std::error::Error;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use mastio_ledger::portions::{Portions, Stalled};

/// The body of an answer that hands out `what`, at the pace of the client.
pub(super) fn body<E>(portions: Portions<E>, what: &'static str) -> Body
where
    E: From<Stalled> + Error + Send + Sync + 'static,
{
    let (sender, body) = Channel::new(1);
    tokio::spawn(feed(sender, portions, what));
    Body::new(body)
}

/// If reading fails in between, the answer breaks off, so that half of it is not mistaken for the whole. A client that
/// went away ends the reading.
async fn feed<E: From<Stalled> + Error>(
    mut sender: Sender<Bytes, E>,
    mut portions: Portions<E>,
    what: &'static str,
) {
    loop {
        match portions.next().await {
            Ok(None) => return,
            Ok(Some(bytes)) => {
                if sender.send_data(bytes.into()).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "{what} breaks off");
                return sender.abort(error);
            }
        }
    }
}
