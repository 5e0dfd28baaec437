//! A running Mastio: the authority, its listeners and the work around them, started and stopped in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use mastio_authority::{
    Authority,
    boot::{self, BootError},
    files::{FilesError, ServerMaterial},
};
use mastio_config::Settings;
use mastio_core::{Clock, Rng};
use mastio_http::{
    App, Trust,
    listen::{self, Limits},
    metrics::ConnectionMetrics,
    tls::{ServerTls, TlsError},
};
use mastio_ledger::{
    ClockWatch, anchor::AnchorError, search::IndexPace, syslog::Told, witness::push::Pushing,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// How often files and counters are looked after.
const TEND_EVERY: Duration = Duration::from_secs(1);
/// How often entries are looked for that the search index lacks, and the pause before each portion of them.
const INDEX_EVERY: Duration = Duration::from_secs(2);
const INDEX_PAUSE: Duration = Duration::from_millis(5);
/// How often messages that ran out are swept.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Why the server does not run: exit code 3.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    /// The address is taken or not ours.
    #[error("{advice} ({source})")]
    Address {
        /// What to do.
        advice: String,
        /// What the system said.
        source: io::Error,
    },
    /// The authority.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The roots of the time stamping authority.
    #[error(transparent)]
    TimeStamps(#[from] AnchorError),
    /// The TLS files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The TLS certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A metric.
    #[error("metrics: {0}")]
    Metrics(String),
    /// A thread or signal.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A server that answers.
pub(crate) struct Server {
    /// The authority behind it.
    pub(crate) authority: Arc<Authority>,
    /// Where it listens for TLS.
    pub(crate) tls: SocketAddr,
    /// Where it listens for a proxy.
    pub(crate) plain: Option<SocketAddr>,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Server {
    /// Binds, boots and starts to answer.
    pub(crate) async fn start(
        mut settings: Settings,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, ServerError> {
        raise_file_limit();
        let tls = bind(&settings, settings.listen.tls)?;
        let plain = settings.listen.plain.map(|address| bind(&settings, address)).transpose()?;
        // With port 0 the system chose one: proofs of possession name it.
        settings.listen.tls = tls.local_addr()?;
        settings.listen.plain = plain.as_ref().map(TcpListener::local_addr).transpose()?;
        let (at, plain_at) = (settings.listen.tls, settings.listen.plain);
        let trust = Trust::new(settings.trusted_proxies.clone(), settings.edge_secret.clone());
        let authority = boot::start(settings, clock, rng).await?;
        let app = App::new(Arc::clone(&authority));
        app.ledger().check_tsa_trust().await?;
        let (public, behind_proxy) =
            app.routers().map_err(|error| ServerError::Metrics(error.to_string()))?;
        let metrics = ConnectionMetrics::register(&authority.metrics.registry)
            .map_err(|error| ServerError::Metrics(error.to_string()))?;
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        // An intermediate that ended while nobody was running certifies no server.
        authority.keep_keys().await;
        authority.leave_ended_root().await;
        authority.keep_files().await?;
        if let Some(material) = authority.tls_files().serving() {
            let (chain, key) = der(&material);
            let server_tls = Arc::new(ServerTls::new(chain, key)?);
            tasks.spawn(listen::serve_tls(
                tls,
                Arc::clone(&server_tls),
                public,
                Limits::default(),
                metrics.clone(),
                stopping.clone(),
            ));
            tasks.spawn(serve_newest(authority.tls_files().watch(), server_tls, stopping.clone()));
            tasks.spawn(tend(Arc::clone(&authority), stopping.clone()));
        }
        if let Some(plain) = plain {
            tasks.spawn(listen::serve_plain(
                plain,
                behind_proxy,
                trust,
                Limits::behind_proxy(),
                metrics,
                stopping.clone(),
            ));
        }
        keep(&app, &mut tasks, &stopping);
        Ok(Self { authority, tls: at, plain: plain_at, app, stop, tasks })
    }

    /// Finishes what is under way, then closes the store: what was accepted is durable when this returns.
    pub(crate) async fn stop(mut self) {
        self.app.drain();
        // Receivers that are gone have stopped already.
        let _ = self.stop.send(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the server ended badly");
            }
        }
        self.authority.flush_denials(true);
        let settle = self.authority.store().submit(mastio_store::Unit::default());
        if let Err(error) = settle.await {
            tracing::error!(%error, "the store could not be settled at the end");
        }
        if let Err(error) = self.app.ledger().checkpoint_now().await {
            tracing::warn!(%error, "the last entries are in no checkpoint yet");
        }
    }
}

/// The work around the listeners.
fn keep(app: &Arc<App>, tasks: &mut JoinSet<()>, stopping: &watch::Receiver<bool>) {
    let authority = app.ledger().authority();
    tasks.spawn(publish_revocations(Arc::clone(authority), stopping.clone()));
    tasks.spawn(watch_expiry(Arc::clone(authority), stopping.clone()));
    tasks.spawn(tend_rotation(Arc::clone(authority), stopping.clone()));
    tasks.spawn(watch_clock(Arc::clone(app), stopping.clone()));
    tasks.spawn(app.ledger().clone().keep_anchors(stopping.clone()));
    tasks.spawn(index_audit(Arc::clone(app), stopping.clone()));
    tasks.spawn(sweep(Arc::clone(app), stopping.clone()));
    let witnessing = &authority.settings.audit.witnessing;
    for witness in witnessing.witnesses.clone() {
        tasks.spawn(send_to_witness(Arc::clone(app), Pushing::to(witness), stopping.clone()));
    }
    if witnessing.syslog.is_some() {
        tasks.spawn(tell_syslog(Arc::clone(app), stopping.clone()));
    }
    tasks.spawn(keep_log(Arc::clone(app), stopping.clone()));
    tasks.spawn(self_check(Arc::clone(app), stopping.clone()));
    tasks.spawn(keep_archive(Arc::clone(app), stopping.clone()));
    tasks.spawn(watch_disk(Arc::clone(app), stopping.clone()));
}

/// Connections are files to the system, and its usual limit is far below ours.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn bind(settings: &Settings, address: SocketAddr) -> Result<TcpListener, ServerError> {
    listen::bind(address)
        .map_err(|source| ServerError::Address { advice: settings.address_taken(address), source })
}

fn der(material: &ServerMaterial) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain =
        material.chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    let key = PrivatePkcs8KeyDer::from(material.key.to_pkcs8_der().to_vec());
    (chain, key.into())
}

/// Counters, keys and files that age.
async fn tend(authority: Arc<Authority>, mut stopping: watch::Receiver<bool>) {
    while !wait(&mut stopping, TEND_EVERY).await {
        authority.tend().await;
        if let Err(error) = authority.keep_files().await {
            tracing::error!(%error, "the TLS files could not be kept");
        }
    }
}

/// A server certificate that is made again is served from the next handshake on.
async fn serve_newest(
    mut newest: watch::Receiver<Option<ServerMaterial>>,
    tls: Arc<ServerTls>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            Ok(()) = newest.changed() => {}
            _ = stopping.changed() => return,
        }
        let Some(material) = newest.borrow_and_update().clone() else { continue };
        let (chain, key) = der(&material);
        match tls.swap(chain, key) {
            Ok(()) => tracing::info!("a new TLS server certificate is served"),
            Err(error) => tracing::error!(%error, "the new TLS server certificate cannot be served"),
        }
    }
}

