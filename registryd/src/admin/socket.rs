//! The socket `admin.sock` in the data folder: who may connect, and what is in its place.
//!
//! Invariant: called under the lock of the data folder, so a socket that is there already was left by a
//! registryd that was killed. Anything that is no socket is left alone.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use interprocess::{
    local_socket::{
        GenericFilePath, ListenerOptions, ToFsName as _,
        tokio::{Listener, Stream},
        traits::StreamCommon as _,
    },
    os::unix::local_socket::ListenerOptionsExt as _,
};
use rustix::process::geteuid;
use tokio::net::UnixStream;

/// Its name in the data folder.
pub(crate) const SOCKET_FILE: &str = "admin.sock";

/// Why there is no socket for operators.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminSocketError {
    /// A file that is no socket has the name.
    #[error("{} exists and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// Others than its user may write to the folder: what is there need not be ours.
    #[error(
        "the folder {} must belong to the user of registryd, and nobody else may write to it (chmod 700)",
        .0.display()
    )]
    Folder(PathBuf),
    /// Making it failed.
    #[error("cannot open the socket {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Opens the socket, mode 0600 from its first moment on. Needs a runtime. It is removed when the listener is
/// dropped.
///
/// # Errors
/// [`AdminSocketError`]; a path of more than about 107 bytes is one, for the system takes no longer ones.
pub(crate) fn open(folder: &Path) -> Result<Listener, AdminSocketError> {
    let path = folder.join(SOCKET_FILE);
    let io = |source| AdminSocketError::Io { path: path.clone(), source };
    let meta = fs::metadata(folder).map_err(io)?;
    if meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(AdminSocketError::Folder(folder.to_owned()));
    }
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(&path).map_err(io)?,
        Ok(_) => return Err(AdminSocketError::NoSocket(path)),
    }
    let name = path.as_path().to_fs_name::<GenericFilePath>().map_err(io)?;
    ListenerOptions::new().name(name).mode(0o600).create_tokio().map_err(io)
}

/// Only the user as whom registryd runs, and root, are served; `Err`: anybody else.
pub(super) fn admit(stream: Stream) -> Result<UnixStream, UnixStream> {
    let uid = stream.peer_creds().ok().and_then(|creds| creds.euid());
    let Stream::UdSocket(stream) = stream;
    if uid.is_some_and(|uid| uid == 0 || uid == geteuid().as_raw()) {
        return Ok(stream.into());
    }
    tracing::warn!(uid, "an operator of another user is refused");
    Err(stream.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixListener};

    use super::*;

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join(SOCKET_FILE);
        drop(UnixListener::bind(&path).expect("left behind: the library leaves it there"));
        assert!(path.exists());
        let listener = open(folder.path()).expect("replaced");
        assert_eq!(path.metadata().expect("socket").mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_longer_than_the_system_takes_is_told() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let long = folder.path().join("x".repeat(100));
        fs::create_dir(&long).expect("a folder");
        assert!(matches!(open(&long), Err(AdminSocketError::Io { .. })));
        assert!(!long.join(SOCKET_FILE).exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone_and_an_open_folder_is_refused() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join(SOCKET_FILE);
        fs::write(&path, "precious").expect("written");
        assert!(matches!(open(folder.path()), Err(AdminSocketError::NoSocket(_))));
        assert_eq!(fs::read_to_string(&path).expect("kept"), "precious");
        fs::remove_file(&path).expect("removed");

        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("chmod");
        assert!(matches!(open(folder.path()), Err(AdminSocketError::Folder(_))));
        assert!(!path.exists());
    }
}
