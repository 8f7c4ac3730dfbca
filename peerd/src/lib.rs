//! peerd: one user's daemon.
//!
//! The core (`core`) decides, the store (`store`) keeps, `daemon` owns both and passes inputs and effects;
//! `control`, `registry`, `peer` and `room` are its doors to the world, and know the daemon's handle and
//! the protocols, never each other.

pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod daemonize;
pub mod error;
pub mod instance;
pub mod keys;
pub mod link;
pub mod log;
pub mod peer;
pub mod registry;
pub mod room;
pub mod run;
pub mod shutdown;
pub mod store;

use std::process::ExitCode;

use clap::Parser as _;
use registryd_proto::Code;

use crate::{
    cli::Cli,
    config::Settings,
    daemonize::{Role, complain},
    error::StartError,
};

/// peerd from the command line to the exit code.
pub fn run_process() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = u8::try_from(error.exit_code()).unwrap_or(Code::Usage.exit_code());
            // A closed standard output is no failure.
            return match error.print() {
                Ok(()) | Err(_) => ExitCode::from(code),
            };
        }
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let begun = Settings::new(cli).map_err(StartError::from).and_then(|settings| {
        let role = daemonize::detach(&settings)?;
        Ok((settings, role))
    });
    let (settings, report) = match begun {
        Ok((_, Role::Parent(code))) => return code,
        Ok((settings, Role::Daemon(report))) => (settings, report),
        Err(error) => {
            complain(&error.to_line());
            return ExitCode::from(error.code().exit_code());
        }
    };
    let _log = log::init(settings.log_dir.as_deref(), &settings.log);
    match run::run(&settings, report) {
        Ok(Ok(())) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "stopped by a failure");
            ExitCode::from(Code::Internal.exit_code())
        }
        Err(error) => ExitCode::from(error.code().exit_code()),
    }
}
