//! A registry for tests.

use std::{
    ffi::OsString,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

use registryd_proto::{PublicKey, RegistryAddress};
use tempfile::TempDir;

use crate::{
    binaries::binaries,
    ctl::{Ctl, CtlOutput},
    daemon::Daemon,
    process::{Prefix, bare, bare_under},
};

/// What both daemons log in tests, unless told otherwise: all of ours, little of the libraries.
pub(crate) const LOG: &str =
    "info,registryd=trace,registryd_proto=trace,peerd=trace,peerd_proto=trace";

/// How one is started, each time.
#[derive(Debug)]
struct Manner {
    prefix: Prefix,
    log_filter: String,
    args: Vec<String>,
}

impl Manner {
    fn new(args: &[&str], log_filter: &str) -> Self {
        let args = args.iter().map(|&a| a.to_owned()).collect();
        Self { prefix: Prefix::default(), log_filter: log_filter.to_owned(), args }
    }
}

/// A running registryd with a folder of its own.
#[derive(Debug)]
pub struct Registry {
    daemon: Daemon,
    address: RegistryAddress,
    manner: Manner,
    folder: TempDir,
}

impl Registry {
    /// Starts one at a free port of loopback.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn start() -> Self {
        Self::start_with(&[], LOG)
    }

    /// With more arguments and a log filter of one's own.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn start_with(args: &[&str], log_filter: &str) -> Self {
        Self::start_on("127.0.0.1:0", Manner::new(args, log_filter))
    }

    /// A new registry, with a key of its own, at an address that another one has left.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn start_at(place: &str) -> Self {
        Self::start_on(place, Manner::new(&[], LOG))
    }

    /// Runs one under `prefix`, at an address that there is there, with a log filter of one's own.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn start_under(prefix: Prefix, place: &str, log_filter: &str) -> Self {
        Self::start_on(place, Manner { prefix, ..Manner::new(&[], log_filter) })
    }

    /// Starts one in a folder where an earlier start, the first there, ran in this environment: it ended by
    /// itself, or is killed as soon as it is ready.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn start_after(env: &[(&'static str, OsString)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = command(folder.path(), "127.0.0.1:0", &Manner::new(&[], LOG));
        command.envs(env.iter().cloned());
        drop(Daemon::launch("registryd", command, &folder.path().join("registryd.log")));
        Self::launch(folder, &[])
    }

    /// Starts one in this folder, where the data may be, and in this environment.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn launch(folder: TempDir, env: &[(&'static str, OsString)]) -> Self {
        let manner = Manner::new(&[], LOG);
        let mut command = command(folder.path(), "127.0.0.1:0", &manner);
        command.envs(env.iter().cloned());
        let daemon = Daemon::start("registryd", command, &folder.path().join("registryd.log"));
        Self { address: address(&daemon), daemon, manner, folder }
    }

    fn start_on(place: &str, manner: Manner) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let daemon = spawn(folder.path(), place, &manner);
        let address = address(&daemon);
        Self { daemon, address, manner, folder }
    }

    /// `KEY@HOST:PORT`, what users pass to `--registry`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its key.
    ///
    /// # Panics
    /// Never: a ready line with no key would have failed the start.
    pub fn key(&self) -> PublicKey {
        self.address.key.expect("checked at the start")
    }

    /// Where it listens, TCP and UDP.
    ///
    /// # Panics
    /// Never: it was started on an address of loopback.
    pub fn socket_address(&self) -> SocketAddr {
        self.address.host_port().parse().expect("an address of loopback")
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `registryd admin --json` for its data folder, ready for a verb.
    pub fn admin_with(&self) -> Ctl {
        self.bare_admin().args(&["--json"])
    }

    /// Runs a verb of its operator, stdin empty.
    pub fn admin(&self, verb: &[&str]) -> CtlOutput {
        self.admin_with().args(verb).run()
    }

    /// `registryd admin` for its data folder, answering in text for people.
    pub fn bare_admin(&self) -> Ctl {
        let mut command = bare(&binaries().registryd, self.folder.path());
        command.arg("admin").arg("--data-dir").arg(self.data());
        Ctl::of_registryd(command)
    }

    /// `registryd --json` for its data folder with these arguments: backup, restore, check and the like.
    pub fn tool(&self, args: &[&str]) -> Ctl {
        let mut command = bare(&binaries().registryd, self.folder.path());
        command.args(["--json", "--data-dir"]).arg(self.data());
        Ctl::of_registryd(command).args(args)
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts again as [`Registry::restart`] does, this once in this environment, and tells whether it gets
    /// ready; it may end before.
    ///
    /// # Panics
    /// If it neither gets ready nor ends, or shows another key.
    pub fn restart_in(&mut self, env: &[(&'static str, OsString)]) -> bool {
        self.daemon.kill();
        let folder = self.folder.path();
        let mut command = command(folder, &self.address.host_port(), &self.manner);
        command.envs(env.iter().cloned());
        self.daemon = Daemon::launch("registryd", command, &folder.join("registryd.log"));
        let ready = !self.daemon.ready().is_null();
        assert!(!ready || address(&self.daemon) == self.address, "a restart keeps key and port");
        ready
    }

    /// Starts again on the same folder and port, after a kill or a stop.
    ///
    /// # Panics
    /// If it does not get ready, or shows another key.
    pub fn restart(&mut self) {
        self.daemon.kill();
        let place = self.address.host_port();
        self.daemon = spawn(self.folder.path(), &place, &self.manner);
        assert_eq!(address(&self.daemon), self.address, "a restart keeps key and port");
    }
}

fn spawn(folder: &Path, listen: &str, manner: &Manner) -> Daemon {
    let command = command(folder, listen, manner);
    Daemon::start("registryd", command, &folder.join("registryd.log"))
}

fn command(folder: &Path, listen: &str, manner: &Manner) -> Command {
    let mut command = bare_under(&manner.prefix, &binaries().registryd, folder);
    command
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--listen", listen, "--ready-json"])
        .args(&manner.args)
        .env("P2P_LOG", &manner.log_filter);
    command
}

fn address(daemon: &Daemon) -> RegistryAddress {
    assert_eq!(daemon.ready()["schema"], "registryd.ready/1");
    let text = daemon.ready()["address"].as_str().expect("the ready line has an address");
    let address: RegistryAddress = text.parse().expect("the address is one");
    assert!(address.key.is_some(), "the address has a key: {text}");
    address
}

/// Two different UDP ports that were free a moment ago.
///
/// # Panics
/// If there are none.
pub fn free_udp_ports() -> [u16; 2] {
    // Both are held until both are known: the system may give one that was let go again at once.
    let sockets = [(); 2].map(|()| UdpSocket::bind("0.0.0.0:0").expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("a bound socket").port())
}
