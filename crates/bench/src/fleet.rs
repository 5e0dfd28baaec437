//! A hundred thousand agents: how long a start takes with them, and how much memory.

use std::path::Path;

use mastio_core::{Clock, PrincipalKind, Rng, SystemRng, Thumbprint};
use mastio_pki::profile;
use mastio_store::{
    Unit,
    agents::{Method, NewAgent, PinnedLeaf},
    revocations::Revocation,
};

use crate::{
    audit,
    bench::Bench,
    caller::{self, FLEET, Kind},
    error::BenchError,
    load::{Load, Taken},
    process::Resident,
    requests,
    scenario::Measured,
    server::{self, Server},
};

/// Starts, of which the median counts.
const STARTS: usize = 5;
/// Rows of one unit.
const PER_UNIT: u64 = 1000;
/// To ask about every agent may take so many times as long as another scenario.
const PATIENCE: u32 = 12;

/// From spawning the server to its first 200 of `/readyz`, with all agents in its database.
pub(crate) fn boot(bench: &Bench) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    enrolled(bench, folder.path())?;
    let (mut starts, mut measured) = (Vec::new(), Measured::default());
    for _ in 0..STARTS {
        let server = Server::start(bench, folder.path())?;
        starts.push(server.ready_after);
        measured.cpu += server.cpu()?;
    }
    let taken: Taken = starts.into_iter().collect();
    Ok(Measured::new(&taken, measured.cpu))
}

/// A fresh server that did nothing yet but get ready.
pub(crate) fn memory_idle(bench: &Bench) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    bench.organisation.install(folder.path())?;
    let server = Server::start(bench, folder.path())?;
    Ok(Measured { resident: Some(server.resident(Resident::Now)?), ..Measured::default() })
}

/// The most that a server with all agents needed while it was asked about each of them.
pub(crate) fn memory_with_agents(bench: &Bench) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    enrolled(bench, folder.path())?;
    let server = Server::start(bench, folder.path())?;
    let callers = requests::warmed_up(bench, &server, Kind::Resolve)?;
    // The first one of each was the warm-up.
    let most = (bench.options.agents / u64::from(bench.options.connections)).saturating_sub(1);
    let load = Load { most, ..Load::full(bench.time() * PATIENCE) };
    let (_, measured) = requests::drive(bench, &server, callers, load)?;
    Ok(Measured { resident: Some(server.resident(Resident::Peak)?), ..measured })
}

/// Minting as ever, beside all agents and all revoked certificates of the options: it must cost what it costs alone.
pub(crate) fn mint(bench: &Bench) -> Result<Measured, BenchError> {
    let folder = bench.folder()?;
    enrolled(bench, folder.path())?;
    revoked(bench, folder.path())?;
    let server = Server::start(bench, folder.path())?;
    let callers = requests::warmed_up(bench, &server, Kind::Mint)?;
    requests::drive(bench, &server, callers, Load::full(bench.time())).map(|(_, measured)| measured)
}

/// Certificates that are not accepted any more, with keys that nobody has.
fn revoked(bench: &Bench, dir: &Path) -> Result<(), BenchError> {
    let (all, at) = (bench.options.revoked, bench.clock.now());
    let agent = bench.organisation.agent(FLEET)?;
    let random = || Thumbprint::of(&SystemRng.bytes::<32>());
    let revocation = || {
        let thumbprint = random();
        Revocation {
            thumbprint,
            serial: thumbprint.to_string()[..32].to_owned(),
            spki_sha256: random().to_string(),
            key_barred: true,
            issuer_ski: None,
            agent: agent.clone(),
            at,
            reason: "admin_revocation".into(),
            not_after: at.plus(profile::LEAF_LIFETIME),
        }
    };
    let units = (0..all).step_by(PER_UNIT as usize).map(|first| {
        let count = PER_UNIT.min(all - first);
        Unit::default().write_all((0..count).map(|_| revocation().insert()))
    });
    audit::submit_all(bench, &server::database(dir), units)
}

/// A database that a server made, with all agents in it. They share a certificate: as many bytes and as much to parse
/// as one of their own, without as many signatures here.
fn enrolled(bench: &Bench, dir: &Path) -> Result<(), BenchError> {
    requests::prepare(bench, dir)?;
    let identity = bench.organisation.identity(&caller::name(FLEET, 0), &bench.clock)?;
    let leaf = PinnedLeaf {
        thumbprint: identity.chain()[0].thumbprint(),
        spki_sha256: String::new(),
        not_after: bench.clock.now().plus(profile::LEAF_LIFETIME),
        issuer: None,
    };
    let pin = (identity.certificates_pem(), leaf);
    let all = bench.options.agents;
    for first in (0..all).step_by(PER_UNIT as usize * 10) {
        let last = all.min(first + PER_UNIT * 10);
        let mut units = Vec::new();
        for begin in (first..last).step_by(PER_UNIT as usize) {
            units.push(rows(bench, &pin, begin..last.min(begin + PER_UNIT))?);
        }
        audit::submit_all(bench, &server::database(dir), units.into_iter())?;
    }
    Ok(())
}

fn rows(
    bench: &Bench,
    (certificates, leaf): &(String, PinnedLeaf),
    numbers: std::ops::Range<u64>,
) -> Result<Unit, BenchError> {
    let (capabilities, at) = (["order.read".to_owned()], bench.clock.now());
    let mut unit = Unit::default();
    for number in numbers {
        let name = caller::name(FLEET, number);
        let (id, spiffe_id) = (bench.organisation.agent(&name)?, bench.organisation.spiffe(&name)?);
        let leaf = &PinnedLeaf { spki_sha256: name.clone(), ..leaf.clone() };
        let agent = NewAgent {
            id: &id,
            display_name: &name,
            capabilities: &capabilities,
            certificates,
            leaf,
            method: Method::Byoca,
            dpop_jkt: None,
            spiffe_id: Some(&spiffe_id),
            federated: false,
            device_info: None,
            kind: PrincipalKind::Agent,
            reuse: false,
            at,
        };
        unit = unit.write_all(agent.insert());
    }
    Ok(unit)
}
