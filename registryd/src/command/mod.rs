//! What registryd does but serve and administer: backup, restore, check, key and config.
//!
//! One verb, one file. Each works on the data folder by itself, without a running registry having to help,
//! and returns an answer that can be shown to people or as JSON; here is what all of them may fail of, with
//! the exit codes of README.

mod backup;
mod check;
mod config;
mod key;
mod restore;

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2pchat_host::terminal::escaped_lines;
use registryd_proto::{Code, Keypair, PublicKey};
use serde::Serialize;

use crate::{
    cli::{BackupArgs, CheckArgs, CliError, KeyCommand, RestoreArgs},
    config::Config,
    instance::{DATABASE_FILE, Instance, InstanceError, KEY_FILE},
    key_file::{self, KeyFileError},
    output::Output,
    replace::{self, Replacement},
    store::archive::ArchiveError,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("cannot use {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0} is there already: give another name, or --force to replace it")]
    Exists(PathBuf),
    #[error("{0} is there already: a key is never written over")]
    KeyExists(PathBuf),
    #[error("which file? give it by --config FILE")]
    NoConfig,
    #[error("the host cannot be part of an address: {0}")]
    Address(#[from] registryd_proto::AddressError),
    #[error("another backup is being written to {0}")]
    Underway(PathBuf),
    #[error("there is no registry in {0}")]
    NoRegistry(PathBuf),
    #[error(
        "a replacement of what is in {0} was cut short: the next start of registryd, or another restore, finishes it"
    )]
    Pending(PathBuf),
    #[error(
        "{folder} belongs to the registry {held}, the backup to {found}: users of the first would be \
         locked out. Restore into another folder, or say --force"
    )]
    OtherRegistry { folder: PathBuf, held: Box<PublicKey>, found: Box<PublicKey> },
    #[error("{}", key::ROTATION)]
    Rotation,
    #[error(transparent)]
    Key(#[from] registryd_proto::KeyError),
}

/// Puts a replacement in place, and says so where only the next start will.
fn commit(
    replacement: Replacement<'_>,
    instance: &Instance,
    keys: &Keypair,
) -> Result<Option<PathBuf>, CommandError> {
    let folder = instance.folder();
    replacement.commit(keys, now_ms()).map_err(|source| match replace::is_pending(folder) {
        Ok(false) => CommandError::Io { path: folder.to_owned(), source },
        Ok(true) | Err(_) => CommandError::Pending(folder.to_owned()),
    })
}

impl CommandError {
    /// Its word in the table.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Rotation
            | Self::Address(_)
            | Self::NoConfig
            | Self::Archive(ArchiveError::Foreign { .. }) => Code::Usage,
            Self::Instance(InstanceError::InUse { .. }) | Self::Underway(_) => Code::StateInUse,
            Self::Archive(ArchiveError::Newer { .. }) => Code::VersionMismatch,
            Self::NoRegistry(_) => Code::NotFound,
            Self::Exists(_) | Self::KeyExists(_) | Self::OtherRegistry { .. } => Code::Conflict,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Code::NotFound,
            Self::Instance(_)
            | Self::KeyFile(_)
            | Self::Archive(_)
            | Self::Io { .. }
            | Self::Pending(_)
            | Self::Key(_) => Code::Internal,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Rotation => "to keep the registry and move it, see registryd backup and restore",
            Self::Address(_) => {
                "give the host by --host, and the port by listen in the configuration"
            }
            Self::Instance(InstanceError::InUse { .. }) => "stop registryd first",
            Self::NoConfig => "registryd --config FILE config check",
            Self::Underway(_) => "wait for it, or give another name",
            Self::Archive(ArchiveError::Newer { .. }) => {
                "use the registryd that made it, or a newer one"
            }
            Self::NoRegistry(_) => "name the folder by --data-dir or --config",
            Self::Exists(_) | Self::KeyExists(_) => "nothing was changed",
            Self::OtherRegistry { .. } => "nothing was changed",
            Self::Pending(_) => "start registryd, or restore again",
            Self::Io { .. } => "is it there, are you allowed, and is there space?",
            Self::Archive(ArchiveError::Foreign { .. }) => {
                "name a file that registryd backup wrote"
            }
            Self::Archive(_) => "nothing was changed: take another backup, or see registryd check",
            Self::Instance(_) | Self::KeyFile(_) | Self::Key(_) => "see registryd check",
        }
    }
}

/// What a command tells: an object with its schema, and the same for people.
trait Answer: Serialize + Display {
    const SCHEMA: &'static str;
}

/// An answer as JSON.
#[derive(Serialize)]
struct Object<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    answer: &'a T,
}

/// How a command ended: with a code other than 0 for a verdict that is not good.
type Ended = Result<Option<Code>, CliError>;

/// `registryd backup`.
pub(crate) fn backup(config: &Config, args: &BackupArgs, output: &mut Output) -> Ended {
    tell(&backup::backup(config, args)?, output)
}

/// `registryd restore`.
pub(crate) fn restore(config: &Config, args: &RestoreArgs, output: &mut Output) -> Ended {
    tell(&restore::restore(config, args)?, output)
}

/// `registryd check`.
pub(crate) fn check(config: &Config, args: &CheckArgs, output: &mut Output) -> Ended {
    let checked = check::check(config, args)?;
    tell(&checked, output)?;
    Ok((!checked.is_sound()).then_some(Code::Internal))
}

/// `registryd config check`.
pub(crate) fn config_check(file: Option<PathBuf>, output: &mut Output) -> Ended {
    let checked = config::check(file)?;
    tell(&checked, output)?;
    Ok((!checked.is_valid()).then_some(Code::Usage))
}

/// `registryd key`.
pub(crate) fn key(config: &Config, command: &KeyCommand, output: &mut Output) -> Ended {
    match command {
        KeyCommand::Export(args) => tell(&key::export(config, args)?, output),
        KeyCommand::Rotate(args) => tell(&key::rotate(config, args)?, output),
    }
}

fn tell<T: Answer>(answer: &T, output: &mut Output) -> Ended {
    if output.is_json() {
        let object = Object { schema: T::SCHEMA, answer };
        output.json_line(&serde_json::to_string(&object).map_err(CliError::Answer)?)?;
    } else {
        output.text(&format!("{}\n", escaped_lines(&answer.to_string())))?;
    }
    Ok(None)
}

/// A data folder with a registry in it, which may run.
struct Folder {
    database: PathBuf,
    keys: Keypair,
}

impl Folder {
    fn open(folder: &Path) -> Result<Folder, CommandError> {
        let none = || CommandError::NoRegistry(folder.to_owned());
        match replace::is_pending(folder) {
            Ok(false) => {}
            Ok(true) => return Err(CommandError::Pending(folder.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(none()),
            Err(source) => return Err(CommandError::Io { path: folder.to_owned(), source }),
        }
        let keys = key_file::read(&folder.join(KEY_FILE))?.ok_or_else(none)?;
        Ok(Folder { database: folder.join(DATABASE_FILE), keys })
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time as answers show it: RFC 3339, UTC.
fn time_of(unix_ms: u64) -> String {
    // What is not a time after 1970 and before 10000 is shown as the end of it.
    let latest = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(unix_ms).min(latest))
        .to_string()
}

/// Bytes for people.
fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
