//! `registryd check`: whether a data folder or a backup is sound. What it finds is the answer; exit code 1 if
//! it finds anything.

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use registryd_proto::PublicKey;
use serde::Serialize;

use super::{Answer, CommandError};
use crate::{
    cli::CheckArgs,
    config::Config,
    instance::{DATABASE_FILE, KEY_FILE},
    key_file, replace,
    store::{
        Counts,
        archive::{self, ArchiveError},
        check::{self, Aspect, Depth, Findings},
    },
};

#[derive(Debug, Serialize)]
pub(super) struct Checked {
    /// The data folder or the backup.
    place: PathBuf,
    depth: Depth,
    sound: bool,
    #[serde(flatten)]
    findings: Findings,
    /// `None`: so damaged that they cannot be counted.
    counts: Option<Counts>,
}

impl Answer for Checked {
    const SCHEMA: &'static str = "registryd.check/1";
}

impl Checked {
    /// Whether nothing was found.
    pub(super) fn is_sound(&self) -> bool {
        self.sound
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings.findings {
            let aspect = crate::stats::word(&finding.check);
            writeln!(f, "{aspect:<12} {}", finding.what)?;
        }
        if self.findings.more > 0 {
            writeln!(f, "and {} more", self.findings.more)?;
        }
        let verdict = if self.sound { "sound" } else { "NOT SOUND" };
        write!(f, "{}: {verdict}", self.place.display())?;
        if let Some(Counts { accounts, rooms }) = self.counts {
            write!(f, ", {accounts} accounts, {rooms} rooms")?;
        }
        match self.depth {
            Depth::Quick if self.sound => write!(f, " (--full checks every signature as well)"),
            Depth::Quick | Depth::Full => Ok(()),
        }
    }
}

pub(super) fn check(config: &Config, args: &CheckArgs) -> Result<Checked, CommandError> {
    let depth = if args.full { Depth::Full } else { Depth::Quick };
    let mut findings = Findings::default();
    let (place, counts) = match &args.file {
        Some(file) => (file.clone(), check_backup(file, depth, &mut findings)?),
        None => {
            let folder = &config.data_dir;
            (folder.clone(), check_folder(folder, depth, &mut findings)?)
        }
    };
    Ok(Checked { place, depth, sound: findings.is_empty(), findings, counts })
}

fn check_backup(
    file: &Path,
    depth: Depth,
    findings: &mut Findings,
) -> Result<Option<Counts>, CommandError> {
    fs::metadata(file).map_err(|source| CommandError::Io { path: file.to_owned(), source })?;
    private(file, OTHERS, findings);
    match archive::inspect(file) {
        Ok((_, key)) => Ok(check::check(file, &key, depth, findings)?),
        Err(ArchiveError::Damaged { what, .. }) => {
            findings.add(Aspect::Structure, what);
            Ok(None)
        }
        Err(error @ ArchiveError::OtherKey { .. }) => {
            findings.add(Aspect::Key, error.to_string());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn check_folder(
    folder: &Path,
    depth: Depth,
    findings: &mut Findings,
) -> Result<Option<Counts>, CommandError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => CommandError::NoRegistry(folder.to_owned()),
        _ => CommandError::Io { path: folder.to_owned(), source },
    };
    if replace::is_pending(folder).map_err(io)? {
        return Err(CommandError::Pending(folder.to_owned()));
    }
    // Who can only look into the folder sees names that say nothing; who can write there can put in others.
    private(folder, OTHERS_WRITE, findings);
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        // Key, database, its logs and its copies.
        if entry.file_name().as_encoded_bytes().starts_with(b"registry.") {
            private(&entry.path(), OTHERS, findings);
        }
    }
    let database = folder.join(DATABASE_FILE);
    let key = key_of(folder, findings);
    match (database.exists(), key) {
        (true, Some(key)) => Ok(check::check(&database, &key, depth, findings)?),
        (true, None) => Ok(None),
        (false, Some(_)) => {
            findings.add(Aspect::Structure, "there is a key, but no database");
            Ok(None)
        }
        (false, None) => Err(CommandError::NoRegistry(folder.to_owned())),
    }
}

fn key_of(folder: &Path, findings: &mut Findings) -> Option<PublicKey> {
    match key_file::read(&folder.join(KEY_FILE)) {
        Ok(Some(keys)) => Some(keys.public()),
        Ok(None) => {
            findings.add(Aspect::Key, "there is no key");
            None
        }
        Err(error) => {
            findings.add(Aspect::Key, error.to_string());
            None
        }
    }
}

/// What group and others may do.
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// Nobody but the owner may do what is `forbidden`.
fn private(path: &Path, forbidden: u32, findings: &mut Findings) {
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & forbidden == 0 => {}
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            findings.add(
                Aspect::Permissions,
                format!("{} has mode {mode:04o}: others may do too much with it", path.display()),
            );
        }
        // A file of SQLite that has gone meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => findings.add(Aspect::Permissions, format!("{}: {error}", path.display())),
    }
}
