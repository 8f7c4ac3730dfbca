//! Passwords and message bodies are where they belong and nowhere else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{Peer, PeerOptions, Registry, command_and_environment};

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of ours").map_while(Result::ok) {
            let kind = entry.file_type().expect("an entry of ours");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

/// Whether any file below a folder holds these bytes. Files that vanish meanwhile hold nothing.
pub(crate) fn holds(folder: &Path, needle: &[u8]) -> bool {
    files(folder).iter().any(|f| find(&fs::read(f).unwrap_or_default(), needle))
}

const BODY: &str = "a-message-that-is-nobodys-business";
const ROOM_BODY: &str = "a-room-message-that-is-nobodys-business";
const ROOM_PASSWORD: &str = "a-room-password-to-look-for";

#[test]
fn nothing_secret_is_in_logs_arguments_or_environments_at_trace() {
    let mut registry = Registry::start_with(&[], "trace");
    let start = |name| {
        let options = PeerOptions { log_filter: "trace".to_owned(), ..PeerOptions::default() };
        let peer = Peer::start_with(name, options);
        peer.create_account(&registry.address()).ok();
        peer.login(&[]).ok();
        peer
    };
    let [mut alice, mut bob] = ["alice", "bob"].map(start);
    alice.chat_with(&bob);
    alice.ctl(&["send", "bob", BODY]).ok();
    let create = ["create-room", "den", "--access", "password", "--password-stdin"];
    alice.ctl_with().args(&create).stdin(format!("{ROOM_PASSWORD}\n")).run().ok();
    let join = bob.ctl_with().args(&["join-room", "den", "--password-stdin"]);
    join.stdin(format!("{ROOM_PASSWORD}\n")).run().ok();
    alice.ctl(&["wait", "member", "den", "bob"]).ok();
    alice.ctl(&["send", "--room", "den", ROOM_BODY]).ok();
    bob.ctl(&["history", "alice", "--search", BODY]).ok_lines();

    let secrets = [harness::PASSWORD, ROOM_PASSWORD, BODY, ROOM_BODY];
    let daemons = [
        ("registryd", registry.daemon().log(), registry.daemon().pid()),
        ("alice", alice.daemon().log(), alice.daemon().pid()),
        ("bob", bob.daemon().log(), bob.daemon().pid()),
    ];
    for (name, log, pid) in daemons {
        let least = if name == "registryd" { "INFO" } else { "DEBUG" };
        assert!(log.contains(least), "{name} logs");
        let (command, environment) = command_and_environment(pid);
        assert!(!command.is_empty());
        for secret in secrets {
            assert!(!log.contains(secret), "{name}'s log holds {secret}");
            assert!(!find(&command, secret.as_bytes()), "{name}'s arguments hold {secret}");
            assert!(!find(&environment, secret.as_bytes()), "{name}'s environment holds {secret}");
        }
    }
    assert!(holds(&bob.data(), BODY.as_bytes()), "the search finds what is there");
    for secret in secrets {
        assert!(!holds(&registry.data(), secret.as_bytes()), "the registry holds {secret}");
    }
    for password in [harness::PASSWORD, ROOM_PASSWORD] {
        assert!(!holds(alice.home(), password.as_bytes()), "alice's files hold {password}");
    }
}

#[test]
fn a_password_cannot_be_given_as_an_argument_or_by_the_environment() {
    let peer = Peer::start("new");
    let args = ["login", "new", "--password", "hunter2-hunter2"];
    peer.ctl(&args).failed(registryd_proto::Code::Usage);
    let help = peer.ctl(&["login", "--help"]);
    assert!(help.stdout.contains("--password-stdin"), "{help:#?}");
    assert!(!help.stdout.contains("PASSWORD]"), "no variable holds a password: {help:#?}");
}

#[test]
fn keys_on_disk_are_private_and_looser_ones_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mut peer = Peer::start("new");
    peer.kill();
    let keys: Vec<PathBuf> =
        files(&peer.data()).into_iter().filter(|f| f.to_string_lossy().contains("key")).collect();
    assert_eq!(keys.len(), 2, "peer key and room key: {keys:?}");
    for key in &keys {
        let mode = fs::metadata(key).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", key.display());
    }
    fs::set_permissions(&keys[0], PermissionsExt::from_mode(0o644)).expect("our own file");
    let refused = peer.second_daemon();
    assert_ne!(refused.code, Some(0), "{refused:#?}");
    assert!(refused.stderr.contains(&*keys[0].to_string_lossy()), "{refused:#?}");
}
