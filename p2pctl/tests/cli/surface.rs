//! What can be typed, where the socket is looked for, and where passwords come from.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::fake::{Fake, Reply, p2pctl, run};

const VERBS: [&str; 34] = [
    "create-account",
    "login",
    "logout",
    "search",
    "chat",
    "accept",
    "reject",
    "end",
    "requests",
    "send",
    "listen",
    "ack",
    "history",
    "create-room",
    "join-room",
    "leave-room",
    "rooms",
    "members",
    "invite",
    "kick",
    "set-role",
    "delete-room",
    "status",
    "wait",
    "contacts",
    "policy",
    "verify",
    "trust",
    "outbox",
    "passwd",
    "delete-account",
    "doctor",
    "completions",
    "version",
];

fn account(_: &Value) -> Vec<Reply> {
    vec![Reply::Result(json!({"username": "alice", "registry": "127.0.0.1:4700"}))]
}

#[test]
fn every_verb_has_help_which_is_an_answer() {
    for verb in VERBS {
        let mut command = p2pctl();
        command.args([verb, "--help"]);
        let ran = run(command, "");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{verb}");
        assert!(ran.stdout.contains(&format!("p2pctl {verb}")), "{verb}: {}", ran.stdout);
    }
}

#[test]
fn nonsense_is_2_and_json_if_asked_for() {
    for args in
        [&["frob"][..], &[], &["search"], &["search", "Bad Name"], &["status", "--timeout", "x"]]
    {
        let mut command = p2pctl();
        command.args(args).arg("--json");
        let ran = run(command, "");
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}");
        assert_eq!(ran.error()["code"], "usage");
        assert_eq!(ran.error()["schema"], "p2pctl.error/1");
    }
}

#[test]
fn completions_need_no_peerd() {
    for shell in ["bash", "zsh", "fish"] {
        let mut command = p2pctl();
        command.args(["completions", shell]);
        let ran = run(command, "");
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("create-account"), "{shell}");
    }
}

#[test]
fn the_socket_is_found_by_what_there_is() {
    let places = [
        ("XDG_RUNTIME_DIR", "p2pchat/work.sock"),
        ("XDG_DATA_HOME", "p2pchat/work/peerd.sock"),
        ("HOME", ".local/share/p2pchat/work/peerd.sock"),
    ];
    for (variable, place) in places {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(place);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        let fake = Fake::at(folder, &path, |_| vec![Reply::Result(json!({"rooms": []}))]);
        let mut command = p2pctl();
        command.env(variable, fake.folder()).args(["--profile", "work", "rooms", "--json"]);
        // An option goes before the environment.
        command.env("P2P_SOCKET", "/nowhere").env("P2P_PROFILE", "other");
        let ran = run(command, "");
        assert_eq!(ran.code, 0, "{variable}: {}", ran.stderr);
        let mut command = p2pctl();
        command.env(variable, fake.folder()).env("P2P_PROFILE", "work").args(["rooms"]);
        assert_eq!(run(command, "").code, 0, "{variable}");
        let mut command = p2pctl();
        command.env("P2P_SOCKET", &path).args(["rooms"]);
        assert_eq!(run(command, "").code, 0, "{variable}");
    }
}

#[test]
fn the_error_names_every_place_in_order() {
    let mut command = p2pctl();
    command.env("XDG_RUNTIME_DIR", "/nowhere/r").env("XDG_DATA_HOME", "/nowhere/d");
    command.env("HOME", "/nowhere/h").args(["--profile", "p", "rooms", "--json"]);
    let ran = run(command, "");
    assert_eq!(ran.code, 3);
    let uid = rustix::process::geteuid().as_raw();
    let places = format!(
        "/nowhere/r/p2pchat/p.sock, /run/user/{uid}/p2pchat/p.sock, \
         /nowhere/d/p2pchat/p/peerd.sock, /nowhere/h/.local/share/p2pchat/p/peerd.sock"
    );
    let error = ran.error();
    assert!(error["message"].as_str().expect("text").ends_with(&places), "{error}");
}

#[test]
fn a_stale_socket_is_no_peerd() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peerd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    let mut command = p2pctl();
    command.arg("--socket").arg(&path).args(["rooms"]);
    assert_eq!(run(command, "").code, 3);
}

