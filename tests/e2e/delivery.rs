//! Nothing lost, nothing twice, nothing out of order: through kill -9 of either side, and with `--id`.

use std::time::{Duration, Instant};

use harness::{DEADLINE, Peer, Running, eventually};
use registryd_proto::Code;

use crate::{bodies, friends, online};

/// The states that `status` and `outbox` give of one id, as the author's events tell it.
fn delivered_event(author: &Peer, id: &str) {
    let events = author.listen(&["--after", "0", "--type", "delivered"]);
    events.wait_for(&format!("delivered {id}"), |e| e["id"] == id);
}

#[test]
fn a_message_to_a_killed_peer_is_queued_and_delivered_later_once() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    alice.ctl(&["send", "bob", "first"]).ok();
    bob.kill();
    let call = ["send", "bob", "second", "--wait", "delivered", "--timeout", "2s"];
    let error = alice.ctl(&call).failed(Code::TimedOut);
    let id = error["id"].as_str().expect("the id is told");
    let message = error["message"].as_str().expect("a text");
    assert!(message.contains("still queued") && message.contains(id), "{message}");
    assert_eq!(error["retryable"], true);
    assert_eq!(alice.outbox(), [id]);

    bob.restart();
    delivered_event(&alice, id);
    assert!(alice.outbox().is_empty());
    assert_eq!(bodies(&bob.history(&["alice"])), ["first", "second"]);
    let shown = bob.listen(&["--after", "0", "--type", "message"]);
    shown.wait_for_body("second");
    assert_eq!(shown.count(), 2, "each is shown once");
}

#[test]
fn the_same_id_again_is_the_same_message() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let send = |body: &str| alice.ctl(&["send", "bob", body, "--id", "backup-2026-11-22"]);
    let first = send("backup done").ok();
    assert_eq!(first["id"], "backup-2026-11-22");
    let again = send("backup done").ok();
    assert_eq!(again["state"], "delivered");
    send("backup failed").failed(Code::Conflict);
    assert_eq!(bodies(&bob.history(&["alice"])), ["backup done"]);
    bob.ctl(&["send", "alice", "mine", "--id", "backup-2026-11-22"]).ok();
}

#[test]
fn the_same_id_from_many_callers_at_once_is_one_message() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let call = || alice.ctl_with().args(&["send", "bob", "only once", "--id", "one"]).spawn();
    let calls: Vec<Running> = (0..8).map(|_| call()).collect();
    for call in calls {
        assert_eq!(call.wait().ok()["state"], "delivered");
    }
    assert_eq!(bodies(&bob.history(&["alice"])), ["only once"]);
}

#[test]
fn a_killed_caller_leaves_the_message_done_or_not_done() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    for n in 0..20 {
        let (id, body) = (format!("job-{n}"), format!("body {n}"));
        let mut call = alice.ctl_with().args(&["send", "bob", &body, "--id", &id]).spawn();
        // Killed at another moment each time: before, in and after the request.
        let moment = Instant::now() + Duration::from_millis(2 * n);
        eventually("the moment to kill", DEADLINE, || Instant::now() >= moment);
        call.kill();
        alice.ctl(&["send", "bob", &body, "--id", &id]).ok();
    }
    let expected: Vec<String> = (0..20).map(|n| format!("body {n}")).collect();
    assert_eq!(bodies(&bob.history(&["alice"])), expected);
}

#[test]
fn the_outbox_survives_kill_9_of_its_owner() {
    let (_registry, [mut alice, mut bob]) = friends(["alice", "bob"]);
    alice.ctl(&["send", "bob", "hello"]).ok();
    bob.kill();
    let queue = |n: u32| alice.ctl(&["send", "bob", &n.to_string(), "--wait", "queued"]).ok();
    let ids: Vec<_> = (0..5).map(|n| queue(n)["id"].clone()).collect();
    alice.kill();
    alice.restart();
    assert_eq!(alice.outbox(), ids.iter().map(|i| i.as_str().expect("id")).collect::<Vec<_>>());
    bob.restart();
    eventually("all is delivered", 2 * DEADLINE, || alice.outbox().is_empty());
    assert_eq!(bodies(&bob.history(&["alice"])), ["hello", "0", "1", "2", "3", "4"]);
}

#[test]
fn kill_9_of_either_side_under_way_loses_and_doubles_nothing() {
    let (_registry, [mut alice, mut bob]) = friends(["alice", "bob"]);
    let mut expected = Vec::new();
    for round in 0..6 {
        let lines: Vec<String> = (0..20).map(|n| format!("round {round} line {n}")).collect();
        let call = alice.ctl_with().args(&["send", "bob", "-", "--lines", "--wait", "queued"]);
        let sending = call.args(&["--id", &format!("r{round}")]).stdin(lines.join("\n")).spawn();
        let seen = bob.listen(&["--after", "0", "--type", "message"]);
        eventually("a message of the round is at bob", DEADLINE, || seen.count() > round * 20);
        if round % 2 == 0 {
            bob.kill();
            assert_eq!(sending.wait().ok_lines().len(), 20, "bob's crash is no matter here");
            bob.restart();
        } else {
            alice.kill();
            let code = sending.wait().code;
            assert!(matches!(code, Some(0 | 3)), "done, or peerd is gone: {code:?}");
            alice.restart();
            let call = alice.ctl_with().args(&["send", "bob", "-", "--lines", "--wait", "queued"]);
            let again = call.args(&["--id", &format!("r{round}")]).stdin(lines.join("\n")).run();
            assert_eq!(again.ok_lines().len(), 20, "the same ids again");
        }
        expected.extend(lines);
        eventually("all is delivered", 2 * DEADLINE, || alice.outbox().is_empty());
    }
    let history = bob.history(&["alice"]);
    assert_eq!(bodies(&history), expected);
    assert_eq!(alice.history(&["bob"]), history);
}

