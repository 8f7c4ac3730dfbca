//! Scripts: an empty environment, no terminal, one exit code for each failure, JSON everywhere.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use harness::{Ctl, Peer, binaries, has_program};
use registryd_proto::Code;

use crate::{friends, online};

/// Every verb with arguments that parse.
const VERBS: &[&[&str]] = &[
    &["create-account", "x", "--registry", "127.0.0.1:9", "--password-stdin"],
    &["login", "x", "--password-stdin"],
    &["logout"],
    &["search", "x"],
    &["chat", "x", "--request"],
    &["chat", "x"],
    &["accept", "x"],
    &["reject", "x"],
    &["end", "x"],
    &["requests"],
    &["send", "x", "text"],
    &["listen", "--idle", "100ms"],
    &["ack", "job", "1"],
    &["history", "x"],
    &["create-room", "x"],
    &["join-room", "x"],
    &["leave-room", "x"],
    &["rooms"],
    &["members", "x"],
    &["invite", "x", "y"],
    &["kick", "x", "y"],
    &["set-role", "x", "y", "member"],
    &["delete-room", "x"],
    &["status"],
    &["wait", "online", "--timeout", "100ms"],
    &["contacts"],
    &["policy"],
    &["verify", "x"],
    &["trust", "x"],
    &["outbox"],
    &["passwd", "--password-stdin"],
    &["delete-account", "--password-stdin"],
];

/// p2pctl with PATH alone.
fn empty_environment(folder: &Path) -> Command {
    let mut command = Command::new("env");
    let path = format!("PATH={}", std::env::var("PATH").expect("a PATH"));
    command.arg("-i").arg(path).arg(&binaries().p2pctl).current_dir(folder);
    command
}

#[test]
fn an_empty_environment_is_enough() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let socket = alice.socket();
    let socket = socket.to_str().expect("a temporary path");
    let run = |args: &[&str]| {
        let call = Ctl::of(empty_environment(alice.home())).args(&["--socket", socket, "--json"]);
        call.args(args).run()
    };
    run(&["status"]).ok();
    run(&["send", "bob", "from cron", "--id", "nightly"]).ok();
    assert_eq!(crate::bodies(&bob.history(&["alice"])), ["from cron"]);
}

#[test]
fn the_socket_is_found_without_xdg_variables() {
    let home = tempfile::tempdir().expect("a temporary folder");
    // Where this machine has /run/user/UID, the socket lies there: the name must be nobody else's.
    let profile = format!("cron-{}", std::process::id());
    let command = |program: &Path| {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", home.path()).args(["--profile", &profile]);
        command
    };
    let mut peerd = command(&binaries().peerd);
    peerd.arg("--ready-json");
    let _peerd = harness::Daemon::start("peerd", peerd, &home.path().join("peerd.log"));
    let version = Ctl::of(command(&binaries().p2pctl)).args(&["--json", "version"]).run().ok();
    assert_eq!(version["schema"], "p2pctl.version/1");
}

#[test]
fn without_peerd_every_verb_exits_3_and_names_where_it_looked() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let socket = home.path().join("no.sock");
    for verb in VERBS {
        let mut command = Command::new(&binaries().p2pctl);
        command.env_clear().env("HOME", home.path()).arg("--socket").arg(&socket);
        let call = Ctl::of(command).args(&["--json"]).args(verb).stdin("password-a\npassword-b\n");
        let error = call.run().failed(Code::PeerdNotRunning);
        let message = error["message"].as_str().expect("a text");
        assert!(message.contains("no.sock"), "{verb:?}: {message}");
    }
    let mut command = Command::new(&binaries().p2pctl);
    command.env_clear().env("HOME", home.path()).env("XDG_RUNTIME_DIR", home.path().join("run"));
    let error = Ctl::of(command).args(&["--json", "status"]).run().failed(Code::PeerdNotRunning);
    let message = error["message"].as_str().expect("a text");
    assert!(message.contains("/run/p2pchat/default.sock"), "{message}");
}

#[test]
fn before_login_every_verb_says_so_and_none_hangs() {
    let peer = Peer::start("new");
    let start = Instant::now();
    for verb in VERBS {
        let output = peer.ctl_with().args(verb).stdin("password-a\npassword-b\n").run();
        match verb[0] {
            "create-account" => {
                output.failed(Code::RegistryUnreachable);
            }
            "login" => {
                output.failed(Code::Usage);
            }
            "search" | "chat" | "send" | "create-room" | "join-room" | "passwd"
            | "delete-account" => {
                output.failed(Code::NotLoggedIn);
            }
            _ => assert_ne!(output.code, None, "{output:#?}"),
        }
        if output.code != Some(0) && output.stdout.is_empty() {
            let error: serde_json::Value =
                serde_json::from_str(output.stderr.trim_end()).expect("one object");
            assert_eq!(error["schema"], "p2pctl.error/1", "{verb:?}");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn without_a_terminal_no_verb_prompts() {
    let (registry, [bob]) = online(["bob"]);
    let address = registry.address();
    for verb in [
        &["create-account", "x", "--registry", &address][..],
        &["login", "bob"],
        &["passwd"],
        &["delete-account"],
    ] {
        // A session of its own has no terminal to fall back on, wherever this test is run from.
        let setsid = has_program("setsid");
        let mut command = if setsid { Command::new("setsid") } else { bob.bare_ctl() };
        if setsid {
            command.arg("-w").arg(&binaries().p2pctl);
        }
        command.arg("--socket").arg(bob.socket()).arg("--json");
        let start = Instant::now();
        let error = Ctl::of(command).args(verb).run().failed(Code::Usage);
        assert!(start.elapsed() < Duration::from_secs(10), "{verb:?} waited");
        let hint = error["hint"].as_str().expect("a text");
        assert!(hint.contains("--password-stdin"), "{verb:?}: {hint}");
    }
}

#[test]
fn a_password_file_works_and_must_be_private() {
    let (_registry, [bob]) = online(["bob"]);
    bob.ctl(&["logout"]).ok();
    let file = bob.home().join("password");
    std::fs::write(&file, format!("{}\n", harness::PASSWORD)).expect("our own folder");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(&file, mode(0o600)).expect("our own file");
    let path = file.to_str().expect("a temporary path");
    bob.ctl(&["login", "bob", "--password-file", path]).ok();
}

#[test]
fn status_is_healthy_by_exit_code() {
    let (_registry, [bob]) = online(["bob"]);
    let status = bob.ctl(&["status"]).ok();
    assert_eq!(status["schema"], "p2pctl.status/1");
    for field in ["username", "session", "registry", "peer_listener", "room_listener"] {
        assert!(status[field].is_string(), "{field}: {status}");
    }
    assert_eq!(status["outbox"], 0);
    assert_eq!(bob.ctl(&["doctor"]).code, Some(0));
    assert_eq!(bob.ctl(&["version"]).ok()["schema"], "p2pctl.version/1");
    assert_eq!(bob.ctl(&["contacts"]).ok()["schema"], "p2pctl.contacts/1");
}

#[test]
fn usage_errors_exit_2() {
    let peer = Peer::start("new");
    for args in [
        &["no-such-verb"][..],
        &["send"],
        &["send", "BOB", "text"],
        &["history"],
        &["login", "bob", "--peer-port", "70000"],
        &["send", "bob", "text", "--wait", "forever"],
        &["status", "--timeout", "soon"],
    ] {
        peer.ctl(args).failed(Code::Usage);
    }
}
