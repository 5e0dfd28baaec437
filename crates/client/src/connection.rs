//! One kept-alive HTTP/1.1 connection.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, Request,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    rt::{Read, Write},
};

use crate::{Answer, Client, ClientError};

pub(crate) type Sender = SendRequest<Full<Bytes>>;

/// One connection, one request at a time. It is opened by its first request, and again when the server closed it.
pub struct Connection {
    client: Client,
    /// `None` before the first request, and while one is under way: what was cut off is never used again.
    sender: Option<Sender>,
}

impl Connection {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, sender: None }
    }

    /// Where it leads.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// From the next time that it is opened it leads by way of `client`. What is open stays open.
    pub(crate) fn reopen_by(&mut self, client: Client) {
        self.client = client;
    }

    /// Sends a request and reads the whole answer, whatever its status. `path` may have a query; a body is sent as JSON
    /// unless the headers say otherwise.
    ///
    /// # Errors
    /// When there is no answer, or a larger one than [`crate::ClientBuilder::max_answer`] lets in. A request is repeated
    /// only if no byte of it was sent.
    pub async fn request(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        self.request_up_to(self.client.max_answer(), method, path, headers, body).await
    }

    /// As [`Self::request`], for an answer whose body may have `max_answer` bytes.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_up_to(
        &mut self,
        max_answer: usize,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        let name = format!("{method} {path}");
        let request = self.compose(method, path, headers, body.into())?;
        let limit = self.client.timeout();
        match tokio::time::timeout(limit, self.exchange(request, max_answer)).await {
            Ok(Ok((head, Some(body)))) => {
                Ok(Answer { status: head.status, headers: head.headers, body, request: name })
            }
            Ok(Ok((_, None))) => Err(ClientError::TooLarge { request: name, limit: max_answer }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ClientError::Timeout(name)),
        }
    }

    fn compose(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let has_body = !body.is_empty();
        let mut request = Request::builder().method(method).uri(path).body(Full::new(body))?;
        let ours = request.headers_mut();
        *ours = headers;
        let host = HeaderValue::try_from(self.client.authority()).map_err(http::Error::from)?;
        ours.entry(HOST).or_insert(host);
        if has_body {
            ours.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }

    /// The answer, without its body if that is more than `max_answer`.
    async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
        max_answer: usize,
    ) -> Result<(http::response::Parts, Option<Bytes>), ClientError> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => return self.keep(sender, response, max_answer).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let mut sender = self.client.open().await?;
        let response = sender.send_request(request).await?;
        self.keep(sender, response, max_answer).await
    }

    /// Reads the body, after which the connection may carry the next request; one that is too large ends it.
    async fn keep(
        &mut self,
        sender: Sender,
        response: http::Response<Incoming>,
        max_answer: usize,
    ) -> Result<(http::response::Parts, Option<Bytes>), ClientError> {
        let (head, body) = response.into_parts();
        let body = read(body, max_answer).await?;
        if body.is_some() {
            self.sender = Some(sender);
        }
        Ok((head, body))
    }
}

/// The whole body, unless it has more than `limit` bytes.
async fn read(mut body: Incoming, limit: usize) -> Result<Option<Bytes>, hyper::Error> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            if data.len() > limit - whole.len() {
                return Ok(None);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(Some(whole.freeze()))
}

/// Begins HTTP/1.1 on a fresh stream; the task that drives it ends with the connection.
pub(crate) async fn handshake<S>(stream: S) -> Result<Sender, ClientError>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let (sender, driver) = http1::handshake(stream).await?;
    // A failure reaches the request that is on the connection; the driver has nothing to add.
    tokio::spawn(async move { drop(driver.await) });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::testing::{
        Pki,
        server::{Server, reply},
    };

    #[tokio::test]
    async fn a_connection_is_kept_until_the_server_closes_it() {
        let pki = Pki::new();
        let server = Server::start(&pki, |_, seen| {
            let close: &[_] = if seen.path == "/close" { &[("connection", "close")] } else { &[] };
            reply(200, close, &json!({ "path": seen.path }))
        })
        .await;
        let root = pki.root_and_key().0.pem();
        let mut connection = Client::builder(&server.origin).ca_pem(&root).build().unwrap().connect();
        for path in ["/a", "/close", "/b", "/c"] {
            let answer = connection.request(Method::GET, path, HeaderMap::new(), "").await.unwrap();
            assert_eq!(answer.json::<serde_json::Value>().unwrap()["path"], path);
        }
        let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [1, 1, 2, 2]);
        let authority = server.origin.strip_prefix("https://");
        assert_eq!(server.seen()[0].header("host"), authority);
    }

    #[tokio::test]
    async fn a_server_of_another_authority_is_refused() {
        let server = Server::start(&Pki::new(), |_, _| reply(200, &[], &json!({}))).await;
        let other = Pki::new().root_and_key().0.pem();
        let mut connection = Client::builder(&server.origin).ca_pem(&other).build().unwrap().connect();
        let error = connection.request(Method::GET, "/", HeaderMap::new(), "").await.unwrap_err();
        assert!(matches!(error, ClientError::Handshake { .. }), "{error}");
        assert!(server.seen().is_empty());
    }

    /// Answers every request with a body without end, as long as anybody reads it; how much it has sent.
    async fn endless() -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, sent) =
            (format!("http://{}", listener.local_addr().unwrap()), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let asked = stream.read(&mut [0; 4096]).await.unwrap();
                assert!(asked > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                while stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {
                    counted.fetch_add(1 << 16, Ordering::Relaxed);
                }
            }
        });
        (url, sent)
    }

    #[tokio::test]
    async fn no_more_is_read_than_an_answer_may_be() {
        let (url, sent) = endless().await;
        let builder = || Client::builder(&url);
        for (builder, limit) in [(builder(), 1 << 20), (builder().max_answer(100), 100)] {
            let mut connection = builder.build().unwrap().connect();
            // Twice: the connection of before is of no use any more.
            for _ in 0..2 {
                let answer = connection.request(Method::GET, "/x", HeaderMap::new(), "").await;
                let told =
                    format!("the answer to GET /x is larger than {limit} bytes, more than is read of one");
                assert_eq!(answer.unwrap_err().to_string(), told);
            }
        }
        // The rest is what the system holds between the two.
        assert!(sent.load(Ordering::Relaxed) < 32 << 20);
    }

    #[tokio::test]
    async fn silence_ends_in_a_timeout() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let client = Client::builder(&url).timeout(Duration::from_millis(50)).build().unwrap();
        let error = client.connect().request(Method::GET, "/x", HeaderMap::new(), "").await.unwrap_err();
        assert!(matches!(&error, ClientError::Timeout(request) if request == "GET /x"), "{error}");
    }
}
