//! The real binary: ready line, lock, signals, daemon, log folder.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use registryd_proto::RegistryAddress;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A child that does not outlive its test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already in most tests.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn registryd(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registryd"));
    command
        .args(["--listen", "127.0.0.1:0", "--ready-json", "--data-dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn started(folder: &Path) -> (Daemon, RegistryAddress) {
    let mut daemon = Daemon(registryd(folder).spawn().expect("spawned"));
    let stdout = daemon.0.stdout.take().expect("piped");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    (daemon, address(&line))
}

fn address(line: &str) -> RegistryAddress {
    let ready: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(ready["schema"], "registryd.ready/1");
    ready["address"].as_str().expect("text").parse().expect("an address")
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a process id")).expect("not 0")
}

/// Waits for a condition, asking again and again.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn it_says_where_it_serves_and_stops_on_sigterm() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (mut daemon, address) = started(folder.path());
    assert!(address.key.is_some());
    std::net::TcpStream::connect(address.host_port()).expect("it serves");
    let begin = Instant::now();
    kill_process(pid_of(daemon.0.id()), Signal::TERM).expect("signalled");
    let status = daemon.0.wait().expect("ended");
    assert_eq!(status.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());

    let (_daemon, again) = started(folder.path());
    assert_eq!(again.key, address.key, "the key is kept");
}

#[test]
fn the_second_on_a_folder_says_who_has_it() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (daemon, _) = started(folder.path());
    let second = registryd(folder.path()).output().expect("ran");
    assert_eq!(second.status.code(), Some(18));
    assert!(second.stdout.is_empty());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&daemon.0.id().to_string()), "{said}");
    let third = registryd(folder.path()).arg("--daemonize").output().expect("ran");
    assert_eq!(third.status.code(), Some(18), "the reason comes through the fork");
    let said = String::from_utf8_lossy(&third.stderr).into_owned();
    assert!(said.contains(&daemon.0.id().to_string()), "{said}");
}

#[test]
fn a_daemon_returns_when_it_serves() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let logs = folder.path().join("logs");
    let data = folder.path().join("data");
    let output =
        registryd(&data).arg("--daemonize").arg("--log-dir").arg(&logs).output().expect("ran");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let address = address(&String::from_utf8_lossy(&output.stdout));
    std::net::TcpStream::connect(address.host_port()).expect("it serves");

    let pid = std::fs::read_to_string(data.join("registryd.lock")).expect("a lock");
    let pid = pid_of(pid.trim().parse().expect("a number"));
    kill_process(pid, Signal::TERM).expect("signalled");
    eventually("the daemon ends", || test_kill_process(pid).is_err());
    let mut log = String::new();
    for entry in std::fs::read_dir(&logs).expect("log folder") {
        let path = entry.expect("entry").path();
        std::fs::File::open(path).expect("log").read_to_string(&mut log).expect("text");
    }
    assert!(log.contains("the registry serves") && log.contains("stopping"), "{log}");
}

#[test]
fn a_log_folder_that_cannot_be_written_stops_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let blocked = folder.path().join("file");
    std::fs::write(&blocked, "no folder").expect("written");
    let mut command = registryd(&folder.path().join("data"));
    let mut daemon =
        Daemon(command.arg("--log-dir").arg(blocked.join("logs")).spawn().expect("spawned"));
    let mut line = String::new();
    BufReader::new(daemon.0.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    address(&line);
    kill_process(pid_of(daemon.0.id()), Signal::TERM).expect("signalled");
    assert_eq!(daemon.0.wait().expect("ended").code(), Some(0));
}

#[test]
fn a_bad_configuration_is_a_usage_error() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("registryd.toml");
    std::fs::write(&file, "lisen = 1\n").expect("written");
    let output = registryd(folder.path()).arg("--config").arg(&file).output().expect("ran");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lisen"));
}
