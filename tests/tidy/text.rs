//! What no file may hold, and what each must.

use crate::source::{all, assert_none, root, rust};

/// The longest file.
const LINES_MAX: usize = 500;

#[test]
fn no_file_is_too_long_to_read() {
    let long = rust()
        .iter()
        .map(|s| (s, s.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(s, lines)| format!("{}: {lines} lines", s.path))
        .collect::<Vec<_>>();
    assert_none("files above 500 lines", &long);
}

#[test]
fn every_file_says_what_it_is() {
    let mute = rust()
        .iter()
        .filter(|s| !s.text.starts_with("//!"))
        .map(|s| s.path.clone())
        .collect::<Vec<_>>();
    assert_none("files without a `//!` header", &mute);
}

#[test]
fn nothing_is_parked() {
    // In pieces, so that this file does not find itself.
    let words = [
        concat!("#[ig", "nore"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
        concat!("FIX", "ME"),
        concat!("#[al", "low("),
    ];
    let mut found = Vec::new();
    for source in rust() {
        for (number, line) in source.text.lines().enumerate() {
            for word in words.iter().filter(|w| line.contains(**w)) {
                found.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    assert_none("parked work, or a lint switched off without a reason", &found);
}

#[test]
fn tests_poll_and_never_sleep() {
    let sleeps = [concat!("thread::sl", "eep"), concat!("time::sl", "eep")];
    let mut found = Vec::new();
    for source in rust().iter().filter(|s| s.is_test() && s.path != "tests/harness/wait.rs") {
        for (number, line) in source.code() {
            if sleeps.iter().any(|s| line.contains(s)) {
                found.push(format!("{}:{number}", source.path));
            }
        }
    }
    assert_none("sleeps in tests", &found);
}

#[test]
fn no_file_names_a_machine() {
    let root = root().to_string_lossy().into_owned();
    let folders = [root.as_str(), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let mut found = Vec::new();
    for source in all().iter().filter(|s| s.path != "Cargo.lock") {
        for (number, line) in source.text.lines().enumerate() {
            for folder in folders.iter().filter(|f| line.contains(**f)) {
                found.push(format!("{}:{}: {folder}", source.path, number + 1));
            }
        }
    }
    assert_none("paths of somebody's machine", &found);
}

#[test]
fn versions_are_in_the_workspace_alone() {
    let mut found = Vec::new();
    for source in all().iter().filter(|s| s.path.ends_with("/Cargo.toml")) {
        for (number, line) in source.text.lines().enumerate() {
            let own = line.starts_with("version") || line.starts_with("rust-version");
            if !own && line.contains("version =") || line.contains("git =") {
                found.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    assert_none("dependencies with a version outside [workspace.dependencies]", &found);
}

#[test]
fn every_verb_has_a_file_of_its_name() {
    let paths: Vec<String> = rust().into_iter().map(|s| s.path).collect();
    for verb in [
        "create_account",
        "login",
        "logout",
        "search",
        "chat",
        "create_room",
        "join_room",
        "accept",
        "reject",
        "send",
        "listen",
        "history",
        "status",
        "wait",
        "requests",
        "end",
        "rooms",
        "members",
        "leave_room",
        "contacts",
        "policy",
        "verify",
        "trust",
        "outbox",
        "version",
    ] {
        let file = format!("p2pctl/src/command/{verb}");
        assert!(paths.iter().any(|p| p.starts_with(&file)), "{verb} has no file in p2pctl");
    }
}
