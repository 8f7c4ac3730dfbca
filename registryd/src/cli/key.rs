//! The arguments of `registryd key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is done with the registry's key.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Show the registry's address with its key, KEY@HOST:PORT, as users pass it to --registry
    Export(ExportArgs),
    /// Begin a new registry with a new key in the place of this one; tells what that means, and needs a flag
    Rotate(RotateArgs),
}

/// Show the address.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// The host in the address, where users reach the registry [default: the one listened on]
    #[arg(long)]
    pub host: Option<String>,
    /// Write the secret key as well, to a new private file
    #[arg(long, value_name = "FILE")]
    pub secret: Option<PathBuf>,
}

/// Begin anew.
#[derive(Debug, Clone, Args)]
pub struct RotateArgs {
    /// I know that every user has to begin anew, with a new profile
    #[arg(long)]
    pub new_identity: bool,
}
