//! `mastio pki`: `sign-csr` for organisations that bring their own CA, [`rotate_org_ca`], and rotations of a running
//! Mastio.

mod asking;
mod doctor;
mod lineage;
mod rotate;
mod rotate_keys;
pub(crate) mod rotate_org_ca;
mod rotations;
mod running;
mod stopped;
mod updates;

use std::{fs, io::Write, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use mastio_authority::sign_csr::{Signed, sign_request};
use mastio_config::{Settings, Source};
use mastio_core::{AgentId, Principal, SpiffeId};
use mastio_pki::CsrKind;

use crate::{
    Ended,
    deployment::Deployment,
    out::{complain, say},
};

const DAY: Duration = Duration::from_secs(86_400);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Sign a certificate request with the Org CA: a CA of your own (--ca) or the certificate of one agent (--agent).
    SignCsr(SignCsr),
    /// Look at everything that is stored about certificates, and say what does not hold, what ends when, and what a
    /// rotation would break. Changes nothing. Exit code 2 if something does not hold.
    Doctor(doctor::Arguments),
    /// Show which root took the place of which, and on whose word; export it for auditors, or verify such a file.
    Lineage(lineage::Arguments),
    /// Replace the Org CA of a Mastio that is stopped; of a running one, `mastio pki rotate` does.
    RotateOrgCa(rotate_org_ca::RotateOrgCa),
    /// Replace the Org CA of a running Mastio: at once, or agent by agent (--transition overlap).
    Rotate(rotate::Rotate),
    /// List the rotations of the Org CA, the newest first.
    Rotations(rotations::List),
    /// Show one rotation, how far it is and who is left; with --watch until there is nothing more to see.
    Rotation(rotations::Show),
    /// Stop a rotation with overlap from going on by itself.
    Pause(rotations::One),
    /// Let a rotation that was paused go on by itself.
    Resume(rotations::One),
    /// Give up a rotation with overlap: what was before is again. With --offline of a Mastio that is stopped.
    Abort(rotations::Abort),
    /// Take the next step of a rotation with overlap, if everybody has followed, or in any case (--force).
    Advance(rotations::Advance),
    /// Have another key sign tokens. Tokens of the present one go on to verify.
    RotateSigningKey(rotate_keys::SigningKey),
    /// Have the Org CA certify another intermediate, and that another signing key. Agents go on with what they have.
    RotateIntermediate(rotate_keys::Intermediate),
    /// End a rotation of the signing key that was interrupted, so that signing goes on.
    CompleteStaged(rotate_keys::CompleteStaged),
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
    match command {
        Command::SignCsr(arguments) => sign_csr(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Lineage(arguments) => lineage::run(arguments),
        Command::RotateOrgCa(arguments) => rotate_org_ca::run(arguments),
        Command::Rotate(arguments) => ended(rotate::run(arguments)),
        Command::Rotations(arguments) => ended(rotations::list(arguments)),
        Command::Rotation(arguments) => ended(rotations::show(arguments)),
        Command::Pause(arguments) => ended(rotations::act(arguments, "pause")),
        Command::Resume(arguments) => ended(rotations::act(arguments, "resume")),
        Command::Abort(arguments) => ended(rotations::abort(arguments)),
        Command::Advance(arguments) => ended(rotations::advance(arguments)),
        Command::RotateSigningKey(arguments) => ended(rotate_keys::signing_key(arguments)),
        Command::RotateIntermediate(arguments) => ended(rotate_keys::intermediate(arguments)),
        Command::CompleteStaged(arguments) => ended(rotate_keys::complete_staged(arguments)),
        Command::Updates(command) => ended(updates::run(command)),
    }
}

/// Says what was done, or why not.
fn ended(done: Result<String, Failure>) -> Ended {
    match done {
        Ok(said) => {
            say!("{said}");
            Ended::Done
        }
        Err(error) => {
            complain!("{error}");
            Ended::Refused
        }
    }
}

fn sign_csr(arguments: &SignCsr) -> Ended {
    match sign(arguments) {
        Ok(signed) => {
            let Signed { certificate, root, ends_with } = signed;
            say!("signed {}, valid until {}", certificate.subject(), certificate.not_after());
            say!("below the root {} ({})", root.subject(), root.thumbprint());
            say!("written to {}", arguments.out.display());
            if let Some(rotation) = ends_with {
                say!(
                    "this root goes at the end of the rotation {}, now in {}, and what it signed goes with it; \
                     what is to stay, sign again from activated on",
                    rotation.id,
                    rotation.phase.as_str()
                );
            }
            Ended::Done
        }
        Err(error) => {
            complain!("{error}");
            Ended::Refused
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn sign(arguments: &SignCsr) -> Result<Signed, Failure> {
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
    let signed = runtime.block_on(sign_with_org_ca(&settings, &pem, &kind)).inspect_err(|_| {
        // The next try finds its place free.
        let _ = fs::remove_file(&arguments.out);
    })?;
    out.write_all(signed.certificate.pem().as_bytes())?;
    Ok(signed)
}

/// Signs with the root of the deployment that `settings` describe, whether or not a server is running on it.
pub(crate) async fn sign_with_org_ca(
    settings: &Settings,
    pem: &str,
    kind: &CsrKind,
) -> Result<Signed, Failure> {
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
