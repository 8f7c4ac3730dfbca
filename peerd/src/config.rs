//! Settings: the command line, then the config file, then defaults.
//!
//! The config file is TOML; unknown keys are refused. All keys with their defaults:
//!
//! ```toml
//! data_dir = "…"            # $XDG_DATA_HOME/p2pchat/PROFILE, else ~/.local/share/p2pchat/PROFILE
//! socket = "…"              # $XDG_RUNTIME_DIR/p2pchat/PROFILE.sock, else /run/user/UID/p2pchat/PROFILE.sock,
//!                           # else peerd.sock in data_dir
//! log_dir = "…"             # standard error; with --daemonize: log in data_dir
//! log = "info"              # what is logged, as in tracing's filters: "info", "peerd=debug"
//! max_active_chats = 1      # more callers are answered busy
//!
//! [store]
//! hang_limit_s = 60         # a disk that has not answered for so long ends peerd
//! ```
//!
//! Without an environment (cron) the home folder is read from the passwd file.

use std::{
    env, fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf, absolute},
    time::Duration,
};

use serde::Deserialize;

use crate::cli::Cli;

/// Longer than the longest line of writes on a slow disk.
const HANG_LIMIT_S: u32 = 60;
/// The largest config file.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no config file.
    #[error("{} cannot be understood", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// It is far too large.
    #[error("{} is no config file: it is too large", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
    /// No folder was given, and there is no home folder.
    #[error("this user has no home folder: give --data-dir")]
    NoHome,
    /// The working folder is gone.
    #[error("a path cannot be made absolute")]
    Absolute(#[source] io::Error),
}

/// What peerd runs with. All paths are absolute.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The profile's name.
    pub profile: String,
    /// Where keys and database are.
    pub data_dir: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Where log files go; `None`: standard error.
    pub log_dir: Option<PathBuf>,
    /// The filter of the log.
    pub log: String,
    /// How many chats may be active.
    pub max_active_chats: u32,
    /// How long the disk may take for one answer.
    pub hang_limit: Duration,
    /// Whether to go to the background.
    pub daemonize: bool,
    /// Whether to print a line when ready.
    pub ready_json: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    log_dir: Option<PathBuf>,
    log: Option<String>,
    max_active_chats: Option<u32>,
    store: Option<Store>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Store {
    hang_limit_s: Option<u32>,
}

impl Settings {
    /// Puts them together.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn new(cli: Cli) -> Result<Self, ConfigError> {
        let file = cli.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let whole = |path: PathBuf| absolute(path).map_err(ConfigError::Absolute);
        let data_dir = match cli.data_dir.or(file.data_dir) {
            Some(given) => given,
            None => data_home()?.join("p2pchat").join(&cli.profile),
        };
        let data_dir = whole(data_dir)?;
        let socket = cli.socket.or(file.socket).unwrap_or_else(|| match runtime_dir() {
            Some(folder) => folder.join("p2pchat").join(format!("{}.sock", cli.profile)),
            None => data_dir.join("peerd.sock"),
        });
        let hang_limit_s = file.store.and_then(|store| store.hang_limit_s);
        let hang_limit_s = hang_limit_s.unwrap_or(HANG_LIMIT_S).max(1);
        let log_dir = cli.log_dir.or(file.log_dir);
        let log_dir = log_dir.or_else(|| cli.daemonize.then(|| data_dir.join("log")));
        Ok(Self {
            profile: cli.profile,
            socket: whole(socket)?,
            log_dir: log_dir.map(whole).transpose()?,
            log: file.log.unwrap_or_else(|| "info".to_owned()),
            max_active_chats: file.max_active_chats.unwrap_or(1),
            hang_limit: Duration::from_secs(u64::from(hang_limit_s)),
            daemonize: cli.daemonize,
            ready_json: cli.ready_json,
            data_dir,
        })
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    // Of a device or a pipe no size is known before.
    let read = fs::File::open(path)
        .and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text));
    if read.map_err(fail)? as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    toml::from_str(&text)
        .map_err(|source| ConfigError::Format { path: path.to_owned(), source: Box::new(source) })
}

/// A variable that names an absolute path; the XDG rules ignore others.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn data_home() -> Result<PathBuf, ConfigError> {
    if let Some(folder) = variable("XDG_DATA_HOME") {
        return Ok(folder);
    }
    let uid = rustix::process::geteuid().as_raw();
    let home = variable("HOME").or_else(|| home_of(&fs::read("/etc/passwd").ok()?, uid));
    Ok(home.ok_or(ConfigError::NoHome)?.join(".local/share"))
}

fn runtime_dir() -> Option<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let ours = |folder: &PathBuf| folder.metadata().is_ok_and(|m| m.is_dir() && m.uid() == uid);
    let by_rule = PathBuf::from(format!("/run/user/{uid}"));
    variable("XDG_RUNTIME_DIR").filter(ours).or(Some(by_rule).filter(ours))
}

fn home_of(passwd: &[u8], uid: u32) -> Option<PathBuf> {
    String::from_utf8_lossy(passwd).lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [_, _, id, _, _, home, ..] = fields[..] else { return None };
        (id.parse() == Ok(uid) && home.starts_with('/')).then(|| PathBuf::from(home))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn the_command_line_goes_before_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        fs::write(&path, "data_dir = \"/a\"\nsocket = \"/b\"\nmax_active_chats = 3\n")
            .expect("file");
        let config = path.to_str().expect("text");
        let cli = Cli::parse_from(["peerd", "--config", config, "--socket", "/c"]);
        let settings = Settings::new(cli).expect("settings");
        assert_eq!(settings.data_dir, Path::new("/a"));
        assert_eq!(settings.socket, Path::new("/c"));
        assert_eq!(settings.max_active_chats, 3);
        fs::write(&path, "max_active_chat = 3\n").expect("file");
        let refused = Settings::new(Cli::parse_from(["peerd", "--config", config]));
        assert!(matches!(refused, Err(ConfigError::Format { .. })));
        let endless = Settings::new(Cli::parse_from(["peerd", "--config", "/dev/zero"]));
        assert!(matches!(endless, Err(ConfigError::TooLarge { .. })));
    }

    #[test]
    fn a_profile_is_no_path() {
        for name in ["../x", "", "a/b", "-x", ".."] {
            assert!(
                Cli::try_parse_from(["peerd", &format!("--profile={name}")]).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn the_home_folder_is_found_without_an_environment() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\na:x:7:7:A,,:/home/a:/bin/sh\n";
        assert_eq!(home_of(passwd, 7), Some("/home/a".into()));
        assert_eq!(home_of(passwd, 8), None);
    }
}
