//! The arguments of `registryd backup`, `restore` and `check`.

use std::path::PathBuf;

use clap::Args;

/// Copy the database and the key of a registry, running or not, into one private file
///
/// The copy is the registry as it is at one moment. It is made beside FILE and gets its name once it is whole
/// and on the disk. It holds the registry's secret key: keep it as you keep the data folder.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// Where to
    pub file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
}

/// Put a backup in the place of what is in the data folder, which is kept beside it
///
/// The registry must not run. A restore that is cut short has either done nothing or is finished by the next
/// start. Peers come back by themselves, with the keys that they have pinned.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// What `registryd backup` made
    pub file: PathBuf,
    /// Even if the data folder belongs to a registry with another key
    #[arg(long)]
    pub force: bool,
}

/// Check the data folder of a registry, running or not, or a backup; exit code 1 if something is wrong
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// A backup, instead of the data folder
    pub file: Option<PathBuf>,
    /// Read every row: all of the database's structure, every signature of rooms and accounts
    #[arg(long)]
    pub full: bool,
}
