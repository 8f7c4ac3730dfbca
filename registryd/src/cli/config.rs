//! The arguments of `registryd config`.

use clap::Subcommand;

/// What is done with the configuration.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with the file given by --config, each with its line; exit code 2 if anything is
    Check,
}
