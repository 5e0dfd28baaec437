//! Listeners: they accept, bound and serve connections, and let requests finish when told to stop.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use mastio_authority::peer::Peer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tower::Service;

use crate::{
    crowd::{self, Crowd},
    forwarded::{self, Trust},
    metrics::{Bound, ConnectionMetrics},
    tls::{self, ServerTls},
};

/// How many connections the system may hold back before we accept them.
const BACKLOG: u32 = 1024;

/// How long a listener rests when the system has no file descriptor or memory left.
const REST: Duration = Duration::from_millis(100);

/// The bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most connections at a time; one more is closed at once.
    pub connections: usize,
    /// Most connections at a time from one address, a /64 being one; one more is closed at once. Proxies that are
    /// believed are exempt: they speak for many.
    pub per_address: usize,
    /// Longest TLS handshake.
    pub handshake: Duration,
    /// Longest wait for the whole head of a request; also how long a connection may idle between two.
    pub header_read: Duration,
    /// How long requests may take to finish once the listener is told to stop; then they are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_address: 1000,
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(30),
            drain: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// For the plain listener: a proxy keeps its idle connections for 60 s (contract `operations.md` §13) and must be
    /// the one who closes them, else a request can meet a closed connection.
    #[must_use]
    pub fn behind_proxy() -> Self {
        Self { header_read: Duration::from_secs(75), ..Self::default() }
    }
}

/// Tells a listener to stop: when the value is true, or the sender is gone.
pub type Shutdown = watch::Receiver<bool>;

/// Takes an address, also one that a predecessor has just left.
///
/// # Errors
/// The system's own, such as [`io::ErrorKind::AddrInUse`].
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves TLS until `shutdown`. The client is the socket's other end, and what headers forward is removed unread.
/// Each request carries an `Arc<`[`Peer`]`>` in its extensions.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    router: Router,
    limits: Limits,
    metrics: ConnectionMetrics,
    shutdown: Shutdown,
) {
    let doorman = Doorman::new(Entry::Tls(tls), limits, metrics);
    serve(listener, doorman, router, limits, shutdown).await;
}

/// Serves plain HTTP until `shutdown`, believing the proxies in `trust`.
/// Each request carries an `Arc<`[`Peer`]`>` in its extensions.
pub async fn serve_plain(
    listener: TcpListener,
    router: Router,
    trust: Trust,
    limits: Limits,
    metrics: ConnectionMetrics,
    shutdown: Shutdown,
) {
    let doorman = Doorman::new(Entry::Plain(Arc::new(trust)), limits, metrics);
    serve(listener, doorman, router, limits, shutdown).await;
}

/// What stands at the door.
#[derive(Clone)]
enum Entry {
    Tls(Arc<ServerTls>),
    Plain(Arc<Trust>),
}

/// How the other end of a request is found.
#[derive(Clone)]
enum Origin {
    /// The same for all requests of the connection.
    Known(Arc<Peer>),
    /// By the headers of each request.
    Told(IpAddr, Arc<Trust>),
}

impl Origin {
    fn of(&self, headers: &http::HeaderMap) -> Arc<Peer> {
        match self {
            Self::Known(peer) => Arc::clone(peer),
            Self::Told(socket, trust) => Arc::new(trust.peer(*socket, headers)),
        }
    }
}

/// Decides who comes in.
struct Doorman {
    entry: Entry,
    places: Arc<Semaphore>,
    crowd: Arc<Crowd>,
    metrics: ConnectionMetrics,
}

/// What a connection holds as long as it is open.
type Seat = (OwnedSemaphorePermit, Option<crowd::Place>);

impl Doorman {
    fn new(entry: Entry, limits: Limits, metrics: ConnectionMetrics) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        Self { entry, places, crowd: Crowd::new(limits.per_address), metrics }
    }

    fn admit(&self, address: IpAddr) -> Result<Seat, Bound> {
        let exempt = matches!(&self.entry, Entry::Plain(trust) if trust.is_proxy(address));
        let place = match exempt {
            true => None,
            false => Some(self.crowd.admit(address).ok_or(Bound::Address)?),
        };
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Bound::Listener)?;
        Ok((permit, place))
    }
}

