//! Bad input: whatever comes before or after the credentials gets a 4xx that says why, and the server goes on.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mastio_client::{Agent, Answer, Client, ClientError, Identity};
use mastio_core::{Rng, SystemRng};
use mastio_jose::SigningKey;
use mastio_pki::{KeyPair, issued_chain};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyUsagePurpose, SanType};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{ADMIN_SECRET, Mastio, PATIENCE, Place, X_ADMIN_SECRET};

fn is_refused(what: &str, answer: &Answer) {
    assert!(answer.status.is_client_error(), "{what}: {} {}", answer.status, answer.detail());
    let body: Option<Value> = answer.json().ok();
    let detail = body.as_ref().and_then(|body| body.get("detail"));
    assert!(detail.is_some_and(|detail| !detail.is_null()), "{what}: no detail in {:?}", answer.body);
}

async fn goes_on(server: &Mastio) {
    server.ready().await;
    assert!(!server.log().contains("panic"), "{}", server.log());
    assert!(!server.log().contains("status=500"), "{}", server.log());
}

/// Bodies that no endpoint can want.
fn bodies() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "null",
        "7",
        "[]",
        "\"text\"",
        "{",
        "{}x",
        "\u{feff}{}",
        "{\"client_assertion\":7,\"nonce\":[]}",
        "{\"client_assertion\":{},\"nonce\":{}}",
        "{\"client_assertion\":\"a.b.c\",\"nonce\":\"n\"}",
        "{\"client_assertion\":\"\",\"client_assertion\":\"\"}",
        "{\"agent_name\":{}}",
        "{\"agent_name\":\"../x\"}",
        "{\"agent_name\":\"x\",\"capabilities\":\"all\"}",
        "{\"agent_name\":\"x\",\"cert_pem\":\"x\"}",
        "{\"agent_name\":\"x\",\"cert_pem\":\"x\",\"private_key_pem\":\"x\"}",
        "{\"jwk\":{\"kty\":\"oct\"}}",
        "{\"recipient_id\":7}",
        "{\"recipient_id\":\"spiffe://\"}",
    ];
    let mut bodies: Vec<_> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    bodies.push(b"\xff\xfe{}".to_vec());
    bodies.push("[".repeat(30_000).into());
    bodies.push(format!("{{\"client_assertion\":{}", "{\"a\":".repeat(10_000)).into());
    bodies.push(format!("{{\"client_assertion\":\"{}\"}}", "a".repeat(60_000)).into());
    bodies
}

#[tokio::test]
async fn bodies_of_the_wrong_kind_are_refused_by_every_endpoint() {
    let place = Place::new();
    let server = place.serve().await;
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());
    let (mut anybody, mut certified) = (server.client(None).connect(), server.client(Some(&alice)).connect());
    let mut agent = server.agent(&alice);
    let dpop_jwk = format!("/v1/admin/agents/{}/dpop-jwk", alice.agent_id());
    let secret = HeaderMap::from_iter([(X_ADMIN_SECRET, HeaderValue::from_static(ADMIN_SECRET))]);
    for body in bodies() {
        let shown: String = String::from_utf8_lossy(&body).chars().take(60).collect();
        for path in ["/v1/auth/token", "/v1/auth/login-challenge", "/v1/auth/sign-challenged-assertion"] {
            let answer = anybody.request(Method::POST, path, HeaderMap::new(), body.clone()).await.unwrap();
            is_refused(&format!("{path} {shown}"), &answer);
        }
        let path = "/v1/auth/sign-challenged-assertion";
        let answer = certified.request(Method::POST, path, HeaderMap::new(), body.clone()).await.unwrap();
        is_refused(&format!("{path} {shown}"), &answer);
        for path in ["/v1/admin/agents", "/v1/admin/agents/enroll/byoca", &dpop_jwk] {
            let answer = anybody.request(Method::POST, path, secret.clone(), body.clone()).await.unwrap();
            is_refused(&format!("{path} {shown}"), &answer);
        }
        for path in ["/v1/egress/resolve", "/v1/egress/message/send"] {
            let answer = agent.call_mtls(Method::POST, path, body.clone()).await.unwrap();
            is_refused(&format!("{path} {shown}"), &answer);
        }
    }
    goes_on(&server).await;
}