#[test]
fn passwords_come_from_stdin_a_file_or_a_credential() {
    let fake = Fake::new(account);
    let register = ["create-account", "alice", "--registry", "127.0.0.1:4700"];
    let stdin = [&register[..], &["--password-stdin"]].concat();
    assert_eq!(fake.p2pctl_with(&stdin, "from stdin\n").code, 0);

    let file = fake.folder().join("p2pchat-password");
    fs::write(&file, "from a file\n").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
    let path = file.to_str().expect("UTF-8");
    let by_file = [&register[..], &["--password-file", path]].concat();
    assert_eq!(fake.p2pctl(&by_file).code, 0);

    let mut command = p2pctl();
    command.env("CREDENTIALS_DIRECTORY", fake.folder());
    command.arg("--socket").arg(fake.socket()).args(register);
    assert_eq!(run(command, "").code, 0);

    let passwords: Vec<Value> =
        fake.requests().iter().map(|(_, params)| params["password"].clone()).collect();
    assert_eq!(passwords, ["from stdin", "from a file", "from a file"]);

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
    let ran = fake.p2pctl(&[&["--json"], &by_file[..]].concat());
    assert_eq!((ran.code, ran.error()["code"].as_str()), (2, Some("usage")));
}

#[test]
fn two_passwords_are_two_lines() {
    let fake = Fake::new(account);
    assert_eq!(
        fake.p2pctl_with(&["passwd", "--password-stdin"], "old secret\nnew secret\n").code,
        0
    );
    assert_eq!(fake.requests()[0].1, json!({"old": "old secret", "new": "new secret"}));
    assert_eq!(fake.p2pctl_with(&["passwd", "--password-stdin"], "old secret\n").code, 2);
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let fake = Fake::new(account);
    for verb in [&["login", "alice"][..], &["passwd"], &["delete-account"]] {
        let ran = fake.p2pctl(&[&["--json"], verb].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{verb:?}");
        let error = ran.error();
        assert!(error["hint"].as_str().expect("text").contains("--password-stdin"), "{error}");
    }
    assert_eq!(fake.requests(), []);
}

#[test]
fn verbs_become_the_requests_of_the_api() {
    let cases: [(&[&str], &str, Value); 14] = [
        (&["logout"], "logout", json!({})),
        (&["end", "bob"], "end", json!({"username": "bob"})),
        (&["join-room", "den"], "join_room", json!({"room": "den", "password": null})),
        (&["members", "den"], "members", json!({"room": "den"})),
        (&["kick", "den", "bob"], "kick", json!({"room": "den", "username": "bob"})),
        (
            &["set-role", "den", "bob", "moderator"],
            "set_role",
            json!({"room": "den", "username": "bob", "role": "moderator"}),
        ),
        (
            &["create-room", "den", "--access", "invite", "--history", "all"],
            "create_room",
            json!({"room": "den", "access": "invite", "history": "all", "password": null}),
        ),
        (&["policy"], "policy", json!({"username": null, "policy": null})),
        (&["policy", "bob", "allow"], "policy", json!({"username": "bob", "policy": "allow"})),
        (&["policy", "--default", "block"], "policy", json!({"username": null, "policy": "block"})),
        (&["verify", "bob", "--confirm"], "verify", json!({"username": "bob", "confirm": true})),
        (&["outbox", "cancel", "m1"], "outbox_cancel", json!({"id": "m1"})),
        (
            &["wait", "member", "den", "bob", "--timeout", "5"],
            "wait",
            json!({"for": "member", "room": "den", "username": "bob", "timeout_ms": 5000}),
        ),
        (
            &["history", "--room", "den", "--limit", "5"],
            "history",
            json!({"target": {"room": "den"}, "limit": 5, "search": null}),
        ),
    ];
    for (args, method, params) in cases {
        let fake = Fake::refusing("not_found", Value::Null);
        assert_eq!(fake.p2pctl(args).code, 6, "{args:?}");
        assert_eq!(fake.requests(), [(method.to_owned(), params)], "{args:?}");
    }
}

#[test]
fn history_is_one_event_a_line() {
    let message = json!({
        "n": null, "time": "2026-11-22T10:00:00.000Z", "type": "message", "from": "alice",
        "room": null, "id": "m1", "body": "hi", "sent": "2026-11-22T10:00:00.000Z",
    });
    let fake = Fake::answering(json!({"messages": [message, message]}));
    let ran = fake.p2pctl(&["--json", "history", "alice"]);
    assert_eq!((ran.code, ran.json().len()), (0, 2));
    assert!(ran.stdout.starts_with(r#"{"schema":"p2pctl.event/1","n":null,"#));
    let ran = fake.p2pctl(&["--color", "always", "history", "alice"]);
    assert!(ran.stdout.contains("\u{1b}["));
}
