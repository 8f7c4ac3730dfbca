//! Where peerd's socket is, and whether it is ours.
//!
//! The places follow from options, environment and the user id, in this order; the first where somebody
//! answers is taken:
//!
//! 1. `--socket PATH`, or `P2P_SOCKET` unless `--profile` is given: then no other place is tried;
//! 2. `$XDG_RUNTIME_DIR/p2pchat/PROFILE.sock`;
//! 3. `/run/user/UID/p2pchat/PROFILE.sock`;
//! 4. `$XDG_DATA_HOME/p2pchat/PROFILE/peerd.sock`;
//! 5. `HOME/.local/share/p2pchat/PROFILE/peerd.sock`, with the home of `$HOME`, else of the user database.
//!
//! So it is found from cron, with an empty environment. A process of another user that answers is refused:
//! it would see every message and password.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use registryd_proto::{Code, NameError, Username};
use tokio::net::UnixStream;

/// The name of a profile; the alphabet of user names, so that it is one component of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile(Username);

impl Default for Profile {
    fn default() -> Self {
        Self("default".parse().expect("a name of letters"))
    }
}

impl FromStr for Profile {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(Self)
    }
}

/// Why no peerd answers.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nobody listens at any of these places.
    #[error("peerd is not running; tried {}", list(.0))]
    NotRunning(Vec<PathBuf>),
    /// Somebody listens, but we may not connect.
    #[error("cannot connect to {}: {source}", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system allows only short paths for sockets.
    #[error("the socket's path {} is too long: the most is about 107 bytes", path.display())]
    TooLong {
        /// Where.
        path: PathBuf,
    },
    /// Somebody else listens.
    #[error("{} belongs to user id {theirs}, not to {ours}", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// The user who listens.
        theirs: u32,
        /// We.
        ours: u32,
    },
    /// `P2P_PROFILE` is no name.
    #[error("P2P_PROFILE is not a profile: {0}")]
    Profile(#[from] NameError),
}

impl SocketError {
    /// The code of the table.
    pub fn code(&self) -> Code {
        match self {
            SocketError::NotRunning(_) => Code::PeerdNotRunning,
            SocketError::Connect { .. } | SocketError::Foreign { .. } => Code::Blocked,
            SocketError::Profile(_) | SocketError::TooLong { .. } => Code::Usage,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What the places follow from; a value, so that tests need not change the environment.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `--socket`, or `P2P_SOCKET`.
    pub socket: Option<PathBuf>,
    /// `--profile`, or `P2P_PROFILE`.
    pub profile: Profile,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `$XDG_DATA_HOME`.
    pub data_home: Option<PathBuf>,
    /// The home folder.
    pub home: Option<PathBuf>,
    /// Our user id.
    pub uid: u32,
}

impl Surroundings {
    /// Reads environment and user database.
    ///
    /// # Errors
    /// [`SocketError::Profile`].
    pub fn of_process(
        socket: Option<PathBuf>,
        profile: Option<Profile>,
    ) -> Result<Self, SocketError> {
        let uid = rustix::process::geteuid().as_raw();
        let socket = match (&socket, &profile) {
            (None, None) => variable("P2P_SOCKET"),
            _ => socket,
        };
        let profile = match (profile, variable("P2P_PROFILE")) {
            (Some(profile), _) => profile,
            (None, Some(text)) => text.to_string_lossy().parse()?,
            (None, None) => Profile::default(),
        };
        Ok(Self {
            socket,
            profile,
            runtime_dir: variable("XDG_RUNTIME_DIR"),
            data_home: variable("XDG_DATA_HOME"),
            home: variable("HOME").or_else(|| home_of(&fs::read("/etc/passwd").ok()?, uid)),
            uid,
        })
    }

    /// The places in the order in which they are tried, each once.
    pub fn places(&self) -> Vec<PathBuf> {
        if let Some(socket) = &self.socket {
            return vec![socket.clone()];
        }
        let profile = self.profile.0.as_str();
        let runtime = |dir: &Path| dir.join("p2pchat").join(format!("{profile}.sock"));
        let data = |dir: &Path| dir.join("p2pchat").join(profile).join("peerd.sock");
        let candidates = [
            self.runtime_dir.as_deref().map(runtime),
            Some(runtime(Path::new(&format!("/run/user/{}", self.uid)))),
            self.data_home.as_deref().map(data),
            self.home.as_deref().map(|home| data(&home.join(".local/share"))),
        ];
        let mut places = Vec::new();
        for place in candidates.into_iter().flatten() {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    /// Connects to the first place where a peerd of ours answers.
    ///
    /// # Errors
    /// [`SocketError`]: the first place that refused us, if any did; a place that fails is no error as
    /// long as another answers.
    pub async fn connect(&self) -> Result<UnixStream, SocketError> {
        let places = self.places();
        let mut refused = None;
        for path in &places {
            match self.connect_to(path).await {
                Ok(Some(stream)) => return Ok(stream),
                Ok(None) => {}
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or(SocketError::NotRunning(places)))
    }

    /// `None` where nobody listens.
    async fn connect_to(&self, path: &Path) -> Result<Option<UnixStream>, SocketError> {
        let failed = |source| SocketError::Connect { path: path.to_owned(), source };
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(SocketError::TooLong { path: path.to_owned() });
            }
            Err(error) => return Err(failed(error)),
        };
        let theirs = stream.peer_cred().map_err(failed)?.uid();
        if theirs == self.uid {
            Ok(Some(stream))
        } else {
            Err(SocketError::Foreign { path: path.to_owned(), theirs, ours: self.uid })
        }
    }
}

/// An environment variable that says something.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A missing or stale socket, or a file that is none.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
    )
}

/// The sixth field of the user's line in the user database.
fn home_of(passwd: &[u8], uid: u32) -> Option<PathBuf> {
    let uid = uid.to_string();
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let home = std::str::from_utf8(fields.get(5)?).ok()?;
        (fields[2] == uid.as_bytes() && home.starts_with('/')).then(|| PathBuf::from(home))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        Surroundings { uid: 1000, ..Surroundings::default() }
    }

