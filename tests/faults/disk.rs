//! Disks that are full, and are freed again.
//!
//! A small disk is a tmpfs of its own, which only root can make.

use std::{fs, process::Command, time::Duration};

use harness::{
    Ctl, CtlOutput, DEADLINE, PASSWORD, Peer, PeerOptions, Registry, SmallDisk, binaries,
    eventually, never,
};
use registryd_proto::Code;
use serde_json::Value;
use tempfile::TempDir;

use crate::people::bodies;

/// Little enough to be filled at once.
const SMALL_MIB: u32 = 8;

/// A user whose data is on a small disk.
fn on_small_disk(name: &str, registry: &Registry) -> Option<(SmallDisk, Peer)> {
    let home = tempfile::tempdir().expect("a temporary folder");
    let disk = SmallDisk::mount(home.path(), "data", SMALL_MIB)?;
    let peer = Peer::launch(name, home, &[]);
    peer.create_account(&registry.address()).ok();
    peer.login(&[]).ok();
    Some((disk, peer))
}

fn send(from: &Peer, to: &str, id: &str, timeout: &str) -> CtlOutput {
    from.ctl(&["--timeout", timeout, "send", to, id, "--id", id])
}

/// Asserts the error of a full disk, and that it says what to do.
#[track_caller]
fn told_of_full_disk(output: &CtlOutput) {
    let error = output.failed(Code::RateLimited);
    assert!(error["message"].as_str().expect("a text").contains("disk is full"), "{error}");
    assert_eq!(error["retryable"], true);
}

/// Asserts the same of a command that the disk filled up under: it says whether it was not done, or that
/// nobody knows.
#[track_caller]
fn cut_short_by_full_disk(output: &CtlOutput) {
    if output.code == Some(14) {
        return told_of_full_disk(output);
    }
    let error = output.failed(Code::TimedOut);
    assert!(error["message"].as_str().expect("a text").contains("it is not known"), "{error}");
}

/// Fills the disk of who sends, which has sent something before. What was accepted, and what was cut short.
fn send_until_full(from: &Peer, to: &str, disk: &SmallDisk) -> (Vec<String>, String) {
    let mut accepted = vec!["m0".to_owned()];
    send(from, to, "m0", "30s").ok();
    disk.fill();
    loop {
        let id = format!("m{}", accepted.len());
        let output = send(from, to, &id, "30s");
        if output.code != Some(0) {
            cut_short_by_full_disk(&output);
            return (accepted, id);
        }
        accepted.push(id);
    }
}

/// Asserts that a history holds these, and perhaps one more behind them.
#[track_caller]
fn holds(peer: &Peer, other: &str, accepted: &[String], perhaps: &str) {
    let history = peer.history(&[other]);
    let (held, more) = history.split_at_checked(accepted.len()).expect("nothing is lost");
    assert_eq!(bodies(held), accepted);
    assert!(more.is_empty() || bodies(more) == [perhaps], "{more:?}");
}

#[track_caller]
fn disk_is_full(peer: &Peer) -> bool {
    peer.status()["disk_full"] == Value::Bool(true)
}

