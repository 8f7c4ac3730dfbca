//! The local socket in the file system.
//!
//! Invariant: a socket that somebody listens on is never removed, nor is anything that is no socket. It is
//! made with mode 0600 (by umask, so there is no moment in which it is wider) in a folder that nobody else
//! can write to. Called under the instance lock, before any other thread runs.

use std::{
    fs::DirBuilder,
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _},
        net::{SocketAddr, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::fs::Mode;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("another process listens on {}", path.display())]
    Live {
        /// Where.
        path: PathBuf,
    },
    /// A file that is no socket has the name.
    #[error("{} exists and is no socket", path.display())]
    NoSocket {
        /// Where.
        path: PathBuf,
    },
    /// The folder is a link, belongs to somebody else, or others may write to it.
    #[error(
        "the folder {} of the socket must be a real folder of this user that nobody else can write to",
        path.display()
    )]
    Folder {
        /// Which.
        path: PathBuf,
    },
    /// The system allows only short paths for sockets.
    #[error(
        "the socket's path {} is too long, for it has {} bytes and the most is about 107: give a shorter one with --socket",
        path.display(),
        path.as_os_str().len()
    )]
    TooLong {
        /// Where.
        path: PathBuf,
    },
    /// Making it failed.
    #[error("cannot open the socket {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket in the file system, removed on drop if it is still the same one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    /// Binds and listens; makes the folder with mode 0700 if it is missing. A socket on which nobody listens
    /// is replaced.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path) -> Result<(UnixListener, Self), SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        if SocketAddr::from_pathname(path).is_err() {
            return Err(SocketError::TooLong { path: path.to_owned() });
        }
        check_folder(path)?;
        make_way(path)?;
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = bound.map_err(io)?;
        let meta = path.symlink_metadata().map_err(io)?;
        Ok((listener, Self { path: path.to_owned(), id: (meta.dev(), meta.ino()) }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let same = |meta: std::fs::Metadata| (meta.dev(), meta.ino()) == self.id;
        if self.path.symlink_metadata().is_ok_and(same)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "the socket stays behind");
        }
    }
}

fn check_folder(path: &Path) -> Result<(), SocketError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    let meta = folder.symlink_metadata().map_err(io)?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw();
    if meta.is_dir() && ours && meta.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(SocketError::Folder { path: folder.to_owned() })
    }
}

/// Removes a socket that is left over from a peerd that was killed.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(SocketError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io)
        }
        Err(error) => Err(io(error)),
        Ok(_) => Err(SocketError::Live { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run").join("a.sock");
        let (listener, file) = SocketFile::bind(&path).expect("first");
        assert_eq!(path.metadata().expect("socket").mode() & 0o777, 0o600);
        assert_eq!(path.parent().expect("folder").metadata().expect("dir").mode() & 0o777, 0o700);
        assert!(matches!(SocketFile::bind(&path), Err(SocketError::Live { .. })));
        drop(listener);
        std::mem::forget(file);
        let (_listener, file) = SocketFile::bind(&path).expect("nobody listens");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn files_links_and_open_folders_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        std::fs::write(&path, "precious").expect("write");
        assert!(matches!(SocketFile::bind(&path), Err(SocketError::NoSocket { .. })));
        assert_eq!(std::fs::read_to_string(&path).expect("file"), "precious");

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).expect("link");
        let refused = SocketFile::bind(&link.join("b.sock"));
        assert!(matches!(refused, Err(SocketError::Folder { .. })), "{refused:?}");

        let open = folder.path().join("open");
        std::fs::create_dir(&open).expect("folder");
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).expect("chmod");
        let refused = SocketFile::bind(&open.join("c.sock"));
        assert!(matches!(refused, Err(SocketError::Folder { .. })), "{refused:?}");
    }
}
