//! `registryd restore FILE`: a backup in the place of what is in the data folder, all or nothing.
//!
//! A registry restored from an old backup has forgotten accounts and rooms made since. Sessions go on:
//! peers show the highest serial and epoch that they hold when they resume, and the registry adopts them, so
//! nothing is issued twice. The key is the same, so every pin holds.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::PathBuf,
};

use serde::Serialize;

use super::{Answer, CommandError, commit, time_of};
use crate::{
    cli::RestoreArgs,
    config::Config,
    instance::{Instance, KEY_FILE},
    key_file,
    replace::Replacement,
    store::archive,
};

#[derive(Debug, Serialize)]
pub(super) struct Restored {
    file: PathBuf,
    made: String,
    accounts: u64,
    rooms: u64,
    key: String,
    /// Where that is now which was in the data folder.
    kept: Option<PathBuf>,
    /// Whether others can read the backup.
    exposed: bool,
}

impl Answer for Restored {
    const SCHEMA: &'static str = "registryd.restore/1";
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "restored {} of {}", self.file.display(), self.made)?;
        writeln!(f, "accounts  {}", self.accounts)?;
        writeln!(f, "rooms     {}", self.rooms)?;
        write!(f, "registry  {}", self.key)?;
        if let Some(kept) = &self.kept {
            write!(f, "\nWhat was there is kept in {}", kept.display())?;
        }
        if self.exposed {
            write!(
                f,
                "\nThe backup can be read by others, and the key is in it: make it private."
            )?;
        }
        Ok(())
    }
}

pub(super) fn restore(config: &Config, args: &RestoreArgs) -> Result<Restored, CommandError> {
    let file = &args.file;
    let io = |source| CommandError::Io { path: file.clone(), source };
    // Looked at before anything is made in the folder.
    let mut backup = File::open(file).map_err(io)?;
    let mode = backup.metadata().map_err(io)?.permissions().mode();
    let (_, found) = archive::inspect(file)?;
    let instance = Instance::lock(&config.data_dir)?;
    if !args.force {
        same_registry(&instance, found)?;
    }
    let in_folder = |source| CommandError::Io { path: config.data_dir.clone(), source };
    let replacement = Replacement::begin(&instance).map_err(in_folder)?;
    let database = replacement.database();
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&database)
        .and_then(|mut copy| io::copy(&mut backup, &mut copy))
        .map_err(in_folder)?;
    // Again, for what is put in place is the copy.
    let (contents, keys) = archive::unpack(&database)?;
    let kept = commit(replacement, &instance, &keys)?;
    Ok(Restored {
        file: file.clone(),
        made: time_of(contents.made_ms),
        accounts: contents.accounts,
        rooms: contents.rooms,
        key: keys.public().to_string(),
        kept,
        exposed: mode & 0o077 != 0,
    })
}

/// Whether the folder is empty or has the same key. One whose key cannot be read has nothing to lose.
fn same_registry(
    instance: &Instance,
    found: registryd_proto::PublicKey,
) -> Result<(), CommandError> {
    match key_file::read(&instance.folder().join(KEY_FILE)) {
        Ok(Some(held)) if held.public() != found => Err(CommandError::OtherRegistry {
            folder: fs::canonicalize(instance.folder()).unwrap_or(instance.folder().to_owned()),
            held: Box::new(held.public()),
            found: Box::new(found),
        }),
        _ => Ok(()),
    }
}
