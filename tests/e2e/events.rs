//! Events: durable numbers without gaps, readers that come back, readers that stop reading.

use harness::{DEADLINE, eventually};
use peerd_proto::control::{Listen, Send, Status, Target, WaitUntil};
use serde_json::Value;

use crate::friends;

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|e| e["n"].as_u64().expect("a number")).collect()
}

#[test]
fn numbers_have_no_gap_and_survive_a_crash() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    for n in 0..5 {
        alice.ctl(&["send", "bob", &format!("before {n}")]).ok();
    }
    let before = bob.listen(&["--after", "0"]);
    before.wait_for_body("before 4");
    bob.kill();
    bob.restart();
    alice.ctl(&["send", "bob", "after"]).ok();
    let after = bob.listen(&["--after", "0"]);
    after.wait_for_body("after");
    let (before, after) = (before.events(), after.events());
    assert_eq!(numbers(&after), (1..=after.len() as u64).collect::<Vec<_>>());
    assert_eq!(after[..before.len()], before[..], "what was shown stays as it was");
    assert!(after.iter().all(|e| e["schema"] == "p2pctl.event/1" && e["time"].is_string()));
}

#[test]
fn a_named_consumer_goes_on_where_it_was_with_nothing_missed() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let take = |count: usize| {
        let count = count.to_string();
        let args = ["listen", "--as", "notifier", "--ack-written", "--type", "message"];
        bob.ctl_with().args(&args).args(&["--count", &count, "--timeout", "20s"]).run().ok_lines()
    };
    // A new name begins at the newest event: the first reader has to be there before the messages.
    let idle = ["listen", "--as", "notifier", "--ack-written", "--idle", "200ms"];
    assert_eq!(bob.ctl(&idle).ok_lines(), Vec::<Value>::new());
    for n in 0..6 {
        alice.ctl(&["send", "bob", &n.to_string()]).ok();
    }
    let got: Vec<Value> = [take(2), take(1), take(3)].concat();
    let bodies: Vec<&str> = got.iter().filter_map(|e| e["body"].as_str()).collect();
    assert_eq!(bodies, ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn without_acknowledgement_events_come_again() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    assert!(bob.ctl(&["listen", "--as", "job", "--idle", "200ms"]).ok_lines().is_empty());
    alice.ctl(&["send", "bob", "important"]).ok();
    let take = || {
        let args = ["listen", "--as", "job", "--type", "message", "--count", "1"];
        bob.ctl_with().args(&args).args(&["--timeout", "20s"]).run().ok_lines()
    };
    let first = take();
    assert_eq!(take(), first, "not acknowledged, so again");
    bob.ctl(&["ack", "job", &first[0]["n"].to_string()]).ok();
    alice.ctl(&["send", "bob", "next"]).ok();
    assert_eq!(take()[0]["body"], "next");
}

#[test]
fn a_number_above_the_head_is_lagged_with_where_to_resume() {
    let (_registry, [_alice, bob]) = friends(["alice", "bob"]);
    let mut rpc = bob.rpc();
    rpc.call(Listen { after: Some(1_000_000), ..Listen::default() });
    let lagged = rpc.read().expect("a notice");
    assert_eq!(lagged["method"], "lagged");
    assert!(lagged["params"]["resume"].as_u64().is_some_and(|n| n < 1_000_000), "{lagged}");
}

#[test]
fn a_listener_ends_at_once_when_peerd_does() {
    let (_registry, [mut bob]) = friends(["bob"]);
    let listening = bob.ctl_with().args(&["listen"]).spawn();
    eventually("it listens", DEADLINE, || bob.daemon().log().contains("listen"));
    bob.kill();
    listening.wait().failed(registryd_proto::Code::PeerdNotRunning);
}

#[test]
fn a_reader_that_stops_reading_slows_nobody() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    let mut stuck = bob.rpc();
    stuck.call(Listen { after: Some(0), ..Listen::default() });
    let before = bob.daemon().resident_bytes();
    let mut sender = alice.rpc();
    let body = "x".repeat(32 * 1024);
    let messages = 400;
    for _ in 0..messages {
        let line = sender.call(Send {
            to: Target::User("bob".parse().expect("name")),
            body: body.clone(),
            wait: WaitUntil::Delivered,
            timeout_ms: Some(60_000),
            id: None,
            expires_ms: None,
        });
        assert_eq!(line["result"]["state"], "delivered", "{line}");
    }
    let grown = bob.daemon().resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "12 MiB unread must not pile up: {grown} bytes more");
    assert!(bob.rpc().call(Status {})["result"].is_object());
    drop(stuck);
    let all = bob.listen(&["--after", "0", "--type", "message"]);
    eventually("a reader that reads gets all", DEADLINE, || all.count() == messages);
}

/// One answer fits about 15 bodies of this size: a history longer than a line comes page by page.
#[test]
fn a_history_that_fits_no_line_is_printed_whole() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let mut rpc = alice.rpc();
    let body = |n: usize| format!("{n} {}", "x".repeat(32 * 1024));
    for n in 0..40 {
        let answer = rpc.call(Send {
            to: Target::User("bob".parse().expect("a name")),
            body: body(n),
            wait: WaitUntil::Delivered,
            timeout_ms: None,
            id: None,
            expires_ms: None,
        });
        assert!(answer["error"].is_null(), "{}", answer["error"]);
    }
    let told = bob.ctl(&["history", "alice", "--limit", "40"]).ok_lines();
    let bodies: Vec<&str> = told.iter().filter_map(|e| e["body"].as_str()).collect();
    assert_eq!(bodies, (0..40).map(body).collect::<Vec<_>>());
    let newest = bob.ctl(&["history", "alice", "--limit", "18"]).ok_lines();
    assert_eq!(newest[..], told[22..]);
}
