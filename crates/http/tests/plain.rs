//! The plain listener: whom it believes, what it bears, and how it stops.
#![expect(clippy::unwrap_used, reason = "a test fails by it, in its helpers too")]

mod support;

use std::time::Duration;

use axum::body::Body;
use http::Request;
use mastio_http::{Trust, listen::Limits};
use support::{Door, PATIENCE, Pki, Server, send, start};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

async fn plain(trusted: &[&str], limits: Limits) -> Server {
    let networks = trusted.iter().map(|network| network.parse().unwrap()).collect();
    start(&Pki::new(), Door::Plain(Trust::new(networks, None)), limits).await
}

fn get(path: &str) -> http::request::Builder {
    Request::get(path).header("host", "localhost")
}

/// Sends bytes as they are and reads until the server closes: the first line of the answer.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = server.tcp().await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as its end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn forwarded_headers_count_only_from_a_trusted_proxy() {
    for (trusted, expected) in [
        (&["127.0.0.0/8"][..], "1.2.3.4 NotVerified(\"FAILED:expired\")"),
        (&["10.0.0.0/8"], "127.0.0.1 None"),
        (&[], "127.0.0.1 None"),
    ] {
        let server = plain(trusted, Limits::behind_proxy()).await;
        let forwarded = |path| {
            get(path)
                .header("x-forwarded-for", "6.6.6.6, 1.2.3.4, 127.0.0.9")
                .header("x-ssl-client-verify", "FAILED:expired")
                .header("x-forwarded-proto", "https")
                .body(Body::empty())
                .unwrap()
        };
        assert_eq!(send(server.tcp().await, forwarded("/peer")).await, (200, expected.into()));
        assert_eq!(send(server.tcp().await, forwarded("/headers")).await, (200, "host".into()));
    }
}

#[tokio::test]
async fn a_chunked_body_over_the_cap_is_a_413() {
    let server = plain(&[], Limits::default()).await;
    let chunk = format!("258\r\n{}\r\n", "a".repeat(0x258));
    let head =
        "POST /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = raw(&server, format!("{head}{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = raw(&server, format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("request_body_too_large"), "{answer}");
}

#[tokio::test]
async fn hostile_heads_never_make_a_500() {
    let server = plain(&["127.0.0.1/32"], Limits::default()).await;
    let names = [
        "x-request-id",
        "x-forwarded-for",
        "x-real-ip",
        "x-ssl-client-cert",
        "x-ssl-client-verify",
        "forwarded",
        "content-length",
        "content-type",
        "x-cullis-role",
        "if-none-match",
        "host",
    ];
    let values = [
        &b""[..],
        b"\xff\xfe\x80",
        b"\x00",
        b"-1",
        b"99999999999999999999",
        b",,,,",
        b"%",
        b"%0",
        b"SUCCESS",
        b"\t\"",
        b"a\r\nx: y",
        &[b'9'; 5000],
    ];
    for name in names {
        for value in values {
            let request = [
                b"GET /peer HTTP/1.1\r\nconnection: close\r\nx-ssl-client-verify: SUCCESS\r\n",
                name.as_bytes(),
                b": ",
                value,
                b"\r\n\r\n",
            ]
            .concat();
            let answer = raw(&server, &request).await;
            let status = answer.get(9..10).unwrap_or_default();
            assert!(matches!(status, "2" | "4"), "{name}: {value:?} -> {answer}");
        }
    }
}

#[tokio::test]
async fn a_request_in_flight_is_finished_and_idle_connections_do_not_hold_the_stop() {
    let server = plain(&[], Limits::default()).await;
    let (silent, idle) = (server.tcp().await, server.tcp().await);
    let mut idle_reader = idle;
    idle_reader.write_all(b"GET /peer HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_ne!(idle_reader.read(&mut [0; 512]).await.unwrap(), 0);

    let slow = tokio::spawn(send(server.tcp().await, get("/slow").body(Body::empty()).unwrap()));
    timeout(PATIENCE, server.begun.notified()).await.unwrap();
    server.stop.send(true).unwrap();
    // The listener is closed first; what is in flight is awaited.
    timeout(PATIENCE, async {
        while tokio::net::TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(!server.served.is_finished());
    server.release.notify_one();
    assert_eq!(slow.await.unwrap(), (200, "done".into()));
    timeout(Duration::from_secs(5), server.served).await.unwrap().unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_cut() {
    let server = plain(&[], Limits { drain: Duration::from_millis(50), ..Limits::default() }).await;
    let mut stream = server.tcp().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    timeout(PATIENCE, server.begun.notified()).await.unwrap();
    drop(server.stop);
    timeout(PATIENCE, server.served).await.unwrap().unwrap();
    assert!(timeout(PATIENCE, stream.read(&mut [0; 8])).await.unwrap().map_or(true, |read| read == 0));
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_a_freed_place_is_given_again() {
    for (limits, reason) in [
        (Limits { connections: 1, ..Limits::default() }, "listener"),
        (Limits { per_address: 1, ..Limits::default() }, "address"),
    ] {
        let server = plain(&[], limits).await;
        let first = occupied(&server).await;
        assert_eq!(server.refused(reason), 0);
        let mut second = server.tcp().await;
        assert!(timeout(PATIENCE, second.read(&mut [0; 8])).await.unwrap().map_or(true, |read| read == 0));
        assert_eq!(server.refused(reason), 1);
        drop(first);
        let served = timeout(PATIENCE, async {
            while !raw(&server, b"GET /peer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 200")
            {}
        });
        served.await.unwrap();
    }
}

/// A connection that was answered and stays open.
async fn occupied(server: &Server) -> tokio::net::TcpStream {
    let mut stream = server.tcp().await;
    stream.write_all(b"GET /peer HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_ne!(timeout(PATIENCE, stream.read(&mut [0; 512])).await.unwrap().unwrap(), 0);
    stream
}

#[tokio::test]
async fn a_trusted_proxy_has_as_many_connections_as_there_are_places() {
    let server = plain(&["127.0.0.0/8"], Limits { per_address: 1, ..Limits::default() }).await;
    let _open = [occupied(&server).await, occupied(&server).await, occupied(&server).await];
    assert_eq!(server.refused("address"), 0);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut() {
    let server = plain(&[], Limits { header_read: Duration::from_millis(50), ..Limits::default() }).await;
    for beginning in ["", "GET /peer HTTP/1.1\r\nhost:"] {
        let answer = raw(&server, beginning.as_bytes()).await;
        assert!(!answer.contains("200"), "{answer}");
    }
}

#[tokio::test]
async fn a_taken_port_is_reported() {
    let server = plain(&[], Limits::default()).await;
    let error = mastio_http::listen::bind(server.address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
