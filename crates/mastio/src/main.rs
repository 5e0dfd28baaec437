//! The trust authority of an organisation's AI agents, in one binary.
//!
//! `mastio …`; the same binary answers to `cullis-proxy` and `cullis` for the commands that operators know. Exit codes:
//! 0 done, 1 refused or bad configuration, 2 usage, or verification failed, 3 cannot start (design §6).

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "what a command says goes through out")]

mod audit;
mod config;
mod demo;
mod deployment;
mod out;
mod pki;
mod serve;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The trust authority of an organisation's AI agents, self-hosted.
#[derive(Parser)]
#[command(name = "mastio", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve agents and operators.
    Serve(serve::Arguments),
    /// Boot a Mastio with sample data and walk an agent through it.
    Demo(demo::Arguments),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(config::Command),
    /// Look at the audit log.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Certificates.
    #[command(subcommand)]
    Pki(pki::Command),
    /// As operators call it: `cullis-proxy rotate-org-ca`.
    #[command(hide = true)]
    RotateOrgCa(pki::rotate_org_ca::RotateOrgCa),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Done.
    Done = 0,
    /// Refused, or the configuration is bad.
    Refused = 1,
    /// Verification failed.
    Failed = 2,
    /// The server cannot start.
    CannotStart = 3,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(ended as u8)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Config(command) => config::run(&command),
        Command::Audit(command) => audit::run(&command),
        Command::Pki(command) => pki::run(&command),
        Command::RotateOrgCa(arguments) => pki::rotate_org_ca::run(&arguments),
    };
    ended.into()
}
