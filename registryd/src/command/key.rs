//! `registryd key`: the registry's identity, shown, saved, and given up.
//!
//! The key cannot be changed and the registry stay the same. Peers pin it; and it is part of what each of
//! them has signed: the binding of a name to its keys, the id of every conversation, the log of every room. An
//! old key that vouches for a new one would not help either: who rotates because the key was stolen would let
//! the thief vouch as well. So [`rotate()`] does the one thing that is sound: it begins a new registry.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use registryd_proto::{Keypair, RegistryAddress};
use serde::Serialize;

use super::{Answer, CommandError, Folder, commit};
use crate::{
    cli::{ExportArgs, RotateArgs},
    config::Config,
    instance::Instance,
    key_file,
    replace::Replacement,
    store::archive,
};

/// What whoever asks for a new key has to know first.
pub(super) const ROTATION: &str = "\
a registry's key cannot be changed: it is the registry. Every user has pinned it, has signed his name and keys \
for it, and the ids of all conversations and the logs of all rooms are made with it. With a new key:
  - every user's peerd refuses this address from then on (untrusted_key), as if somebody else answered there
  - every user needs a new profile, with new keys, and his contacts pin him anew (p2pctl trust, verify)
  - all rooms are gone, and what was written stays in the old profiles
  - names and passwords stay, so that nobody can take another's name, and invitations stay
If the key is only to be moved to another machine, use backup and restore. If it was stolen, a new one is the \
right thing: say --new-identity, and tell users the new address by another way. What is there now is kept.";

#[derive(Debug, Serialize)]
pub(super) struct Exported {
    address: String,
    key: String,
    /// Where the secret was written to.
    secret: Option<PathBuf>,
}

impl Answer for Exported {
    const SCHEMA: &'static str = "registryd.key/1";
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

pub(super) fn export(config: &Config, args: &ExportArgs) -> Result<Exported, CommandError> {
    let folder = Folder::open(&config.data_dir)?;
    let key = folder.keys.public();
    if let Some(file) = &args.secret {
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AlreadyExists => CommandError::KeyExists(file.clone()),
            _ => CommandError::Io { path: file.clone(), source },
        };
        key_file::write_new(file, &folder.keys).map_err(io)?;
        let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = parent.unwrap_or(std::path::Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
    }
    let address = address(&config.listen, args.host.as_deref())?.with_key(key).to_string();
    Ok(Exported { address, key: key.to_string(), secret: args.secret.clone() })
}

/// Where users reach the registry, as far as the configuration says.
fn address(listen: &str, host: Option<&str>) -> Result<RegistryAddress, CommandError> {
    let (listened, port) = listen.rsplit_once(':').unwrap_or((listen, ""));
    let host = match host {
        Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        Some(host) => host.to_owned(),
        // All addresses of this machine, of which none is told.
        None if ["[::]", "0.0.0.0", ""].contains(&listened) => "localhost".to_owned(),
        None => listened.to_owned(),
    };
    Ok(format!("{host}:{port}").parse()?)
}

#[derive(Debug, Serialize)]
pub(super) struct Rotated {
    key: String,
    former_key: String,
    /// Names that stay taken, with their passwords.
    accounts: u64,
    /// Where the former key and database are.
    kept: Option<PathBuf>,
}

impl Answer for Rotated {
    const SCHEMA: &'static str = "registryd.rotate/1";
}

impl fmt::Display for Rotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "This is a new registry now: {}", self.key)?;
        writeln!(f, "It was                      {}", self.former_key)?;
        write!(f, "{} accounts kept name and password; each needs a new profile.", self.accounts)?;
        match &self.kept {
            Some(kept) => write!(f, "\nWhat was there is kept in {}", kept.display()),
            None => Ok(()),
        }
    }
}

pub(super) fn rotate(config: &Config, args: &RotateArgs) -> Result<Rotated, CommandError> {
    if !args.new_identity {
        return Err(CommandError::Rotation);
    }
    let folder = &config.data_dir;
    // Not in one that is made by the lock.
    drop(Folder::open(folder)?);
    let instance = Instance::lock(folder)?;
    let Folder { database, keys: former } = Folder::open(folder)?;
    let keys = Keypair::generate()?;
    let io = |source: io::Error| CommandError::Io { path: folder.clone(), source };
    let replacement = Replacement::begin(&instance).map_err(io)?;
    private(&replacement.database()).map_err(io)?;
    let counts =
        archive::renew(&database, &former.public(), &keys.public(), &replacement.database())?;
    let kept = commit(replacement, &instance, &keys)?;
    Ok(Rotated {
        key: keys.public().to_string(),
        former_key: former.public().to_string(),
        accounts: counts.accounts,
        kept,
    })
}

fn private(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_where_users_reach_it() {
        let of = |listen, host| address(listen, host).map(|a| a.host_port()).ok();
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(of("[::]:4700", None), told("localhost:4700"));
        assert_eq!(of("0.0.0.0:1", Some("chat.example.org")), told("chat.example.org:1"));
        assert_eq!(of("192.0.2.1:4700", None), told("192.0.2.1:4700"));
        assert_eq!(of("[::]:4700", Some("2001:db8::1")), told("[2001:db8::1]:4700"));
        assert_eq!(of("[::]:0", None), None, "no port is known");
        assert_eq!(of("[::]:4700", Some("no host")), None);
    }
}
