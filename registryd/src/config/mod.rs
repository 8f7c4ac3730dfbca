//! The configuration: defaults, then the file, then the command line.
//!
//! An example with the defaults, `registryd.toml`:
//!
//! ```toml
//! data_dir = "/var/lib/registryd"
//! listen = "[::]:4700"
//! registration = "open"            # open, invite, closed
//! # log_dir = "/var/log/registryd" # else the log goes to stderr
//!
//! [hello]
//! interval_min_ms = 1000           # while few are online
//! hello_per_second_max = 20000     # with more online the interval grows
//!
//! [connections]
//! max = 4096                       # about 15 kB each
//! per_source_max = 512
//!
//! [store]
//! hang_limit_s = 60                # a disk that has not answered for so long ends registryd
//!
//! [metrics]
//! # listen = "127.0.0.1:9470"      # /metrics and /health; or "unix:/PATH"; off unless given
//!
//! [limits]                         # a burst, and one more after every_ms
//! passwords = { burst = 20, every_ms = 3000 }           # one account from one source, and from its own key
//! passwords_per_source = { burst = 700, every_ms = 200 }
//! passwords_per_account = { burst = 2000, every_ms = 250 } # from all sources, but for its own key
//! searches = { burst = 300, every_ms = 50 }             # one account
//! requests = { burst = 1000, every_ms = 10 }            # one account
//! room_changes = { burst = 600, every_ms = 2000 }       # one account
//! rebinds = { burst = 20, every_ms = 600000 }           # one account: logins with other keys
//! strangers = { burst = 1000, every_ms = 50 }           # not enrolled, one source
//! connections = { burst = 1000, every_ms = 10 }         # one source
//! ```

mod place;
mod problem;
mod read;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

pub use problem::Problem;

use crate::{
    cli::{Cli, Registration},
    limits::Rates,
    metrics::MetricsAddress,
    presence::Pace,
};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what is expected.
    #[error("{}", shown(path, problems))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All that is wrong.
        problems: Vec<Problem>,
    },
    /// The folder that relative paths begin at.
    #[error("cannot use the path {path}: {source}")]
    Path {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Everything that registryd can be told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of the key and the database.
    pub data_dir: PathBuf,
    /// `HOST:PORT` of TCP and UDP.
    pub listen: String,
    /// Who may create an account.
    pub registration: Registration,
    /// Folder of the log; `None` is stderr.
    pub log_dir: Option<PathBuf>,
    /// How HELLO is paced.
    pub hello: HelloConfig,
    /// How many connections are held.
    pub connections: ConnectionsConfig,
    /// What is expected of the disk.
    pub store: StoreConfig,
    /// Where metrics and health can be had.
    pub metrics: MetricsConfig,
    /// How often anybody may ask.
    pub limits: Rates,
}

/// The table `[hello]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HelloConfig {
    /// The shortest interval; at least 100.
    pub interval_min_ms: u32,
    /// The most HELLOs in a second, over all peers.
    pub hello_per_second_max: u32,
}

/// The table `[connections]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionsConfig {
    /// In all. Each costs about 15 kB with the kernel's part, so the default is 64 MB at most.
    pub max: usize,
    /// From one address; an office behind one address opens few at a time, for idle ones are closed.
    pub per_source_max: usize,
}

/// The table `[store]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// How long the disk may take for one answer, in seconds; at least 1.
    pub hang_limit_s: u32,
}

/// The table `[metrics]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where `/metrics` and `/health` are answered; `None`: nowhere.
    pub listen: Option<MetricsAddress>,
}

impl Default for StoreConfig {
    fn default() -> Self {
        // Longer than the longest line of writes on a slow disk.
        Self { hang_limit_s: 60 }
    }
}

impl StoreConfig {
    /// As the store takes it.
    pub fn hang_limit(self) -> Duration {
        Duration::from_secs(u64::from(self.hang_limit_s.max(1)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/registryd"),
            listen: "[::]:4700".to_owned(),
            registration: Registration::Open,
            log_dir: None,
            hello: HelloConfig::default(),
            connections: ConnectionsConfig::default(),
            store: StoreConfig::default(),
            metrics: MetricsConfig::default(),
            limits: Rates::default(),
        }
    }
}

impl Default for HelloConfig {
    fn default() -> Self {
        Self { interval_min_ms: 1000, hello_per_second_max: 20_000 }
    }
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self { max: 4096, per_source_max: 512 }
    }
}