#[test]
fn many_callers_at_once_are_all_served() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let call = |n| alice.ctl_with().args(&["send", "bob", &format!("caller {n}")]).spawn();
    let calls: Vec<Running> = (0..25).map(call).collect();
    for call in calls {
        assert_eq!(call.wait().ok()["state"], "delivered");
    }
    let history = bob.history(&["alice"]);
    let mut got = bodies(&history);
    got.sort_unstable();
    got.dedup();
    assert_eq!(got.len(), 25);
    assert_eq!(history, alice.history(&["bob"]), "one order on both sides");
}

#[test]
fn a_message_can_be_cancelled_or_expire_and_then_never_comes() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    alice.ctl(&["send", "bob", "first"]).ok();
    bob.kill();
    eventually("alice sees that bob is gone", DEADLINE, || {
        alice.ctl(&["contacts"]).ok()["contacts"][0]["link"] == "absent"
    });
    let queued = |args: &[&str]| {
        let call = [&["send", "bob", "never mind", "--wait", "queued"][..], args].concat();
        alice.ctl(&call).ok()["id"].as_str().expect("an id").to_owned()
    };
    let cancelled = queued(&[]);
    let expired = queued(&["--expires", "1s"]);
    alice.ctl(&["outbox", "cancel", &cancelled]).ok();
    let failed = alice.listen(&["--after", "0", "--type", "failed"]);
    failed.wait_for("the cancelled one fails", |e| e["id"] == cancelled.as_str());
    failed.wait_for("the expired one fails", |e| e["id"] == expired.as_str());
    bob.restart();
    alice.ctl(&["send", "bob", "last"]).ok();
    assert_eq!(bodies(&bob.history(&["alice"])), ["first", "last"]);
}

#[test]
fn a_message_cancelled_on_its_way_is_either_delivered_or_failed() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    alice.ctl(&["send", "bob", "first"]).ok();
    // Alice has not yet noticed, so she writes into the void: bob may have it for all she knows.
    bob.kill();
    let sent = alice.ctl(&["send", "bob", "never mind", "--wait", "queued"]).ok();
    alice.ctl(&["outbox", "cancel", sent["id"].as_str().expect("an id")]).ok();
    bob.restart();
    let events = alice.listen(&["--after", "0"]);
    let ended = events.wait_for("its end", |e| {
        e["id"] == sent["id"] && (e["type"] == "failed" || e["type"] == "delivered")
    });
    alice.ctl(&["send", "bob", "last"]).ok();
    let history = bob.history(&["alice"]);
    let shown = bodies(&history).contains(&"never mind");
    assert_eq!(shown, ended["type"] == "delivered", "{ended}: {history:?}");
}

#[test]
fn a_body_has_1_byte_to_64_kib_of_anything() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let send = |body: &str| {
        let call = alice.ctl_with().args(&["send", "bob", "-"]);
        call.stdin(body.to_owned()).run()
    };
    let largest = "\u{1}".repeat(64 * 1024);
    for body in ["ü €\u{202e}\u{1b}[31m\"\\", "two\nlines", &largest] {
        send(body).ok();
    }
    send(&format!("{largest}x")).failed(Code::Usage);
    send("").failed(Code::Usage);
    let history = bob.history(&["alice"]);
    assert_eq!(bodies(&history), ["ü €\u{202e}\u{1b}[31m\"\\", "two\nlines", &largest]);
}

#[test]
fn sigterm_under_load_is_clean_and_loses_nothing_acknowledged() {
    let (_registry, [mut alice, bob]) = friends(["alice", "bob"]);
    let lines: String = (0..500).map(|n| format!("{n}\n")).collect();
    let call = alice.ctl_with().args(&["send", "bob", "-", "--lines", "--wait", "queued"]);
    let sending = call.stdin(lines).spawn();
    let seen = bob.listen(&["--after", "0", "--type", "message"]);
    eventually("the load is on", DEADLINE, || seen.count() > 20);
    let start = Instant::now();
    assert!(alice.stop().success());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let output = sending.wait();
    assert!(matches!(output.code, Some(0 | 3)), "{:?} {}", output.code, output.stderr);
    let acknowledged = output.stdout.lines().count();
    alice.restart();
    eventually("all is delivered", 2 * DEADLINE, || alice.outbox().is_empty());
    let history = bob.history(&["alice"]);
    assert!(history.len() >= acknowledged, "{} of {acknowledged}", history.len());
    let expected: Vec<String> = (0..history.len()).map(|n| n.to_string()).collect();
    assert_eq!(bodies(&history), expected);
}

#[test]
fn a_sender_needs_no_session_of_the_recipient_to_queue() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    bob.ctl(&["policy", "--default", "allow"]).ok();
    bob.ctl(&["logout"]).ok();
    let sent = alice.ctl(&["send", "bob", "see you", "--wait", "queued"]).ok();
    assert_eq!(sent["state"], "queued");
    alice.ctl(&["send", "nobody", "x", "--wait", "queued"]).failed(Code::NotFound);
    bob.login(&[]).ok();
    delivered_event(&alice, sent["id"].as_str().expect("an id"));
}