/// Row 6: at the sender.
#[test]
fn a_full_disk_of_the_sender_is_told_reading_goes_on_and_all_heals_without_a_restart() {
    let registry = Registry::start();
    let Some((disk, mut alice)) = on_small_disk("alice", &registry) else { return };
    let bob = Peer::online("bob", &registry);
    bob.ctl(&["policy", "--default", "allow"]).ok();
    let (mut accepted, failed) = send_until_full(&alice, "bob", &disk);
    let refused = send(&alice, "bob", "refused", "30s");
    told_of_full_disk(&refused);
    assert!(refused.stderr.contains("was not done"), "{refused:?}");
    told_of_full_disk(&alice.ctl(&["policy", "bob", "block"]));
    // What was accepted can be read; nothing else but the one that nobody knows of.
    holds(&alice, "bob", &accepted, &failed);
    assert!(alice.outbox().iter().all(|id| *id == failed));
    let status = alice.ctl(&["status"]);
    assert_eq!(status.code, Some(14), "its health is in the exit code: {status:?}");
    assert_eq!(status.object()["disk_full"], true);
    alice.ctl(&["contacts"]).ok();
    let head = status.object()["head"].as_u64().expect("a number").to_string();
    alice.ctl(&["listen", "--after", "0", "--count", &head]).ok_lines();
    // HELLO needs no disk: three missed ones would be offline.
    never("alice goes offline", Duration::from_secs(5), || bob.presence_of("alice") != "online");
    assert!(disk_is_full(&alice) && alice.daemon().is_running());

    disk.free();
    eventually("there is space again", DEADLINE, || !disk_is_full(&alice));
    send(&alice, "bob", &failed, "30s").ok();
    accepted.push(failed);
    send(&alice, "bob", "after", "30s").ok();
    accepted.push("after".to_owned());
    assert_eq!(bodies(&bob.history(&["alice"])), accepted, "each once, in order");
    assert_eq!(bodies(&alice.history(&["bob"])), accepted);
    assert!(alice.daemon().is_running(), "without a restart");
}

/// Row 6: at the recipient.
#[test]
fn a_full_disk_of_the_recipient_makes_messages_wait_and_none_is_lost() {
    let registry = Registry::start();
    let alice = Peer::online("alice", &registry);
    let Some((disk, mut bob)) = on_small_disk("bob", &registry) else { return };
    bob.ctl(&["policy", "--default", "allow"]).ok();
    send(&alice, "bob", "m0", "30s").ok();

    disk.fill();
    let mut delivered = vec!["m0".to_owned()];
    let waiting = loop {
        let id = format!("m{}", delivered.len());
        alice.ctl(&["send", "bob", &id, "--id", &id, "--wait", "queued"]).ok();
        let mut arrived = false;
        eventually("it is delivered, or the disk is full", DEADLINE, || {
            arrived = alice.outbox().is_empty();
            arrived || disk_is_full(&bob)
        });
        if !arrived {
            break id;
        }
        delivered.push(id);
    };
    // What was told is on the disk.
    holds(&bob, "alice", &delivered, &waiting);
    let mut expected = delivered;
    expected.push(waiting);
    // Far more than any queue between the two holds in messages.
    let lines: String = (0..300).map(|n| format!("more {n}\n")).collect();
    let call = alice.ctl_with().args(&["send", "bob", "-", "--lines", "--wait", "queued"]);
    assert_eq!(call.stdin(lines).run().ok_lines().len(), 300);
    expected.extend((0..300).map(|n| format!("more {n}")));
    never("bob goes offline", Duration::from_secs(4), || alice.presence_of("bob") != "online");

    disk.free();
    eventually("all arrives", DEADLINE, || alice.outbox().is_empty());
    assert_eq!(bodies(&bob.history(&["alice"])), expected, "each once, in order");
    bob.ctl(&["send", "alice", "back", "--wait", "queued"]).ok();
    assert!(bob.daemon().is_running(), "without a restart");
}

