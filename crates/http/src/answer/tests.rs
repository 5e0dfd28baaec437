use http::header::CONTENT_TYPE;

use super::*;

async fn parts(response: Response) -> (StatusCode, http::HeaderMap, Option<Reason>, String) {
    let (head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let reason = head.extensions.get::<Reason>().copied();
    (head.status, head.headers, reason, String::from_utf8(bytes.to_vec()).unwrap())
}

#[derive(Debug, serde::Deserialize)]
struct Order {
    name: String,
    #[serde(default)]
    count: u32,
}

async fn parse(body: &'static str, content_type: Option<&str>) -> Result<Order, ApiError> {
    let mut request = Request::new(axum::body::Body::from(body));
    if let Some(content_type) = content_type {
        request.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
    }
    StrictJson::from_request(request, &()).await.map(|StrictJson(order)| order)
}

#[tokio::test]
async fn refusals_have_the_shapes_of_the_contract() {
    let (status, headers, reason, body) = parts(ApiError::body_too_large(7).into_response()).await;
    assert_eq!(status, 413);
    assert_eq!(headers["x-cullis-shed-reason"], "request_body_too_large");
    assert_eq!(reason, Some(Reason("request_body_too_large")));
    assert_eq!(
        body,
        r#"{"detail":"Request body exceeds the per-request size limit of 7 bytes.","error":"request_body_too_large"}"#
    );

    let shed = ApiError::unavailable("later", "audit_unavailable", 5, "audit");
    let (status, headers, _, body) = parts(shed.into_response()).await;
    assert_eq!((status.as_u16(), &headers[RETRY_AFTER]), (503, &HeaderValue::from(5)));
    assert_eq!(headers["x-cullis-shed-reason"], "audit");
    assert_eq!(body, r#"{"detail":"later","error":"audit_unavailable"}"#);

    let denied = ApiError::new(
        StatusCode::UNAUTHORIZED,
        "agent_unknown",
        json!({"reason": "agent_unknown", "hint": "enroll"}),
    );
    let (status, headers, reason, body) = parts(denied.into_response()).await;
    assert_eq!(
        (status.as_u16(), &headers[CONTENT_TYPE]),
        (401, &HeaderValue::from_static("application/json"))
    );
    assert_eq!(reason, Some(Reason("agent_unknown")));
    assert_eq!(body, r#"{"detail":{"hint":"enroll","reason":"agent_unknown"}}"#);

    let (status, headers, ..) =
        parts(ApiError::too_many("Rate limit exceeded", Some(60)).into_response()).await;
    assert_eq!((status.as_u16(), &headers[RETRY_AFTER]), (429, &HeaderValue::from(60)));
}

#[tokio::test]
async fn a_body_is_read_whatever_its_content_type() {
    for content_type in [None, Some("text/plain"), Some("application/json")] {
        let order = parse(r#"{"name": "x", "count": 2}"#, content_type).await.unwrap();
        assert_eq!((order.name.as_str(), order.count), ("x", 2));
    }
}

#[tokio::test]
async fn a_bad_body_is_a_422_that_says_where() {
    let cases = [
        ("", "missing", json!(["body"])),
        ("{", "json_invalid", json!(["body", 1])),
        (r#"{"name":"x"}{}"#, "json_invalid", json!(["body", 13])),
        ("{}", "missing", json!(["body", "name"])),
        (r#"{"name": 1}"#, "value_error", json!(["body"])),
        (r#"["x", 2]"#, "value_error", json!(["body"])),
        (" [\"x\"]", "value_error", json!(["body"])),
        ("null", "value_error", json!(["body"])),
        (" ", "missing", json!(["body"])),
        ("\"\u{e9}\\ud800\"", "json_invalid", json!(["body", 10])),
    ];
    for (body, kind, loc) in cases {
        let error = parse(body, None).await.unwrap_err();
        assert_eq!(error.status, 422, "{body}");
        let Detail::Object(list) = error.detail else { panic!("no list for {body}") };
        assert_eq!(
            (&list[0]["type"], &list[0]["loc"], &list[0]["input"]),
            (&json!(kind), &loc, &Value::Null),
            "{body}"
        );
        assert!(list[0]["msg"].is_string());
    }
}