async fn sweep(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    while !wait(&mut stopping, SWEEP_EVERY).await {
        if let Err(error) = app.gateway().sweep().await {
            tracing::warn!(%error, "messages that ran out could not be swept");
        }
    }
}

/// The tree over the audit log, and its checkpoints.
async fn keep_log(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    loop {
        app.ledger().keep_log().await;
        if wait(&mut stopping, TEND_EVERY).await {
            return;
        }
    }
}

/// New checkpoints, to one witness.
async fn send_to_witness(app: Arc<App>, mut pushing: Pushing, mut stopping: watch::Receiver<bool>) {
    loop {
        app.ledger().keep_witness(&mut pushing).await;
        if wait(&mut stopping, TEND_EVERY).await {
            return;
        }
    }
}

/// New checkpoints, to the system log.
async fn tell_syslog(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let mut told = Told::default();
    loop {
        app.ledger().keep_syslog(&mut told).await;
        if wait(&mut stopping, TEND_EVERY).await {
            return;
        }
    }
}

async fn self_check(app: Arc<App>, stopping: watch::Receiver<bool>) {
    app.ledger().keep_self_checking(stopping).await;
}

/// Archives that somebody began.
async fn keep_archive(app: Arc<App>, stopping: watch::Receiver<bool>) {
    app.ledger().keep_archive(stopping).await;
}

async fn watch_disk(app: Arc<App>, stopping: watch::Receiver<bool>) {
    app.ledger().watch_disk(stopping).await;
}

/// Revocation lists: at once when something was revoked, and again when they get old.
async fn publish_revocations(authority: Arc<Authority>, mut stopping: watch::Receiver<bool>) {
    loop {
        let pause = authority.keep_crl().await;
        if wait(&mut stopping, pause).await {
            return;
        }
        tokio::select! {
            () = authority.crl().woken() => {}
            stopped = wait(&mut stopping, TEND_EVERY) => if stopped { return },
        }
    }
}

/// The ends of certificates: counted for the gauges, told when they come near, and put off where that is ours to do.
async fn watch_expiry(authority: Arc<Authority>, mut stopping: watch::Receiver<bool>) {
    loop {
        authority.keep_keys().await;
        authority.watch_expiry().await;
        if wait(&mut stopping, TEND_EVERY).await {
            return;
        }
    }
}

/// A rotation of the Org CA with overlap, which goes on when all agents have followed.
async fn tend_rotation(authority: Arc<Authority>, mut stopping: watch::Receiver<bool>) {
    while !wait(&mut stopping, TEND_EVERY).await {
        authority.tend_rotation().await;
    }
}

/// A clock that is set back makes the dates of entries doubtful, and the log says so.
async fn watch_clock(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let ledger = app.ledger();
    let mut clock = ClockWatch::start(ledger.authority().clock().as_ref());
    let mut told = ledger.check_clock_at_start().await;
    loop {
        if let Err(error) = told {
            tracing::warn!(%error, "whether the clock was set back could not be told");
        }
        if wait(&mut stopping, TEND_EVERY).await {
            return;
        }
        told = ledger.watch_clock(&mut clock).await;
    }
}

/// The index that the audit log is searched by. A search finds what is not in it yet all the same, so requests come
/// first.
async fn index_audit(app: Arc<App>, mut stopping: watch::Receiver<bool>) {
    let (ledger, mut pace) = (app.ledger(), IndexPace::default());
    while !wait(&mut stopping, INDEX_EVERY).await {
        let mut due = ledger.chunks_due(&mut pace).await;
        while let Ok(1..) = due {
            if wait(&mut stopping, INDEX_PAUSE).await {
                return;
            }
            due = ledger.index_next().await.and(due).map(|chunks| chunks - 1);
        }
        if let Err(error) = due {
            tracing::warn!(%error, "the audit log could not be indexed; it is tried again");
        }
    }
}

/// Waits, or returns true when the server stops.
async fn wait(stopping: &mut watch::Receiver<bool>, time: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => false,
        _ = stopping.wait_for(|stop| *stop) => true,
    }
}

#[cfg(test)]
mod tests;
