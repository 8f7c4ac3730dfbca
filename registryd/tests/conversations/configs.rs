//! The configuration file: checked before anything meets it, and taken anew on SIGHUP, all or nothing.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use registryd_proto::{Answer, Code, Keypair, RegistryAddress, Request};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    client::{PATIENCE, Peer},
    tool::{arg, plain, registryd},
};

/// Waits for a condition, asking again and again.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_good_file_is_valid_and_each_mistake_is_told_with_its_place() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("registryd.toml");
    let data = folder.path().join("data");
    let check = |text: &str| {
        fs::write(&file, text.replace("DATA", arg(&data))).expect("written");
        registryd(&data, &["--config", arg(&file), "config", "check"])
    };
    let told = check("data_dir = \"DATA\"\nlisten = \"127.0.0.1:0\"\n").ok("registryd.config/1");
    assert_eq!(told["valid"], true);
    assert!(!data.exists(), "a check makes nothing");

    let told = check("data_dir = \"DATA\"\nlisen = \"[::]:1\"\n[hello]\ninterval_ms = 5\n");
    assert_eq!((told.code, &told.object["valid"]), (2, &false.into()), "{}", told.object);
    let problems = told.object["problems"].as_array().expect("a list");
    let places: Vec<_> = problems.iter().map(|p| (&p["line"], &p["column"])).collect();
    assert_eq!(places, [(&2.into(), &1.into()), (&4.into(), &1.into())], "{problems:?}");
    assert!(problems[0]["hint"].as_str().expect("a hint").contains("\"listen\""), "{problems:?}");

    fs::write(folder.path().join("in-the-way"), "").expect("written");
    let blocked = arg(folder.path()).to_owned() + "/in-the-way/data";
    let told = check(&format!("\ndata_dir = {blocked:?}\nlisten = \"127.0.0.1:0\"\n"));
    assert_eq!((told.code, &told.object["problems"][0]["line"]), (2, &2.into()), "{}", told.object);
    let text = plain(&data, &["--config", arg(&file), "config", "check"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.starts_with(&format!("{}:2:12: data_dir: ", file.display())), "{text}");
    let gone = folder.path().join("none.toml");
    registryd(&data, &["--config", arg(&gone), "config", "check"]).failed(6, "not_found");
    registryd(&data, &["config", "check"]).failed(2, "usage");
}

/// A registry with a configuration file.
struct Daemon {
    child: Child,
    folder: TempDir,
    address: RegistryAddress,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(text: &str) -> Daemon {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = folder.path().join("registryd.toml");
        fs::write(&file, text).expect("written");
        let log = File::create(folder.path().join("log")).expect("a log");
        // A relative path, which is found again whatever the process does.
        let mut child = Command::new(env!("CARGO_BIN_EXE_registryd"))
            .args(["--config", "registryd.toml", "--data-dir", "data", "--ready-json"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("spawned");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let address = ready["address"].as_str().expect("text").parse().expect("an address");
        Daemon { child, folder, address }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// Writes the file anew, and lets it be read; returns what the log says of it.
    async fn reload(&self, text: &str) -> String {
        fs::write(self.folder.path().join("registryd.toml"), text).expect("written");
        let before = self.log().len();
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("not 0");
        kill_process(pid, Signal::HUP).expect("signalled");
        eventually("the log says what became of it", async || {
            self.log()[before..].contains("reloaded")
        })
        .await;
        self.log()[before..].to_owned()
    }

    fn peer(&self, name: &str, seed: u8) -> Peer {
        Peer {
            name: name.parse().expect("name"),
            keys: Keypair::from_secret(&[seed; 32]),
            room_keys: Keypair::from_secret(&[seed ^ 0x80; 32]),
            registry: self.address.key.expect("a key"),
            address: self.address.host_port().parse().expect("loopback"),
        }
    }

    /// What is answered to a new account.
    async fn create(&self, name: &str, seed: u8) -> Result<(), Code> {
        let peer = self.peer(name, seed);
        let created = peer.connect().await.ask(&peer.create()).await;
        created.map(drop).map_err(|failure| failure.code)
    }
}

const OPEN: &str = "listen = \"127.0.0.1:0\"\nregistration = \"open\"\n";

#[tokio::test]
async fn a_reload_changes_what_can_change_and_says_what_needs_a_restart() {
    let daemon = Daemon::start(OPEN);
    let begin = daemon.log();
    for word in ["the registry serves", env!("CARGO_PKG_VERSION"), "data", "127.0.0.1:"] {
        assert!(begin.contains(word), "{word}: {begin}");
    }
    assert_eq!(daemon.create("ann", 1).await, Ok(()));
    let log = daemon
        .reload(
            "listen = \"127.0.0.1:1\"\nregistration = \"closed\"\n\
             [connections]\nmax = 1\n[hello]\ninterval_min_ms = 3000\n",
        )
        .await;
    assert!(log.contains("changed: registration, hello, connections;"), "{log}");
    assert!(log.contains("needs a restart: listen"), "{log}");
    assert_eq!(daemon.create("bob", 2).await, Err(Code::Blocked));
    let ann = daemon.peer("ann", 1);
    let mut link = ann.connect().await;
    let grant = link.session(&ann.login(1)).await;
    // The interval is adapted within a second.
    eventually("the interval follows", async || {
        let told = registryd(&daemon.folder.path().join("data"), &["admin", "stats"]);
        told.object["hello"]["interval_ms"] == 3000
    })
    .await;
    let again = link.session(&crate::client::resume(2)).await;
    assert_eq!((again.interval_ms, again.epoch), (3000, grant.epoch + 1));

    let log = daemon.reload(OPEN).await;
    assert!(log.contains("changed: registration, hello, connections"), "{log}");
    assert!(!log.contains("restart"), "what is in force is compared: {log}");
    assert_eq!(daemon.create("bob", 2).await, Ok(()));
    assert!(daemon.reload(OPEN).await.contains("nothing changed"));
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_is_told_in_the_log() {
    let daemon = Daemon::start(OPEN);
    for wrong in [
        "registration = \"closed\"\nlisen = 1\n",
        "registration = \"closed\"\n[connections]\nmax = 0\n",
        "registration = \"closed\"\n[metrics]\nlisten = \"0.0.0.0:1\"\n",
        "registration = \n",
    ] {
        let log = daemon.reload(wrong).await;
        assert!(log.contains("not reloaded") && log.contains("registryd.toml:"), "{wrong}: {log}");
    }
    fs::remove_file(daemon.folder.path().join("registryd.toml")).expect("removed");
    assert_eq!(daemon.create("ann", 1).await, Ok(()), "still open");
    let ann = daemon.peer("ann", 1);
    let sync = frame(&Request::Sync { version: 0 });
    let answer = ann.connect().await.raw(&sync).await;
    let answer: Answer = registryd_proto::frame::decode(&answer).expect("an answer");
    assert!(matches!(answer, Answer::Error(_)), "it serves: {answer:?}");
}

fn frame(request: &Request) -> Vec<u8> {
    use registryd_proto::frame::{Kind, encode};
    encode(Kind::Request, request).expect("small").to_vec()
}

#[test]
fn a_start_with_a_wrong_file_tells_all_that_is_wrong() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file: PathBuf = folder.path().join("registryd.toml");
    fs::write(&file, "[connections]\nmax = 0\n[store]\nhang_limit_s = 0\n").expect("written");
    let output = plain(Path::new("unused"), &["--config", arg(&file)]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    for place in ["registryd.toml:2:7: ", "registryd.toml:4:16: "] {
        assert!(told.contains(place), "{told}");
    }
}