impl HelloConfig {
    /// As presence takes it.
    pub fn pace(self) -> Pace {
        Pace {
            interval_min_ms: self.interval_min_ms.clamp(100, 600_000),
            hello_per_second_max: self.hello_per_second_max.max(1),
        }
    }
}

impl Config {
    /// Reads the file named on the command line, and lays the command line over it. Paths become
    /// absolute, for a daemon leaves its folder.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(cli: &Cli) -> Result<Config, ConfigError> {
        let here = |source| ConfigError::Path { path: PathBuf::from("."), source };
        Self::load_from(cli, &std::env::current_dir().map_err(here)?)
    }

    /// The same for relative paths of a folder, which may not be the process's any more.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(crate) fn load_from(cli: &Cli, folder: &Path) -> Result<Config, ConfigError> {
        let mut config = match &cli.common.config {
            Some(path) => Self::read(&folder.join(path))?,
            None => Config::default(),
        };
        if let Some(data_dir) = &cli.common.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(listen) = &cli.serve.listen {
            config.listen.clone_from(listen);
        }
        if let Some(registration) = cli.serve.registration {
            config.registration = registration;
        }
        if cli.serve.log_dir.is_some() {
            config.log_dir.clone_from(&cli.serve.log_dir);
        }
        config.data_dir = folder.join(&config.data_dir);
        config.log_dir = config.log_dir.map(|log_dir| folder.join(log_dir));
        Ok(config)
    }

    /// All that is wrong with a file, what is only seen on this machine included: folders that cannot be
    /// used, a name that is not resolved.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn problems(path: &Path) -> io::Result<Vec<Problem>> {
        let text = fs::read_to_string(path)?;
        Ok(match read::read(&text) {
            Ok(config) => place::problems(&config, &text),
            Err(problems) => problems,
        })
    }

    /// The keys whose values cannot be, each with the reason.
    fn out_of_range(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut within = |key, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                found.push((key, format!("{value} is out of range: {least} to {most}")));
            }
        };
        let (hello, connections) = (self.hello, self.connections);
        within("hello.interval_min_ms", hello.interval_min_ms.into(), 100, 600_000);
        within("hello.hello_per_second_max", hello.hello_per_second_max.into(), 1, 10_000_000);
        within("connections.max", connections.max as u64, 1, 1_000_000);
        within("connections.per_source_max", connections.per_source_max as u64, 1, 1_000_000);
        within("store.hang_limit_s", self.store.hang_limit_s.into(), 1, 86_400);
        if !place::is_host_port(&self.listen) {
            let listen = &self.listen;
            let why = format!("{listen:?} is no HOST:PORT, an IPv6 address in brackets: [::]:4700");
            found.push(("listen", why));
        }
        found
    }

    fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        read::read(&text).map_err(|problems| ConfigError::Wrong { path: path.to_owned(), problems })
    }
}

fn shown(path: &Path, problems: &[Problem]) -> String {
    let shown = problems.iter().map(|problem| problem.shown(path).to_string());
    shown.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Common, Serve};

    /// The example in the header, as a reader would copy it.
    fn example() -> String {
        let lines = include_str!("mod.rs").lines().map_while(|l| l.strip_prefix("//!"));
        let inside = lines.skip_while(|l| l.trim() != "```toml").skip(1);
        inside.take_while(|l| l.trim() != "```").collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_says_the_defaults() {
        let example: Config = toml::from_str(&example()).expect("a valid example");
        assert_eq!(format!("{example:?}"), format!("{:?}", Config::default()));
    }

    #[test]
    fn the_command_line_wins_and_unknown_keys_are_told() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("registryd.toml");
        fs::write(&path, "listen = \"localhost:1\"\nregistration = \"closed\"\n").expect("written");
        let cli = Cli {
            common: Common {
                config: Some(path.clone()),
                data_dir: Some("here".into()),
                json: false,
            },
            serve: Serve { listen: Some("localhost:2".to_owned()), ..Serve::default() },
            command: None,
        };
        let config = Config::load(&cli).expect("valid");
        assert_eq!(
            (config.listen.as_str(), config.registration),
            ("localhost:2", Registration::Closed)
        );
        assert!(config.data_dir.is_absolute());

        fs::write(&path, "listen_on = \"x\"\n").expect("written");
        let error = Config::load(&cli).expect_err("unknown key");
        assert!(error.to_string().contains("listen_on"), "{error}");
    }
}
