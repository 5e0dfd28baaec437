//! `mastio serve`: from the environment to a running server, and down again on SIGTERM.

use std::{io, path::PathBuf, sync::Arc};

use clap::Args;
use mastio_config::{LogFormat, Settings, Source, proxy_env};
use mastio_core::{SystemClock, SystemRng};
use mastio_http::telemetry::{self, Format};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    Ended,
    out::complain,
    server::{Server, ServerError},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder with proxy.env, data and certificates.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Ended {
    let mut source = Source::from_process(&arguments.dir);
    if proxy_env::is_wanted(&source, &arguments.dir) {
        match std::fs::create_dir_all(&arguments.dir)
            .and_then(|()| proxy_env::write_fresh(&arguments.dir, &SystemRng))
        {
            Ok(path) => {
                complain!(
                    "first start: wrote {} with a fresh admin secret and dashboard key",
                    path.display()
                );
            }
            Err(error) => {
                complain!("proxy.env could not be written into {}: {error}", arguments.dir.display());
                return Ended::CannotStart;
            }
        }
        source = Source::from_process(&arguments.dir);
    }
    let loaded = match Settings::load(&source, &arguments.dir) {
        Ok(loaded) => loaded,
        Err(problems) => {
            complain!("{problems}");
            return Ended::Refused;
        }
    };
    start_log(&loaded.settings);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // The runbook sends operators to the line after this one.
    tracing::info!("Waiting for application startup.");
    match runtime(&loaded.settings)
        .map_err(ServerError::Io)
        .and_then(|runtime| runtime.block_on(serve(loaded.settings)))
    {
        Ok(()) => Ended::Done,
        Err(error) => {
            tracing::error!("{error}");
            Ended::CannotStart
        }
    }
}

fn start_log(settings: &Settings) {
    let format = match settings.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    if let Err(error) = telemetry::init(format, "info", Arc::new(SystemClock::default())) {
        complain!("the log cannot be started: {error}");
    }
}

/// As many threads as `MASTIO_WORKERS` says, else as there are processors.
pub(crate) fn runtime(settings: &Settings) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = settings.workers {
        builder.worker_threads(workers.get());
    }
    builder.enable_all().build()
}

async fn serve(settings: Settings) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::start(settings, Arc::new(SystemClock::default()), Arc::new(SystemRng)).await?;
    let org = server.authority.trust().org.clone();
    let plain = server.plain.map_or_else(|| "off".to_owned(), |address| address.to_string());
    tracing::info!(tls = %server.tls, plain, org = %org, "Application startup complete.");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping: finishing what is under way");
    server.stop().await;
    tracing::info!("stopped");
    Ok(())
}
