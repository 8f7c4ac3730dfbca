//! The real binary: how it starts, serves hostile clients, and ends.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

struct Peerd {
    child: Child,
    folder: TempDir,
}

impl Peerd {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"))
    }

    /// With an empty environment, as cron would.
    fn start_in(folder: TempDir) -> Self {
        let mut child = command(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("peerd starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let ready: Value = serde_json::from_str(&line).expect("ready");
        assert_eq!(ready["schema"], "peerd.ready/1");
        assert_eq!(ready["socket"].as_str(), socket(folder.path()).to_str());
        Self { child, folder }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(socket(self.folder.path())).expect("peerd listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Peerd {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().expect("a child of ours");
        }
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::yield_now();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("run").join("peerd.sock")
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerd"));
    command.env_clear().arg("--ready-json");
    command.arg("--data-dir").arg(folder.join("data")).arg("--socket").arg(socket(folder));
    command
}

fn ask(stream: &mut UnixStream, request: &str) -> Value {
    stream.write_all(request.as_bytes()).expect("write");
    answer(stream)
}

fn answer(stream: &UnixStream) -> Value {
    let mut line = Vec::new();
    let mut stream = stream;
    let mut byte = [0];
    while byte != [b'\n'] {
        stream.read_exact(&mut byte).expect("a whole line");
        line.push(byte[0]);
    }
    serde_json::from_slice(&line).expect("JSON")
}

#[test]
fn hostile_clients_get_one_error_each_and_others_are_served() {
    let peerd = Peerd::start();
    let mut half = peerd.connect();
    half.write_all(b"{\"jsonrpc\"").expect("write");

    let mut client = peerd.connect();
    let garbage = ask(&mut client, "\u{1b}[2J not json\n");
    assert_eq!((&garbage["id"], &garbage["error"]["code"]), (&Value::Null, &json!(-32700)));
    let unknown = ask(&mut client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"fly\"}\n");
    assert_eq!((&unknown["id"], &unknown["error"]["code"]), (&json!(1), &json!(-32601)));
    let bad = ask(&mut client, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"search\"}\n");
    assert_eq!(bad["error"]["code"], json!(-32602));
    assert_eq!(bad["error"]["data"]["code"], "usage");
    let version = ask(&mut client, "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"version\"}\n");
    assert_eq!(version["result"]["api"], 1);

    let mut giant = peerd.connect();
    // Cut in the middle: the rest cannot be written.
    let _cut = giant.write_all(&vec![b'x'; 8 * 1024 * 1024]).is_err();
    let status = ask(&mut client, "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"status\"}\n");
    assert_eq!(status["result"]["session"], "logged_out");
}

#[test]
fn pipelined_requests_are_each_answered_once_though_the_client_sends_no_more() {
    let peerd = Peerd::start();
    let mut client = peerd.connect();
    let lines: String = (0..50)
        .map(|id| format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"status\"}}\n"))
        .collect();
    client.write_all(lines.as_bytes()).expect("write");
    client.shutdown(std::net::Shutdown::Write).expect("half closed");
    let answers = BufReader::new(client).lines().map(|line| {
        let answer: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        assert!(answer["result"].is_object(), "{answer}");
        answer["id"].as_u64().expect("an id")
    });
    let mut answers: Vec<_> = answers.collect();
    answers.sort_unstable();
    assert_eq!(answers, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_listener_above_the_head_is_told_where_it_goes_on() {
    let peerd = Peerd::start();
    let mut client = peerd.connect();
    let request =
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"listen\",\"params\":{\"after\":99}}\n";
    let begun = ask(&mut client, request);
    assert_eq!(begun["result"]["head"], 0);
    let lagged = answer(&client);
    assert_eq!((&lagged["method"], &lagged["params"]["resume"]), (&json!("lagged"), &json!(1)));
    let again = ask(&mut client, &request.replace("\"id\":1", "\"id\":2"));
    assert_eq!(again["error"]["data"]["code"], "conflict");
}

#[test]
fn everything_is_private_and_the_second_instance_is_told_who_is_first() {
    let peerd = Peerd::start();
    let mode = |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let data = peerd.folder.path().join("data");
    assert_eq!(mode(socket(peerd.folder.path())), 0o600);
    assert_eq!(mode(peerd.folder.path().join("run")), 0o700);
    assert_eq!(mode(data.clone()), 0o700);
    for entry in fs::read_dir(&data).expect("folder") {
        let path = entry.expect("entry").path();
        assert_eq!(mode(path.clone()), 0o600, "{}", path.display());
    }
    let second = command(peerd.folder.path()).output().expect("runs");
    assert_eq!(second.status.code(), Some(18));
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains(&format!("pid {}", peerd.child.id())), "{told}");

    let mut elsewhere = command(peerd.folder.path());
    let elsewhere = elsewhere.arg("--data-dir").arg(peerd.folder.path().join("other"));
    assert_eq!(elsewhere.output().expect("runs").status.code(), Some(2), "an option given twice");
}

#[test]
fn a_killed_peerd_leaves_nothing_in_the_way_and_a_stopped_one_nothing_at_all() {
    let mut peerd = Peerd::start();
    peerd.signal(Signal::KILL);
    peerd.wait();
    assert!(socket(peerd.folder.path()).exists(), "a stale socket");
    let folder = std::mem::replace(&mut peerd.folder, tempfile::tempdir().expect("a folder"));
    let mut peerd = Peerd::start_in(folder);
    peerd.signal(Signal::HUP);
    let mut client = peerd.connect();
    let status = ask(&mut client, "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"status\"}\n");
    assert!(status["result"].is_object(), "SIGHUP is ignored");

    let begun = Instant::now();
    peerd.signal(Signal::TERM);
    assert_eq!(peerd.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!socket(peerd.folder.path()).exists());
}

#[test]
fn a_log_that_takes_no_more_costs_the_log_and_not_the_daemon() {
    let folder = tempfile::tempdir().expect("a folder");
    let full = fs::File::options().write(true).open("/dev/full").expect("a device");
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    for stderr in [Stdio::from(full), Stdio::from(closed)] {
        let mut child = command(folder.path())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("peerd starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert!(line.starts_with("{\"schema\":\"peerd.ready/1\""), "{line}");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
        assert_eq!(wait(&mut child).code(), Some(0));
    }
}

#[test]
fn in_the_background_the_parent_tells_how_it_went() {
    let folder = tempfile::tempdir().expect("a folder");
    let started = command(folder.path()).arg("--daemonize").output().expect("runs");
    assert_eq!(started.status.code(), Some(0), "{}", String::from_utf8_lossy(&started.stderr));
    assert!(started.stdout.starts_with(b"{\"schema\":\"peerd.ready/1\""));
    let again = command(folder.path()).arg("--daemonize").output().expect("runs");
    assert_eq!(again.status.code(), Some(18));
    assert!(String::from_utf8_lossy(&again.stderr).contains("another peerd"));

    let pid = fs::read_to_string(folder.path().join("data").join("lock")).expect("a lock");
    let pid = Pid::from_raw(pid.trim().parse().expect("a pid")).expect("a pid");
    kill_process(pid, Signal::TERM).expect("it runs");
    let begun = Instant::now();
    while socket(folder.path()).exists() {
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::yield_now();
    }
}

#[test]
fn keys_without_their_database_are_refused() {
    let mut peerd = Peerd::start();
    peerd.signal(Signal::TERM);
    peerd.wait();
    let data = peerd.folder.path().join("data");
    fs::remove_file(data.join("peerd.db")).expect("remove");
    let refused = command(peerd.folder.path()).output().expect("runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("restore it from a backup"));
    assert!(!data.join("peerd.db").exists(), "nothing is made in its place");
}
