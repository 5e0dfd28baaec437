//! What a server answers.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ClientError;

/// How much of an answer without `detail` is shown, in characters.
const EXCERPT: usize = 300;

/// A whole answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Method and path of the request, for messages.
    pub(crate) request: String,
}

impl Answer {
    /// Reads the body as JSON, whatever the status.
    ///
    /// # Errors
    /// [`ClientError::Malformed`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|source| ClientError::Malformed { request: self.request.clone(), source })
    }

    /// Why the server refused: the text of `detail`, its JSON if it is none, or the beginning of a body without one.
    #[must_use]
    pub fn detail(&self) -> String {
        let body: Option<Value> = serde_json::from_slice(&self.body).ok();
        match body.as_ref().and_then(|body| body.get("detail")) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::from_utf8_lossy(&self.body).chars().take(EXCERPT).collect(),
        }
    }

    /// A header's text, if it is there and readable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// This answer, if it is a success.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub fn success(self) -> Result<Self, ClientError> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(ClientError::Refused { status: self.status, detail: self.detail(), request: self.request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: body.into(), request: "GET /x".into() }
    }

    #[test]
    fn details_are_texts_objects_or_whatever_was_sent() {
        assert_eq!(answer(401, r#"{"detail":"use_dpop_nonce"}"#).detail(), "use_dpop_nonce");
        assert_eq!(answer(401, r#"{"detail":{"reason":"pin"}}"#).detail(), r#"{"reason":"pin"}"#);
        assert_eq!(answer(502, "<html>").detail(), "<html>");
        assert_eq!(answer(502, "").detail(), "");
    }

    #[test]
    fn refusals_name_request_status_and_detail() {
        assert!(answer(204, "").success().is_ok());
        let error = answer(409, r#"{"detail":"already enrolled"}"#).success().unwrap_err();
        assert_eq!(error.to_string(), "GET /x was refused with 409 Conflict: already enrolled");
        let error = answer(200, "5").json::<String>().unwrap_err();
        assert!(error.to_string().starts_with("the answer to GET /x is malformed"), "{error}");
    }
}