#[tokio::test]
async fn hostile_heads_are_refused() {
    let place = Place::new();
    let server = place.serve().await;
    let whoami = "/v1/auth/whoami";
    let headers: [&[(&'static str, &[u8])]; 8] = [
        &[("dpop", b"a.b.c"), ("dpop", b"a.b.c")],
        &[("dpop", b"\xff\xfe"), ("authorization", b"DPoP a.b.c")],
        &[("authorization", b"DPoP")],
        &[("authorization", b"Bearer \xff")],
        &[("authorization", b"Bearer eyJhbGciOiJub25lIn0.e30.")],
        &[("x-api-key", b"sk_live")],
        &[("x-ssl-client-cert", b"%FF%00"), ("x-ssl-client-verify", b"SUCCESS")],
        &[("x-request-id", b"\xff"), ("x-forwarded-for", b"nowhere")],
    ];
    for fields in headers {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
        }
        let answer = server.ask(Method::GET, whoami, headers, String::new()).await;
        is_refused(&format!("{fields:?}"), &answer);
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{fields:?}");
    }
    for secret in [&b"\xc3\xa9"[..], b"\xff", b" ", &[b'a'; 8000]] {
        let headers = HeaderMap::from_iter([(X_ADMIN_SECRET, HeaderValue::from_bytes(secret).unwrap())]);
        let answer = server.ask(Method::GET, "/v1/admin/agents", headers, String::new()).await;
        is_refused("admin secret", &answer);
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    for path in
        ["/v1/admin/agents/%ff", "/v1/admin/agents/%00", "/v1/admin/agents/..%2f..", "/v1/admin/agents/x"]
    {
        is_refused(path, &server.operator(Method::DELETE, path, &Value::Null).await);
    }
    for path in
        ["/nothing", "/v1/federation/agents/%ff/public-key", "/v1/federation/agents/%e2%98%83/public-key"]
    {
        is_refused(path, &server.get(path).await);
    }
    goes_on(&server).await;
}

#[tokio::test]
async fn queries_of_the_wrong_kind_are_refused() {
    let place = Place::new();
    let server = place.serve().await;
    let alice = Arc::new(server.admin().create_agent("alice", "Alice", &[]).await.unwrap());
    let mut agent = server.agent(&alice);
    for path in
        ["/v1/egress/peers?limit=many", "/v1/egress/peers?limit=-1", "/v1/egress/message/inbox?limit=%ff"]
    {
        is_refused(path, &agent.call_mtls(Method::GET, path, "").await.unwrap());
    }
    goes_on(&server).await;
}

/// Sends bytes as they are; all that comes back before the server closes or the limit ends.
async fn raw(server: &Mastio, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.plain)).await.unwrap();
    // A server that has seen enough may close while we still write.
    drop(stream.write_all(bytes).await);
    drop(stream.shutdown().await);
    let mut answer = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it closes"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn bytes_that_are_no_http_end_the_connection_and_nothing_else() {
    let place = Place::new();
    let server = place.serve().await;
    let mut noise = vec![0; 4096];
    SystemRng.fill(&mut noise);
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let lengths =
        "POST /v1/auth/token HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for bytes in [&noise, long.as_bytes(), many.as_bytes(), lengths.as_bytes(), tls, b"\r\n\r\n", b"GET"] {
        let answer = raw(&server, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    goes_on(&server).await;
}

#[tokio::test]
async fn a_chunked_body_over_the_cap_is_cut() {
    let mut place = Place::new();
    let server = place.set("MCP_PROXY_MAX_REQUEST_BODY_BYTES", "65536").serve().await;
    let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
    let request = format!(
        "POST /v1/auth/token HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(5),
    );
    let answer = raw(&server, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"detail\":"), "{answer}");
    goes_on(&server).await;
}

/// A certificate for `name` that an agent signed with its own key, as if it were a CA.
fn signed_by_an_agent(signer: &Identity, name: &str) -> Identity {
    let org = signer.agent_id().org();
    let key = KeyPair::generate_p256().unwrap();
    let mut child = CertificateParams::default();
    child.distinguished_name.push(DnType::CommonName, format!("{org}::{name}"));
    child.subject_alt_names =
        vec![SanType::URI(format!("spiffe://cullis.local/{org}/{name}").try_into().unwrap())];
    child.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    child.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issuer = Issuer::from_ca_cert_pem(&signer.chain()[0].pem(), signer.key()).unwrap();
    let child = child.signed_by(&key, &issuer).unwrap().pem();
    let child = mastio_pki::Certificate::from_pem(&child).unwrap();
    assert!(child.is_signed_by(&signer.chain()[0]), "the attack is a real one");
    Identity::new(&issued_chain(&child, signer.chain()), key).unwrap()
}

fn status(result: Result<(), ClientError>) -> u16 {
    match result {
        Ok(()) => 200,
        Err(ClientError::Refused { status, .. }) => status.as_u16(),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_agent_is_no_ca() {
    let place = Place::new();
    let server = place.serve().await;
    let mut admin = server.admin();
    let alice = Arc::new(admin.create_agent("alice", "Alice", &[]).await.unwrap());
    admin.create_agent("victim", "Victim", &[]).await.unwrap();
    let child = Arc::new(signed_by_an_agent(&alice, "victim"));

    let login = async |client: Client, identity: &Arc<Identity>| {
        let mut agent = Agent::new(&client, Arc::clone(identity), SigningKey::generate().unwrap());
        let result = agent.login_direct().await;
        assert_eq!(agent.access_token().is_some(), result.is_ok());
        status(result)
    };
    assert_eq!(login(server.client(None), &alice).await, 200, "the way is open for a real agent");
    assert_eq!(login(server.client(None), &child).await, 401, "by x5c");
    assert_eq!(login(server.client(Some(&child)), &child).await, 401, "by x5c and TLS");
    assert_eq!(status(server.agent(&child).login_mtls().await), 401, "by TLS");
    assert_eq!(status(server.agent(&child).login().await), 401, "by challenge");

    let newcomer = signed_by_an_agent(&alice, "newcomer");
    let enrolled = admin.enroll_byoca("newcomer", "", &[], &newcomer, None).await;
    assert_eq!(status(enrolled.map(drop)), 400, "by enrolment");
    assert_eq!(admin.agents().await.unwrap().len(), 2);
    goes_on(&server).await;
}
