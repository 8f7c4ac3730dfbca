//! The command line of registryd. What is given here wins over the configuration file.

use std::path::PathBuf;

use clap::Parser;
use serde::Deserialize;

/// The central index of p2pchat: accounts, rooms and who is online. It never carries a message.
#[derive(Debug, Clone, Default, Parser)]
#[command(name = "registryd", version)]
pub struct Cli {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the key and the database [default: /var/lib/registryd]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
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
