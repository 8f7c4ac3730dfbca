//! The command line.

use std::path::PathBuf;

use clap::Parser;
use registryd_proto::Username;

/// One user's daemon of p2pchat: keeps the session, the chats and everything that must not be lost.
#[derive(Debug, Parser)]
#[command(name = "peerd", version)]
pub struct Cli {
    /// Settings in TOML; the command line goes before it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keeps everything of this profile apart: data, socket, lock.
    #[arg(long, value_name = "NAME", default_value = "default", value_parser = profile)]
    pub profile: String,
    /// Where keys and database are.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where p2pctl finds this daemon.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Goes to the background; returns when the daemon is ready, or fails with the reason.
    #[arg(long)]
    pub daemonize: bool,
    /// Logs to a file a day in this folder instead of standard error.
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Prints one line of JSON on standard output when the daemon is ready.
    #[arg(long)]
    pub ready_json: bool,
}

/// The same names as those of users: safe in a path.
fn profile(text: &str) -> Result<String, String> {
    match text.parse::<Username>() {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
