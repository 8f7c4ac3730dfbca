//! What a start may find: stale files, another instance, another machine, an old backup.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use harness::{
    Ctl, CtlOutput, DEADLINE, Listener, Peer, Running, bare, binaries, eventually, never,
};
use registryd_proto::Code;

use crate::people::online;

/// How many start at once.
const CROWD: usize = 50;

/// A pid that is somebody else's, in the place where the daemons keep theirs.
fn leave_a_lock_behind(file: &Path) {
    assert!(file.is_file(), "the lock of the one before is there: {}", file.display());
    fs::write(file, "1\nand more than one line of it\n").expect("our own folder");
}

/// Row 17: kill -9 leaves a socket and a lock behind, and somebody has tidied the runtime folder away.
#[test]
fn leftovers_of_a_killed_daemon_do_not_stop_the_next() {
    let (mut registry, [mut bob]) = online(["bob"]);
    let socket = bob.socket();
    bob.kill();
    registry.kill();
    assert!(socket.exists(), "kill -9 leaves the socket behind");
    leave_a_lock_behind(&bob.data().join("lock"));
    leave_a_lock_behind(&registry.data().join("registryd.lock"));
    registry.restart();
    bob.restart();
    bob.wait_online();

    bob.kill();
    fs::remove_dir_all(socket.parent().expect("a folder")).expect("our own folder");
    bob.restart();
    bob.wait_online();
    assert_eq!(bob.socket(), socket, "p2pctl finds it where it was");
}

fn peerd(home: &Path, args: &[&str]) -> CtlOutput {
    let mut command = bare(&binaries().peerd, home);
    command.args(args);
    Ctl::of(command).run()
}

fn registryd(home: &Path, args: &[&str]) -> CtlOutput {
    let mut command = bare(&binaries().registryd, home);
    command.args(["--listen", "127.0.0.1:0"]).args(args);
    Ctl::of(command).run()
}

/// Row 17: what cannot be used is named, with the reason, and nothing of it is removed.
#[test]
fn a_place_that_cannot_be_used_is_told() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let file = home.path().join("file");
    fs::write(&file, "precious").expect("our own folder");
    let below = file.join("data");
    let told = |output: CtlOutput, words: &[&str]| {
        assert!(output.code.is_some_and(|code| code != 0), "{output:#?}");
        for word in words {
            assert!(output.stderr.contains(word), "{word:?} is told: {output:#?}");
        }
    };
    let (file, below) = (file.to_str().expect("UTF-8"), below.to_str().expect("UTF-8"));
    told(peerd(home.path(), &["--data-dir", below]), &[below, "Not a directory"]);
    told(registryd(home.path(), &["--data-dir", below]), &[below, "Not a directory"]);
    told(peerd(home.path(), &["--socket", file]), &[file, "no socket"]);
    assert_eq!(fs::read_to_string(file).expect("it is still there"), "precious");
}

/// Row 17: a socket's path has at most 107 bytes on Linux, far less than other paths.
#[test]
fn a_socket_path_that_is_too_long_is_told_by_both_sides() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let long = home.path().join("x".repeat(120)).join("p.sock");
    let long = long.to_str().expect("UTF-8");
    let refused = peerd(home.path(), &["--socket", long]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(refused.stderr.contains(long) && refused.stderr.contains("too long"), "{refused:#?}");
    assert!(refused.stderr.contains("--socket"), "what to do is told: {refused:#?}");

    let command = bare(&binaries().p2pctl, home.path());
    let error = Ctl::of(command).args(&["--json", "--socket", long, "status"]).run();
    let error = error.failed(Code::Usage);
    assert!(error["message"].as_str().is_some_and(|m| m.contains("too long")), "{error}");
}

/// Row 17: folders are made, however deep.
#[test]
fn missing_folders_are_made() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let deep = |name: &str| home.path().join("a/b/c").join(name);
    let mut command = bare(&binaries().registryd, home.path());
    command.args(["--listen", "127.0.0.1:0", "--ready-json", "--data-dir"]).arg(deep("registry"));
    command.arg("--log-dir").arg(deep("registry-log"));
    let mut registry = harness::Daemon::start("registryd", command, &home.path().join("r.log"));
    let mut command = bare(&binaries().peerd, home.path());
    command.args(["--ready-json", "--data-dir"]).arg(deep("peer")).arg("--socket");
    command.arg(deep("run/p.sock")).arg("--log-dir").arg(deep("peer-log"));
    let mut peer = harness::Daemon::start("peerd", command, &home.path().join("p.log"));
    assert!(
        deep("run/p.sock").exists() && deep("peer-log").is_dir() && deep("registry-log").is_dir()
    );
    assert!(peer.stop().success() && registry.stop().success());
}

/// Starts the command many times at once, waits until one is left, and returns it with what the others said.
fn crowd(command: impl Fn() -> Command) -> (Running, Vec<CtlOutput>) {
    let mut running: Vec<Running> = (0..CROWD).map(|_| Ctl::of(command()).spawn()).collect();
    eventually("all but one have ended", 3 * DEADLINE, || {
        running.iter_mut().map(Running::is_running).filter(|runs| *runs).count() <= 1
    });
    let survivor = running.iter_mut().position(Running::is_running).expect("one goes on");
    let survivor = running.swap_remove(survivor);
    (survivor, running.into_iter().map(Running::wait).collect())
}

/// Each of the others ended with 18 and named the one that runs.
#[track_caller]
fn assert_all_name(holder: u32, others: &[CtlOutput], held: &str) {
    assert_eq!(others.len(), CROWD - 1);
    for other in others {
        assert_eq!(other.code, Some(18), "{other:#?}");
        assert_eq!(other.stdout, "", "{other:#?}");
        let named = other.stderr.split(|c: char| !c.is_ascii_digit());
        assert!(named.into_iter().any(|n| n == holder.to_string()), "{holder} runs: {other:#?}");
        assert!(other.stderr.contains(held), "what is held is told: {other:#?}");
    }
}

