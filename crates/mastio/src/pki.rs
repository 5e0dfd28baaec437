//! `mastio pki`: certificates. `sign-csr` is for organisations that bring their own CA.

mod updates;

use std::{fs, io::Write, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use mastio_authority::sign_csr::sign_request;
use mastio_config::{Settings, Source};
use mastio_core::{AgentId, Principal, SpiffeId};
use mastio_pki::{Certificate, CsrKind};

use crate::{Ended, deployment::Deployment};

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Sign a certificate request with the Org CA: a CA of your own (--ca) or the certificate of one agent (--agent).
    SignCsr(SignCsr),
    /// List, apply and roll back framework updates of a running Mastio.
    #[command(subcommand)]
    Updates(updates::Command),
}

#[derive(Args)]
pub(crate) struct SignCsr {
    /// Make it a CA that may issue agent certificates, and nothing below them.
    #[arg(long, conflicts_with = "agent", required_unless_present = "agent")]
    ca: bool,
    /// Make it the certificate of this agent: ORG::NAME.
    #[arg(long)]
    agent: Option<String>,
    /// The request in PEM.
    #[arg(long)]
    csr: PathBuf,
    /// Where the certificate goes.
    #[arg(long)]
    out: PathBuf,
    /// How long it is valid.
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// The folder with proxy.env and data.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(command: &Command) -> Ended {
    let arguments = match command {
        Command::SignCsr(arguments) => arguments,
        Command::Updates(command) => return updates::run(command),
    };
    match sign(arguments) {
        Ok(certificate) => {
            println!("signed {}, valid until {}", certificate.subject(), certificate.not_after());
            println!("written to {}", arguments.out.display());
            Ended::Done
        }
        Err(error) => {
            eprintln!("{error}");
            Ended::Refused
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn sign(arguments: &SignCsr) -> Result<Certificate, Failure> {
    let settings = Settings::load(&Source::from_process(&arguments.dir), &arguments.dir)?.settings;
    let pem = fs::read_to_string(&arguments.csr)
        .map_err(|error| format!("{} cannot be read: {error}", arguments.csr.display()))?;
    let lifetime = DAY * arguments.days;
    let kind = match &arguments.agent {
        None => CsrKind::Ca { lifetime },
        Some(id) => {
            let id = AgentId::parse(id)?;
            let principal = Principal::parse(id.as_str())?;
            let spiffe = SpiffeId::of_agent(&settings.trust_domain, &principal.org, &principal.name);
            CsrKind::Client { principal, spiffe, lifetime }
        }
    };
    let mut out = fs::File::create_new(&arguments.out)
        .map_err(|error| format!("{} cannot be made: {error}", arguments.out.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let certificate = runtime.block_on(sign_with_org_ca(&settings, &pem, &kind))?;
    out.write_all(certificate.pem().as_bytes())?;
    Ok(certificate)
}

/// Signs with the root of the deployment that `settings` describe, whether or not a server is running on it.
pub(crate) async fn sign_with_org_ca(
    settings: &Settings,
    pem: &str,
    kind: &CsrKind,
) -> Result<Certificate, Failure> {
    let deployment = Deployment::open(settings)?;
    let Deployment { org, custody, clock, rng, .. } = &deployment;
    if let CsrKind::Client { principal, .. } = kind
        && principal.org != *org
    {
        return Err(format!("{principal} is not an agent of this organisation, {org}").into());
    }
    let store = deployment.store()?;
    let signed = sign_request(&store, custody, (clock.as_ref(), rng.as_ref()), pem, kind).await;
    store.close();
    Ok(signed?)
}
