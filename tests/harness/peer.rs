//! A user for tests: one peerd with its folders, and p2pctl that talks to it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binaries::binaries,
    ctl::{Ctl, CtlOutput},
    daemon::Daemon,
    listener::Listener,
    process::{Prefix, bare, bare_under},
    registry::{LOG, Registry},
    rpc::Rpc,
    small_disk::SmallDisk,
    wait::{DEADLINE, eventually},
};

/// Every test user's password. Tests search for it where it must not be.
pub const PASSWORD: &str = "correct-horse-battery-staple";

/// The folder of a home with all data of a peerd.
const DATA: &str = "data";

/// How a peerd is started.
#[derive(Debug, Clone)]
pub struct PeerOptions {
    /// The filter of the log.
    pub log_filter: String,
    /// More arguments.
    pub args: Vec<String>,
    /// More of the environment.
    pub env: Vec<(&'static str, OsString)>,
    /// What runs it.
    pub prefix: Prefix,
    /// Its data is on a disk of so many MiB, where one can be mounted.
    pub disk_mib: Option<u32>,
}

impl Default for PeerOptions {
    fn default() -> Self {
        let (args, env) = (Vec::new(), Vec::new());
        Self { log_filter: LOG.to_owned(), args, env, prefix: Prefix::default(), disk_mib: None }
    }
}

/// A peerd with a home of its own; the profile bears the user's name.
#[derive(Debug)]
pub struct Peer {
    name: String,
    daemon: Daemon,
    options: PeerOptions,
    disk: Option<SmallDisk>,
    home: TempDir,
}

impl Peer {
    /// Starts one with a new profile, not logged in.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, PeerOptions::default())
    }

