//! The command line of registryd. What is given here wins over the configuration file.
//!
//! Without a subcommand registryd serves. A subcommand is a file of this folder with its arguments, a
//! variant of [`Command`], and a line in [`run()`](crate::run()). `--config`, `--data-dir` and `--json` may stand before
//! or after it; the options of serving have no meaning with it, and are refused rather than ignored.

mod admin;
mod backup;
mod client;
mod config;
mod error;
mod key;
mod show;

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, error::ErrorKind};
use serde::Deserialize;

pub(crate) use admin::run as admin;
pub(crate) use backup::{BackupArgs, CheckArgs, RestoreArgs};
pub(crate) use config::ConfigCommand;
pub(crate) use error::{CliError, Report};
pub(crate) use key::{ExportArgs, KeyCommand, RotateArgs};

/// The central index of p2pchat: accounts, rooms and who is online. It never carries a message.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "registryd", version, propagate_version = true)]
pub struct Cli {
    /// What every subcommand takes as well.
    #[command(flatten)]
    pub common: Common,
    /// How it serves.
    #[command(flatten)]
    pub serve: Serve,
    /// What else it does than serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The options of serving and of every subcommand.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Common {
    /// Configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the key and the database [default: /var/lib/registryd]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Subcommands: answer with JSON, one object or one a line
    #[arg(long, global = true)]
    pub json: bool,
}

/// The options of serving.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Serving")]
pub struct Serve {
    /// TCP port of requests and, with the same number, UDP port of HELLO; port 0 picks a free one
    /// [default: port 4700 of all addresses]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Who may create an account [default: open]
    #[arg(long, value_enum)]
    pub registration: Option<Registration>,
    /// Run in the background; returns once the registry serves, or says why it does not
    #[arg(long)]
    pub daemonize: bool,
    /// Write the log to daily files in this folder instead of stderr
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Print one line of JSON with the address once the registry serves
    #[arg(long)]
    pub ready_json: bool,
}

/// What registryd does but serve.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// See and change what a running registry holds
    Admin(admin::Args),
    /// Copy database and key of a registry, running or not, into one private file
    Backup(BackupArgs),
    /// Put a backup in the place of what is in the data folder, which is kept beside it
    Restore(RestoreArgs),
    /// Check a data folder, of a running registry or not, or a backup
    Check(CheckArgs),
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The registry's key
    #[command(subcommand)]
    Key(KeyCommand),
}

/// Who may create an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Anybody.
    #[default]
    Open,
    /// Who has an invitation code.
    Invite,
    /// Nobody.
    Closed,
}

impl Cli {
    /// Parses the command line, with the name of the program first.
    ///
    /// # Errors
    /// What clap says: also help and version, which are answers.
    pub fn read(
        args: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<Cli, clap::Error> {
        let cli = Self::try_parse_from(args)?;
        match (cli.misplaced(), &cli.command) {
            (Some(option), Some(_)) => {
                let text = format!("{option} is an option of serving, not of a subcommand");
                Err(Self::command().error(ErrorKind::ArgumentConflict, text))
            }
            (_, None) if cli.common.json => {
                let text = "--json is an option of subcommands; serving has --ready-json";
                Err(Self::command().error(ErrorKind::ArgumentConflict, text))
            }
            _ => Ok(cli),
        }
    }

    /// An option of serving that was given.
    fn misplaced(&self) -> Option<&'static str> {
        let Serve { listen, registration, daemonize, log_dir, ready_json } = &self.serve;
        let given = [
            (listen.is_some(), "--listen"),
            (registration.is_some(), "--registration"),
            (*daemonize, "--daemonize"),
            (log_dir.is_some(), "--log-dir"),
            (*ready_json, "--ready-json"),
        ];
        given.into_iter().find_map(|(is_given, name)| is_given.then_some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_after_a_subcommand_but_not_those_of_serving() {
        let lines = [
            "registryd --data-dir here --json admin users list",
            "registryd admin --data-dir here --json users list",
            "registryd admin users list --data-dir here --json",
        ];
        for line in lines {
            let cli = Cli::read(line.split(' ')).expect(line);
            assert!(cli.common.json && cli.command.is_some(), "{line}");
            assert_eq!(cli.common.data_dir.as_deref(), Some("here".as_ref()), "{line}");
        }
        let error = Cli::read(["registryd", "--listen", "localhost:0", "admin", "stats"]);
        assert!(error.expect_err("not served").to_string().contains("--listen"));
    }

    #[test]
    fn without_a_subcommand_it_serves() {
        let line = ["registryd", "--data-dir", "here", "--listen", "localhost:0", "--ready-json"];
        let cli = Cli::read(line).expect("serving");
        assert!(cli.command.is_none() && cli.serve.ready_json);
        assert_eq!(cli.common.data_dir.as_deref(), Some("here".as_ref()));
        let error = Cli::read(["registryd", "--json"]).expect_err("nothing to answer");
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
