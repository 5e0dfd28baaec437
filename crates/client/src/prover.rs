//! A connection on which every request carries a proof of possession.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::AUTHORIZATION};
use mastio_core::{Clock, Rng};
use mastio_jose::{SigningKey, ath};

use crate::{Answer, ClientError, Connection, proof};

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: &str = "dpop-nonce";
/// Since when the certificate should be renewed; whatever the time, it has come.
const RENEW_AFTER: &str = "x-cullis-cert-renew-after";
/// The SHA-256 of the trust file that an agent should have, in hex: sent while the Org CA is rotated.
const TRUST_BUNDLE: &str = "x-cullis-trust-bundle";
const COUNTERSIGNATURE: HeaderName = HeaderName::from_static("x-cullis-mastio-signature");

/// One request, as often as it must be sent.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// With query, if any.
    pub(crate) path: &'a str,
    pub(crate) body: Bytes,
    /// What the Mastio signed to a broker about a login (contract `auth.md` §5).
    pub(crate) countersignature: Option<&'a str>,
    /// Whether the answer grows with the organisation, and may be as large as that.
    pub(crate) lists: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, path: &'a str, body: impl Into<Bytes>) -> Self {
        Self { method, path, body: body.into(), countersignature: None, lists: false }
    }

    pub(crate) fn get(path: &'a str) -> Self {
        Self::new(Method::GET, path, Bytes::new())
    }

    pub(crate) fn list(path: &'a str) -> Self {
        Self { lists: true, ..Self::get(path) }
    }

    pub(crate) fn post(path: &'a str, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, path, body)
    }
}

/// Makes proofs, with the last nonce that the server sent.
pub(crate) struct Prover {
    pub(crate) connection: Connection,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    nonce: Option<String>,
    /// The server said that the certificate is due.
    pub(crate) renewal_hinted: bool,
    /// The SHA-256 of the trust file that the server said to have last, in hex.
    pub(crate) bundle_hinted: Option<String>,
}

impl Prover {
    pub(crate) fn new(connection: Connection, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self { connection, clock, rng, nonce: None, renewal_hinted: false, bundle_hinted: None }
    }

    /// Something that was never used before: for `jti`, nonces and correlation ids.
    pub(crate) fn unique(&self) -> String {
        self.rng.uuid().to_string()
    }

    /// Sends a call proven by `key`, bound to `token` if there is one; once more if the server asks for its nonce
    /// (RFC 9449 §8).
    pub(crate) async fn send(
        &mut self,
        call: &Call<'_>,
        key: &SigningKey,
        token: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let answer = self.send_once(call, key, token).await?;
        if asks_for_nonce(&answer) { self.send_once(call, key, token).await } else { Ok(answer) }
    }

    async fn send_once(
        &mut self,
        call: &Call<'_>,
        key: &SigningKey,
        token: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let headers = self.headers(call, key, token)?;
        let client = self.connection.client();
        let max_answer = if call.lists { client.max_list() } else { client.max_answer() };
        let (method, body) = (call.method.clone(), call.body.clone());
        let answer = self.connection.request_up_to(max_answer, method, call.path, headers, body).await?;
        if let Some(nonce) = answer.header(DPOP_NONCE) {
            self.nonce = Some(nonce.to_owned());
        }
        self.renewal_hinted |= answer.header(RENEW_AFTER).is_some();
        if let Some(bundle) = answer.header(TRUST_BUNDLE) {
            self.bundle_hinted = Some(bundle.to_owned());
        }
        Ok(answer)
    }

    fn headers(
        &self,
        call: &Call<'_>,
        key: &SigningKey,
        token: Option<&str>,
    ) -> Result<HeaderMap, ClientError> {
        let path = call.path.split_once('?').map_or(call.path, |(path, _)| path);
        let htu = format!("{}{path}", self.connection.client().origin());
        let ath = token.map(ath);
        let (nonce, jti) = (self.nonce.as_deref(), self.unique());
        let proof = proof(key, &call.method, &htu, ath.as_deref(), nonce, &jti, self.clock.now())?;
        let mut headers = HeaderMap::from_iter([(DPOP, secret(&proof)?)]);
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, secret(&format!("DPoP {token}"))?);
        }
        if let Some(signature) = call.countersignature {
            headers.insert(COUNTERSIGNATURE, secret(signature)?);
        }
        Ok(headers)
    }
}

/// A header value that Debug does not show.
pub(crate) fn secret(text: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::try_from(text).map_err(http::Error::from)?;
    value.set_sensitive(true);
    Ok(value)
}

fn asks_for_nonce(answer: &Answer) -> bool {
    let named = || answer.body.windows(14).any(|window| window == b"use_dpop_nonce");
    answer.status == StatusCode::UNAUTHORIZED && answer.header(DPOP_NONCE).is_some() && named()
}