    #[test]
    fn without_any_environment_there_is_still_a_place() {
        assert_eq!(surroundings().places(), [PathBuf::from("/run/user/1000/p2pchat/default.sock")]);
    }

    #[test]
    fn the_order_of_the_contract() {
        let all = Surroundings {
            profile: "work".parse().expect("a name"),
            runtime_dir: Some("/r".into()),
            data_home: Some("/d".into()),
            home: Some("/h".into()),
            ..surroundings()
        };
        let places = [
            "/r/p2pchat/work.sock",
            "/run/user/1000/p2pchat/work.sock",
            "/d/p2pchat/work/peerd.sock",
            "/h/.local/share/p2pchat/work/peerd.sock",
        ];
        assert_eq!(all.places(), places.map(PathBuf::from));
        let named = Surroundings { socket: Some("/s".into()), ..all };
        assert_eq!(named.places(), [PathBuf::from("/s")]);
    }

    #[test]
    fn a_place_is_tried_once() {
        let twice = Surroundings { runtime_dir: Some("/run/user/1000".into()), ..surroundings() };
        assert_eq!(twice.places().len(), 1);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_socket_of_another_user_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let _listener = tokio::net::UnixListener::bind(&path).expect("a socket");
        let ours = rustix::process::geteuid().as_raw();
        let named = |uid| Surroundings { uid, socket: Some(path.clone()), ..surroundings() };
        let refused = named(ours + 1).connect().await;
        assert!(matches!(refused, Err(SocketError::Foreign { theirs, .. }) if theirs == ours));
        assert!(named(ours).connect().await.is_ok());
        let two = Surroundings {
            runtime_dir: Some(folder.path().into()),
            uid: u32::MAX - 1,
            ..surroundings()
        };
        assert!(
            matches!(two.connect().await, Err(SocketError::NotRunning(places)) if places.len() == 2)
        );
    }

    #[test]
    fn the_home_comes_from_the_line_of_the_user_id() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\na:x:1000:1000:A,,,:/home/a:/bin/sh\n";
        assert_eq!(home_of(passwd, 1000), Some("/home/a".into()));
        assert_eq!(home_of(passwd, 0), Some("/root".into()));
        assert_eq!(home_of(passwd, 7), None);
    }

    #[test]
    fn no_profile_leaves_its_folder() {
        for text in ["..", "a/b", "", "/etc"] {
            assert!(text.parse::<Profile>().is_err(), "{text:?}");
        }
    }
}
