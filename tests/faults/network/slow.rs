//! Peers that do not read, or slowly: they cost the sender little and nobody else anything.

use std::time::{Duration, Instant};

use harness::{DEADLINE, Quality, Running, Town, User, eventually};

/// Half of the largest body.
const BODY_BYTES: usize = 32 * 1024;
/// 10 MB: more than the windows of a link and its queue hold together.
const MESSAGES: usize = 320;
/// What the sender may need for them, beside what it had: windows and queue of a link, SQLite's cache, and
/// what the allocator keeps.
const MEMORY_MAX: u64 = 24 * 1024 * 1024;
/// For a delivery to a peer that reads, whatever the others do.
const AT_ONCE: Duration = Duration::from_secs(10);

fn pour(from: &User, to: &str) -> Running {
    let body = "x".repeat(BODY_BYTES);
    let lines: Vec<String> = (0..MESSAGES).map(|n| format!("{n} {body}")).collect();
    let call = from.ctl_with().args(&["send", to, "-", "--lines", "--wait", "queued"]);
    call.stdin(lines.join("\n")).spawn()
}

/// Delivers to the others while much waits, and tells the sender's memory at its highest.
#[track_caller]
fn serves(alice: &User, carol: &User, mut pid_bytes: impl FnMut() -> u64) -> u64 {
    let mut most = 0;
    for n in 0..5 {
        let start = Instant::now();
        let sent = alice.ctl(&["send", "carol", &format!("for you {n}")]).ok();
        assert_eq!(sent["state"], "delivered");
        assert!(start.elapsed() < AT_ONCE, "carol waited {:?}", start.elapsed());
        let back = carol.ctl(&["send", "alice", &format!("thanks {n}")]).ok();
        assert_eq!(back["state"], "delivered");
        most = most.max(pid_bytes());
    }
    most
}

/// Numbers of the messages at `user`, in the order as shown.
fn numbers(user: &User) -> Vec<usize> {
    let number = |body: &str| body.split(' ').next().and_then(|n| n.parse().ok());
    user.history(&["alice"]).iter().map(|(_, b)| number(b).expect("a number")).collect()
}

/// Row 24: the peer's process stands still.
#[test]
fn a_peer_that_stops_reading_keeps_nobody_else_waiting() {
    let names = ["alice", "bob", "carol"];
    let Some((_town, [mut alice, mut bob, carol])) = Town::of(241, names) else { return };
    alice.ctl(&["send", "bob", "0 first"]).ok();
    let before = alice.daemon().resident_bytes();
    let pid = alice.daemon().pid();
    bob.daemon().freeze();
    let pouring = pour(&alice, "bob");
    let memory = || harness::resident_bytes(pid).expect("it runs");
    let mut most = serves(&alice, &carol, memory);
    assert_eq!(pouring.wait().ok_lines().len(), MESSAGES);
    most = most.max(serves(&alice, &carol, memory));
    assert_eq!(alice.outbox().len(), MESSAGES, "only bob's wait");
    assert!(most < before + MEMORY_MAX, "from {before} to {most} bytes");
    bob.daemon().thaw();
    eventually("bob has all", 4 * DEADLINE, || alice.outbox().is_empty());
    let expected: Vec<usize> = std::iter::once(0).chain(0..MESSAGES).collect();
    assert_eq!(numbers(&bob), expected);
}

/// Row 24: the peer's link is slow.
#[test]
fn a_peer_on_a_slow_link_keeps_nobody_else_waiting() {
    let names = ["alice", "bob", "carol"];
    let Some((town, [mut alice, bob, carol])) = Town::of(242, names) else { return };
    alice.ctl(&["send", "bob", "0 first"]).ok();
    let before = alice.daemon().resident_bytes();
    let pid = alice.daemon().pid();
    let slow = Quality { bytes_per_second: Some(64 * 1024), ..Quality::default() };
    town.net.set_one_way(&alice.host, &bob.host, slow);
    let pouring = pour(&alice, "bob");
    let memory = || harness::resident_bytes(pid).expect("it runs");
    let mut most = serves(&alice, &carol, memory);
    assert_eq!(pouring.wait().ok_lines().len(), MESSAGES);
    most = most.max(serves(&alice, &carol, memory));
    assert!(!alice.outbox().is_empty(), "the link is slow");
    assert!(most < before + MEMORY_MAX, "from {before} to {most} bytes");
    town.net.heal_all();
    eventually("bob has all", 4 * DEADLINE, || alice.outbox().is_empty());
    let expected: Vec<usize> = std::iter::once(0).chain(0..MESSAGES).collect();
    assert_eq!(numbers(&bob), expected);
}