    /// With options.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn start_with(name: &str, options: PeerOptions) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let disk = options.disk_mib.and_then(|mib| SmallDisk::mount(home.path(), DATA, mib));
        let daemon = spawn(name, home.path(), &options);
        Self { name: name.to_owned(), daemon, options, disk, home }
    }

    /// Starts one in this home and environment. It may end before it is ready; then [`Daemon::ready`] is null.
    ///
    /// # Panics
    /// If it neither gets ready nor ends.
    pub fn launch(name: &str, home: TempDir, env: &[(&'static str, OsString)]) -> Self {
        let options = PeerOptions { env: env.to_vec(), ..PeerOptions::default() };
        let command = command(name, home.path(), &options);
        let daemon = Daemon::launch(name, command, &home.path().join("peerd.log"));
        Self { name: name.to_owned(), daemon, options, disk: None, home }
    }

    /// Starts one, creates its account and logs in.
    ///
    /// # Panics
    /// If any of it fails.
    pub fn online(name: &str, registry: &Registry) -> Self {
        let peer = Self::start(name);
        peer.create_account(&registry.address()).ok();
        peer.login(&[]).ok();
        peer
    }

    /// The name of user and profile.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The small disk of its data, if it has one.
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// Its home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.home.path().join(DATA).join("p2pchat").join(&self.name)
    }

    /// Its control socket.
    ///
    /// # Panics
    /// If the ready line names none.
    pub fn socket(&self) -> PathBuf {
        self.daemon.ready()["socket"].as_str().expect("the ready line has a socket").into()
    }

    /// The process.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// SIGTERM.
    pub fn stop(&mut self) -> ExitStatus {
        self.daemon.stop()
    }

    /// Starts again on the same folders, after a kill or a stop.
    ///
    /// # Panics
    /// If it does not get ready.
    pub fn restart(&mut self) {
        self.daemon.kill();
        self.daemon = spawn(&self.name, self.home.path(), &self.options);
    }

    /// Starts again as [`Peer::restart`] does, with this environment from here on, and tells whether it gets
    /// ready; it may end before.
    pub fn restart_in(&mut self, env: &[(&'static str, OsString)]) -> bool {
        self.daemon.kill();
        self.options.env = env.to_vec();
        let command = command(&self.name, self.home.path(), &self.options);
        self.daemon = Daemon::launch(&self.name, command, &self.home.path().join("peerd.log"));
        !self.daemon.ready().is_null()
    }

    /// Starts another peerd for the same profile, which is expected to end by itself.
    pub fn second_daemon(&self) -> CtlOutput {
        let mut command = bare(&binaries().peerd, self.home.path());
        command.args(["--profile", &self.name, "--ready-json"]);
        Ctl::of(command).run()
    }

    /// p2pctl with this peer's socket and `--json`, ready for more arguments.
    pub fn ctl_with(&self) -> Ctl {
        Ctl::new(self.bare_ctl(), &self.socket()).args(&["--json"])
    }

    /// p2pctl with this peer's socket, answering in text for people.
    pub fn text_ctl(&self) -> Ctl {
        Ctl::new(self.bare_ctl(), &self.socket())
    }

    /// p2pctl without any argument, in this peer's home.
    pub fn bare_ctl(&self) -> Command {
        bare(&binaries().p2pctl, self.home.path())
    }

    /// Runs p2pctl with `--json` and these arguments, stdin empty.
    pub fn ctl(&self, args: &[&str]) -> CtlOutput {
        self.ctl_with().args(args).run()
    }

    /// Creates the account, with [`PASSWORD`] on stdin.
    pub fn create_account(&self, registry: &str) -> CtlOutput {
        let args = ["create-account", &self.name, "--registry", registry, "--password-stdin"];
        self.ctl_with().args(&args).stdin(format!("{PASSWORD}\n")).run()
    }

    /// Logs in, with [`PASSWORD`] on stdin.
    pub fn login(&self, args: &[&str]) -> CtlOutput {
        let call = self.ctl_with().args(&["login", &self.name, "--password-stdin"]).args(args);
        call.stdin(format!("{PASSWORD}\n")).run()
    }

    /// `p2pctl listen` in the background.
    pub fn listen(&self, args: &[&str]) -> Listener {
        let mut command = self.bare_ctl();
        command.arg("--socket").arg(self.socket()).args(["--json", "listen"]).args(args);
        Listener::start(command)
    }

    /// The control socket without p2pctl.
    ///
    /// # Panics
    /// If it cannot be connected.
    pub fn rpc(&self) -> Rpc {
        Rpc::connect(&self.socket())
    }

    /// `status`, whatever its exit code.
    ///
    /// # Panics
    /// If peerd does not answer.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.ctl(&["status"]).object()
    }

    /// Waits until the session is online, of a peerd that was or shall be logged in.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn wait_online(&self) {
        self.ctl(&["wait", "online"]).ok();
    }

    /// What `search` of `user` says of presence.
    ///
    /// # Panics
    /// If the search fails.
    #[track_caller]
    pub fn presence_of(&self, user: &str) -> String {
        let found = self.ctl(&["search", user]).ok();
        found["presence"].as_str().expect("a word").to_owned()
    }

    /// The bodies of a conversation, as `(author, body)`, oldest first. `target` is a user's name, or
    /// `--room` and a room's.
    ///
    /// # Panics
    /// If `history` fails.
    #[track_caller]
    pub fn history(&self, target: &[&str]) -> Vec<(String, String)> {
        let output = self.ctl_with().args(&["history", "--limit", "10000"]).args(target).run();
        let text = |v: &Value| v.as_str().expect("a text").to_owned();
        output.ok_lines().iter().map(|m| (text(&m["from"]), text(&m["body"]))).collect()
    }

    /// The numbers of waiting messages' ids.
    ///
    /// # Panics
    /// If `outbox` fails.
    #[track_caller]
    pub fn outbox(&self) -> Vec<String> {
        let answer = self.ctl(&["outbox"]).ok();
        let messages = answer["messages"].as_array().expect("a list");
        messages.iter().map(|m| m["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Lets `user` write without asking.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn allow(&self, user: &str) {
        self.ctl(&["policy", user, "allow"]).ok();
    }

    /// Asks `other` for a chat, which accepts: active on both sides when this returns.
    ///
    /// # Panics
    /// If any step fails.
    #[track_caller]
    pub fn chat_with(&self, other: &Peer) {
        let asking = self.ctl_with().args(&["chat", other.name(), "--request"]).spawn();
        other.wait_for_request(self.name());
        assert_eq!(other.ctl(&["accept", self.name()]).ok()["state"], "active");
        assert_eq!(asking.wait().ok()["state"], "active");
    }

    /// Waits until `user` asks.
    ///
    /// # Panics
    /// If that does not happen.
    #[track_caller]
    pub fn wait_for_request(&self, user: &str) {
        eventually(&format!("{user} asks {}", self.name), DEADLINE, || {
            let answer = self.ctl(&["requests"]).ok();
            answer["requests"].as_array().expect("a list").iter().any(|r| r["from"] == user)
        });
    }
}

fn spawn(name: &str, home: &Path, options: &PeerOptions) -> Daemon {
    let command = command(name, home, options);
    let daemon = Daemon::start(name, command, &home.join("peerd.log"));
    assert_eq!(daemon.ready()["schema"], "peerd.ready/1");
    assert_eq!(daemon.ready()["profile"], name);
    daemon
}

fn command(name: &str, home: &Path, options: &PeerOptions) -> Command {
    let run = home.join("run");
    std::fs::create_dir_all(&run).expect("a runtime folder");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&run, private).expect("our own folder");
    let mut command = bare_under(&options.prefix, &binaries().peerd, home);
    let config = home.join("peerd.toml");
    std::fs::write(&config, format!("log = {:?}\n", options.log_filter)).expect("our own folder");
    command.args(["--profile", name, "--ready-json", "--config"]).arg(config).args(&options.args);
    command.envs(options.env.iter().cloned());
    command
}