/// Row 6: SIGTERM while the disk is full, and the next start.
#[test]
fn a_peerd_whose_disk_is_full_stops_in_time_and_loses_nothing_that_was_accepted() {
    let registry = Registry::start();
    let Some((disk, mut alice)) = on_small_disk("alice", &registry) else { return };
    let bob = Peer::online("bob", &registry);
    bob.ctl(&["policy", "--default", "allow"]).ok();
    let (accepted, failed) = send_until_full(&alice, "bob", &disk);
    let begun = std::time::Instant::now();
    assert_eq!(alice.stop().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    disk.free();
    alice.restart();
    holds(&alice, "bob", &accepted, &failed);
}

/// Row 6: at the registry.
#[test]
fn a_full_disk_of_the_registry_is_told_to_who_writes_and_everybody_stays_online() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = SmallDisk::mount(folder.path(), "data", SMALL_MIB) else { return };
    let mut registry = Registry::launch(folder, &[]);
    let address = registry.address();
    let alice = Peer::online("alice", &registry);
    let stranger = Peer::start("stranger");
    let create = |name: &str| {
        let args = ["create-account", name, "--registry", &address, "--password-stdin"];
        stranger.ctl_with().args(&args).stdin(format!("{PASSWORD}\n")).run()
    };
    alice.ctl(&["create-room", "before"]).ok();

    disk.fill();
    let mut rooms = 0;
    loop {
        let output = alice.ctl(&["create-room", &format!("room{rooms}")]);
        if output.code != Some(0) {
            told_of_full_disk(&output);
            break;
        }
        rooms += 1;
    }
    told_of_full_disk(&create("stranger"));
    assert_eq!(alice.ctl(&["search", "alice"]).ok()["presence"], "online");
    alice.ctl(&["search", "stranger"]).failed(Code::NotFound);
    never("alice is lost", Duration::from_secs(4), || alice.presence_of("alice") != "online");
    assert!(registry.daemon().is_running());

    disk.free();
    create("stranger").ok();
    alice.ctl(&["create-room", &format!("room{rooms}")]).ok();
    alice.ctl(&["search", "stranger"]).ok();
    assert!(registry.daemon().is_running(), "without a restart");
}

/// Row 6: no space for a first start.
#[test]
fn a_start_on_a_full_disk_fails_with_the_reason() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = SmallDisk::mount(home.path(), "data", SMALL_MIB) else { return };
    disk.fill();
    let socket = home.path().join("socket/peerd.sock");
    let socket = ["--socket", socket.to_str().expect("a plain path")];
    let programs = [(&binaries().peerd, socket), (&binaries().registryd, ["--listen", "[::1]:0"])];
    for (program, args) in programs {
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(home.path().join("data/new")).args(args);
        let output = Ctl::of(command).run();
        assert_eq!(output.code, Some(1), "{output:?}");
        let told = output.stderr.to_lowercase();
        assert!(told.contains("no space left") || told.contains("full"), "{output:?}");
    }
}

/// Row 26: full.
#[test]
fn a_full_log_folder_costs_the_log_and_not_the_daemons() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let Some(disk) = SmallDisk::mount(home.path(), "logs", SMALL_MIB) else { return };
    disk.fill();
    chat_with_logs_in(&home, "logs");
    drop(disk);
}

/// Row 26: not writable, not even by root.
#[test]
fn a_log_folder_that_cannot_be_written_costs_the_log_and_not_the_daemons() {
    let home = tempfile::tempdir().expect("a temporary folder");
    fs::write(home.path().join("file"), "in the way").expect("our own folder");
    chat_with_logs_in(&home, "file/logs");
}

fn chat_with_logs_in(home: &TempDir, folder: &str) {
    let logs = home.path().join(folder).to_str().expect("a plain path").to_owned();
    let args = ["--log-dir", &logs];
    let mut registry = Registry::start_with(&args, "trace");
    let peer = |name| {
        let args = args.map(str::to_owned).to_vec();
        let options = PeerOptions { args, log_filter: "trace".to_owned(), ..Default::default() };
        let peer = Peer::start_with(name, options);
        peer.create_account(&registry.address()).ok();
        peer.login(&[]).ok();
        peer
    };
    let (mut alice, mut bob) = (peer("alice"), peer("bob"));
    bob.ctl(&["policy", "--default", "allow"]).ok();
    for n in 0..20 {
        send(&alice, "bob", &format!("m{n}"), "30s").ok();
    }
    assert_eq!(bob.history(&["alice"]).len(), 20);
    assert!(registry.daemon().is_running());
    assert_eq!(alice.stop().code(), Some(0));
    assert_eq!(bob.stop().code(), Some(0));
}
