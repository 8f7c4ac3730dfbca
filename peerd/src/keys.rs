//! The profile's two keys, in files of mode 0600 in the data folder.
//!
//! Made at the first start; later a file with looser permissions, another owner or another length stops
//! the start. Called by `run` under the instance lock. The secrets leave this module only as [`Keypair`],
//! whose Debug shows the public half.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use registryd_proto::{KeyError, Keypair};
use zeroize::Zeroizing;

/// The file of the peer key.
const PEER_FILE: &str = "peer.key";
/// The file of the room key.
const ROOM_FILE: &str = "room.key";

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Reading or writing failed.
    #[error("cannot read or write the key file {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read it, so it may be known to them.
    #[error("the key file {} has mode {mode:04o}; it must be 0600", path.display())]
    Loose {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user owns it.
    #[error("the key file {} belongs to user {uid}", path.display())]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Not 32 bytes.
    #[error("the key file {} has not 32 bytes", path.display())]
    Length {
        /// Which file.
        path: PathBuf,
    },
    /// One of the two files is missing: the identity would change in silence.
    #[error("the key file {} is missing beside the other one", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Drawing a new key failed.
    #[error(transparent)]
    Draw(#[from] KeyError),
}

/// The profile's identity.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Id of the peer endpoint, signer of entries, key of the registry connection.
    pub peer: Keypair,
    /// Id of the room endpoint.
    pub room: Keypair,
}

impl Keys {
    /// Whether a key file is there, whole or not: then this is no first start.
    pub fn exist(data: &Path) -> bool {
        [PEER_FILE, ROOM_FILE].iter().any(|name| data.join(name).symlink_metadata().is_ok())
    }

    /// Reads both keys, or makes both at the first start.
    ///
    /// # Errors
    /// [`KeysError`]; nothing was overwritten then.
    pub fn load_or_create(data: &Path) -> Result<Self, KeysError> {
        let (peer_path, room_path) = (data.join(PEER_FILE), data.join(ROOM_FILE));
        match (read(&peer_path)?, read(&room_path)?) {
            (Some(peer), Some(room)) => Ok(Self { peer, room }),
            // The peer key is written last: alone, the room key is left over from a first start that broke.
            (None, Some(room)) => Ok(Self { peer: create(&peer_path)?, room }),
            (Some(_), None) => Err(KeysError::Missing { path: room_path }),
            (None, None) => {
                let room = create(&room_path)?;
                Ok(Self { peer: create(&peer_path)?, room })
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<Keypair>, KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(no_follow).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let meta = file.metadata().map_err(io)?;
    if meta.mode() & 0o077 != 0 {
        return Err(KeysError::Loose { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(KeysError::Owner { path: path.to_owned(), uid: meta.uid() });
    }
    let mut secret = Zeroizing::new([0; 32]);
    if meta.len() != 32 {
        return Err(KeysError::Length { path: path.to_owned() });
    }
    file.read_exact(secret.as_mut()).map_err(io)?;
    Ok(Some(Keypair::from_secret(&secret)))
}

/// Writes beside the final name and renames, so that a file with a key's name is always whole.
fn create(path: &Path) -> Result<Keypair, KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let key = Keypair::generate()?;
    let part = path.with_extension("part");
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(io)?;
    file.write_all(key.secret().as_ref()).map_err(io)?;
    file.sync_all().map_err(io)?;
    std::fs::rename(&part, path).map_err(io)?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_made_once_and_kept_private() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!Keys::exist(folder.path()));
        let first = Keys::load_or_create(folder.path()).expect("first start");
        assert!(Keys::exist(folder.path()));
        let again = Keys::load_or_create(folder.path()).expect("second start");
        assert_eq!(first.peer.public(), again.peer.public());
        assert_eq!(first.room.public(), again.room.public());
        assert_ne!(first.peer.public(), first.room.public());
        for name in [PEER_FILE, ROOM_FILE] {
            let mode = folder.path().join(name).metadata().expect("file").mode();
            assert_eq!(mode & 0o7777, 0o600, "{name}");
        }
    }

    #[test]
    fn loose_short_linked_and_missing_files_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        Keys::load_or_create(folder.path()).expect("first start");
        let path = folder.path().join(PEER_FILE);
        let loosen = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        };
        loosen(0o640);
        let refused = Keys::load_or_create(folder.path());
        assert!(matches!(refused, Err(KeysError::Loose { mode: 0o640, .. })), "{refused:?}");
        loosen(0o600);
        std::fs::write(&path, [1; 31]).expect("write");
        let refused = Keys::load_or_create(folder.path());
        assert!(matches!(refused, Err(KeysError::Length { .. })), "{refused:?}");
        std::fs::remove_file(&path).expect("remove");
        std::os::unix::fs::symlink(folder.path().join(ROOM_FILE), &path).expect("link");
        assert!(matches!(Keys::load_or_create(folder.path()), Err(KeysError::Io { .. })));
        std::fs::remove_file(&path).expect("remove");
        Keys::load_or_create(folder.path()).expect("a broken first start goes on");
        std::fs::remove_file(folder.path().join(ROOM_FILE)).expect("remove");
        let refused = Keys::load_or_create(folder.path());
        assert!(matches!(refused, Err(KeysError::Missing { .. })), "{refused:?}");
    }
}