/// Row 18: on a folder that none of them finds made, and on one that a killed daemon has left.
#[test]
fn of_fifty_peerds_started_at_once_one_runs_and_the_others_say_which() {
    let home = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(home.path().join("run")).expect("our own folder");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(home.path().join("run"), private).expect("our own folder");
    for _ in 0..2 {
        let (mut runs, others) = crowd(|| {
            let mut command = bare(&binaries().peerd, home.path());
            command.args(["--profile", "bob", "--ready-json"]);
            command
        });
        assert_all_name(runs.pid(), &others, "p2pchat/bob");
        eventually("the one that runs serves", DEADLINE, || {
            let command = bare(&binaries().p2pctl, home.path());
            let status = Ctl::of(command).args(&["--profile", "bob", "--json", "status"]).run();
            status.code == Some(4)
        });
        assert!(runs.is_running());
        runs.kill();
    }
}

/// Row 18: the registry's half of it.
#[test]
fn of_fifty_registries_started_at_once_on_one_folder_one_runs_and_the_others_say_which() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let data = home.path().join("data");
    for _ in 0..2 {
        let (mut runs, others) = crowd(|| {
            let mut command = bare(&binaries().registryd, home.path());
            command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
            command
        });
        assert_all_name(runs.pid(), &others, data.to_str().expect("UTF-8"));
        assert!(runs.is_running());
        runs.kill();
    }
    let mut command = bare(&binaries().registryd, home.path());
    command.args(["--listen", "127.0.0.1:0", "--ready-json", "--data-dir"]).arg(&data);
    let mut last = harness::Daemon::start("registryd", command, &home.path().join("log"));
    assert!(last.stop().success(), "fifty starts have left a folder in order");
}

/// Row 18: something else that listens on the socket is left alone.
#[test]
fn a_socket_on_which_somebody_listens_is_not_taken_away() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = home.path().join("private");
    fs::create_dir(&folder).expect("our own folder");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&folder, private).expect("our own folder");
    let path = folder.join("p.sock");
    let _listener = UnixListener::bind(&path).expect("a free path");
    let refused = peerd(home.path(), &["--socket", path.to_str().expect("UTF-8")]);
    assert_eq!(refused.code, Some(18), "{refused:#?}");
    assert!(refused.stderr.contains(path.to_str().expect("UTF-8")), "{refused:#?}");
    assert!(path.exists());
}

fn superseded(listener: &Listener) -> usize {
    listener.events().iter().filter(|e| e["type"] == "superseded").count()
}

/// Row 19: the account moves to another machine; who wrote meanwhile decides about the new key.
#[test]
fn a_taken_over_machine_stays_superseded_and_messages_go_to_the_new_one() {
    let (mut registry, [alice, mut first]) = online(["alice", "bob"]);
    for (who, whom) in [(&alice, "bob"), (&first, "alice")] {
        who.allow(whom);
    }
    alice.ctl(&["send", "bob", "to the first machine"]).ok();
    let second = Peer::start("bob");
    let login = ["--registry", &registry.address()];
    let error = second.login(&login).failed(Code::AlreadyOnline);
    assert!(error["hint"].as_str().is_some_and(|h| h.contains("--takeover")), "{error}");
    assert_eq!(first.status()["session"], "online", "the refused login changed nothing");

    let told = first.listen(&["--after", "0"]);
    second.login(&[&login[..], &["--takeover"]].concat()).ok();
    told.wait_for_type("superseded");
    second.allow("alice");
    for round in ["stopped", "killed", "the registry restarted"] {
        match round {
            "stopped" => assert!(first.stop().success()),
            "killed" => first.kill(),
            _ => {
                registry.kill();
                registry.restart();
                first.kill();
            }
        }
        first.restart();
        eventually(round, DEADLINE, || first.status()["session"] == "superseded");
        first.ctl(&["send", "alice", "from the past"]).failed(Code::Superseded);
        never("the first comes back", Duration::from_secs(1), || {
            first.status()["session"] != "superseded"
        });
        second.wait_online();
    }
    let again = first.listen(&["--after", "0"]);
    again.wait_for_type("superseded");
    assert_eq!(superseded(&again), 1, "told once, not at each start");

    alice.ctl(&["send", "bob", "to whom?", "--timeout", "5s"]).failed(Code::UntrustedKey);
    alice.ctl(&["trust", "bob"]).ok();
    alice.ctl(&["send", "bob", "to the second machine"]).ok();
    let at_second = second.history(&["alice"]);
    assert!(at_second.iter().any(|(_, body)| body == "to the second machine"), "{at_second:?}");
    assert!(!first.history(&["alice"]).iter().any(|(_, body)| body == "to the second machine"));
}

/// Row 19: a machine that died does not keep its owner out for longer than three HELLOs take.
#[test]
fn a_dead_machine_lets_the_account_go_by_itself() {
    let (registry, [mut first]) = online(["bob"]);
    let interval = first.status()["hello_interval_ms"].as_u64().expect("online");
    first.kill();
    let died = Instant::now();
    let second = Peer::start("bob");
    let login = ["--registry", &registry.address()];
    eventually("the second machine gets in without a takeover", DEADLINE, || {
        second.login(&login).code == Some(0)
    });
    let limit = Duration::from_millis(3 * interval) + Duration::from_secs(5);
    assert!(died.elapsed() < limit, "{:?}", died.elapsed());
    first.restart();
    eventually("the first learns of it", DEADLINE, || first.status()["session"] == "superseded");
    assert_eq!(second.status()["session"], "online");
}