async fn serve(listener: TcpListener, doorman: Doorman, router: Router, limits: Limits, shutdown: Shutdown) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut told_to_stop = std::pin::pin!(stopped(shutdown.clone()));
    loop {
        let (stream, socket) = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut told_to_stop => break,
        };
        while connections.try_join_next().is_some() {}
        let seat = match doorman.admit(socket.ip()) {
            Ok(seat) => seat,
            Err(bound) => {
                doorman.metrics.refused(bound);
                tracing::debug!(%socket, ?bound, "too many connections, one closed");
                continue;
            }
        };
        let connection = Connection {
            socket: socket.ip(),
            router: router.clone(),
            limits,
            shutdown: shutdown.clone(),
            watcher: graceful.watcher(),
        };
        let entry = doorman.entry.clone();
        connections.spawn(async move {
            if let Err(error) = connection.run(stream, entry).await {
                tracing::debug!(%socket, error, "connection ended");
            }
            drop(seat);
        });
    }
    drop(listener);
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
        while connections.try_join_next().is_some() {}
        tracing::warn!(connections = connections.len(), "requests did not finish in time and were cut");
    }
}

/// Ends when the order to stop comes; a sender that is gone is one as well.
async fn stopped(mut shutdown: Shutdown) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// The next connection. Errors of a single one are passed over; when the system is exhausted, it rests.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused => {}
                _ => {
                    tracing::error!(%error, "cannot accept connections: check the limit of open files");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// One accepted connection, and what it needs to know.
struct Connection {
    socket: IpAddr,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
    watcher: Watcher,
}

impl Connection {
    async fn run(self, stream: TcpStream, entry: Entry) -> Result<(), Failed> {
        stream.set_nodelay(true)?;
        match entry {
            Entry::Tls(tls) => self.run_tls(stream, &tls).await,
            Entry::Plain(trust) => self.run_plain(stream, trust).await,
        }
    }

    async fn run_tls(self, stream: TcpStream, tls: &ServerTls) -> Result<(), Failed> {
        let handshake = tls.acceptor().accept(stream);
        let Some(stream) = self.open(self.limits.handshake, handshake).await? else { return Ok(()) };
        let (_, session) = stream.get_ref();
        let certificate = tls::peer_certificate(session.peer_certificates());
        let http = protocol(&self.limits);
        // What was not negotiated must not be guessed from the first bytes: guessing has no time-out.
        let http =
            if session.alpn_protocol() == Some(tls::ALPN[0]) { http.http2_only() } else { http.http1_only() };
        let origin = Origin::Known(Arc::new(Peer { address: self.socket.to_canonical(), certificate }));
        self.requests(stream, http, origin).await
    }

    async fn run_plain(self, stream: TcpStream, trust: Arc<Trust>) -> Result<(), Failed> {
        // The wait for the first byte, after which the protocol is guessed, has no bound of its own either.
        if self.open(self.limits.header_read, stream.peek(&mut [0])).await?.is_none() {
            return Ok(());
        }
        let (http, origin) = (protocol(&self.limits), Origin::Told(self.socket, trust));
        self.requests(stream, http, origin).await
    }

    /// Waits for a connection to become usable, unless the listener stops: then there is nothing to finish on it.
    async fn open<T>(
        &self,
        limit: Duration,
        opening: impl Future<Output = io::Result<T>>,
    ) -> Result<Option<T>, Failed> {
        tokio::select! {
            opened = timeout(limit, opening) => Ok(Some(opened??)),
            () = stopped(self.shutdown.clone()) => Ok(None),
        }
    }

    async fn requests<S>(self, stream: S, http: Builder<TokioExecutor>, origin: Origin) -> Result<(), Failed>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router;
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            let peer = origin.of(request.headers());
            forwarded::strip(request.headers_mut());
            request.extensions_mut().insert(peer);
            router.clone().call(request)
        });
        let served = http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        self.watcher.watch(served).await
    }
}

fn protocol(limits: &Limits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_read);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.header_read)
        .max_header_list_size(128 * 1024);
    http
}
