//! Refusals of use cases as answers.

use std::net::IpAddr;

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use mastio_authority::{
    Authority, Refusal, authenticate::AuthError, limits::OverLimit, mint::MintError, seconds_up,
};
use mastio_jose::DpopError;

use crate::answer::ApiError;

/// The reason of what is not signed because signing is halted.
const HALTED: &str = "signing_halted";
pub(super) const HINT: HeaderName = HeaderName::from_static("x-cullis-hint");

impl<R: Refusal> From<R> for ApiError {
    fn from(refusal: R) -> Self {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match status {
            // Every agent meets a halt, and goes on meeting it; what halts was told as the error that it is.
            StatusCode::SERVICE_UNAVAILABLE if refusal.reason() == HALTED => {
                tracing::warn!(reason = HALTED, error = %refusal, "a request could not be served");
            }
            status if status.is_server_error() => {
                tracing::error!(reason = refusal.reason(), error = %refusal, "a request could not be served");
            }
            _ => {}
        }
        let retry_after = refusal.retry_after();
        let answer = match status {
            StatusCode::INTERNAL_SERVER_ERROR => Self::internal(),
            StatusCode::SERVICE_UNAVAILABLE if refusal.unavailable().is_some() => {
                Self::unavailable(refusal.detail(), refusal.reason(), 1, refusal.reason())
            }
            _ => Self::new(status, refusal.reason(), refusal.detail()),
        };
        match retry_after {
            Some(time) => answer.with_header(RETRY_AFTER, HeaderValue::from(seconds_up(time))),
            None => answer,
        }
    }
}

/// The answer to credentials that do not hold; counted and told to the audit log.
pub(crate) fn unauthenticated(authority: &Authority, address: IpAddr, error: AuthError) -> ApiError {
    if error.status() == 401 {
        authority.deny(error.reason(), address);
    }
    challenged(authority, error, "DPoP realm=\"egress\", algs=\"ES256 PS256\"")
}

/// The same at the mint, which challenges for a bearer (contract `auth.md` §5).
pub(crate) fn not_minted(authority: &Authority, address: IpAddr, error: MintError) -> ApiError {
    if error.status() == 401 {
        authority.deny(error.reason(), address);
    }
    let bearer = "Bearer realm=\"mcp-proxy\"";
    match error {
        MintError::Auth(error) => challenged(authority, error, bearer),
        MintError::Unbound => {
            ApiError::from(error).with_header(WWW_AUTHENTICATE, HeaderValue::from_static(bearer))
        }
        error => ApiError::from(error),
    }
}

fn challenged(authority: &Authority, error: AuthError, challenge: &'static str) -> ApiError {
    let challenge = if error.wants_nonce() { "DPoP error=\"use_dpop_nonce\"" } else { challenge };
    let hint = error.is_htu_mismatch();
    let ends = matches!(error, AuthError::Revoked { .. } | AuthError::Unknown { .. } | AuthError::TokenEnded);
    let development = authority.settings.environment == mastio_config::Environment::Development;
    let both = match &error {
        AuthError::Dpop(DpopError::Url { expected, got }) if development => {
            Some(format!("{error} (expected='{expected}', got='{got}')"))
        }
        _ => None,
    };
    let mut answer = ApiError::from(error);
    if let Some(detail) = both {
        answer.detail = detail.into();
    }
    if answer.status == StatusCode::UNAUTHORIZED {
        answer = answer.with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if ends {
        // Whoever was revoked or switched off reads why, and then has to connect anew (design decision 8).
        answer = answer.with_header(CONNECTION, HeaderValue::from_static("close"));
    }
    if hint {
        answer = answer.with_header(HINT, HeaderValue::from_static("htu_mismatch_check_proxy_public_url"));
    }
    answer
}

/// The answer to one request too many.
pub(crate) fn over_limit(authority: &Authority, over: OverLimit) -> ApiError {
    authority.metrics.rate_limit_reject.with_label_values(&[over.class.as_str()]).inc();
    tracing::warn!(class = over.class.as_str(), "rate_limit.reject");
    over.into()
}
