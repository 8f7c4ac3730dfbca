//! Readers that stop reading: the daemon does not notice, and nothing is missed by who comes back.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use harness::{DEADLINE, Peer, eventually};
use peerd_proto::control::{Send, Target, WaitUntil};
use serde_json::Value;

use crate::people::friends;

/// What a daemon may grow by while nobody reads.
const GROWTH_MAX_BYTES: u64 = 64 << 20;

/// Of 32 KiB each: more than sockets and queues hold on the way to one reader.
const MESSAGES: usize = 200;

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().filter_map(|e| e["n"].as_u64()).collect()
}

fn fill(alice: &Peer) {
    let mut sender = alice.rpc();
    let body = "x".repeat(32 * 1024);
    for n in 0..MESSAGES {
        let answer = sender.call(Send {
            to: Target::User("bob".parse().expect("a name")),
            body: format!("{n} {body}"),
            wait: WaitUntil::Delivered,
            timeout_ms: Some(60_000),
            id: None,
            expires_ms: None,
        });
        assert_eq!(answer["result"]["state"], "delivered", "{answer}");
    }
}

/// Row 23: `p2pctl listen` is stopped (a suspended terminal), cut by peerd, and goes on when it is woken:
/// each event once, without a gap.
#[test]
fn a_listener_that_was_suspended_goes_on_where_it_was() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    let listener = bob.listen(&["--after", "0"]);
    alice.ctl(&["send", "bob", "first"]).ok();
    listener.wait_for_body("first");
    listener.freeze();
    let before = bob.daemon().resident_bytes();
    fill(&alice);
    eventually("peerd cuts it", DEADLINE, || {
        bob.daemon().log().contains("a client that does not read is cut")
    });
    let grown = bob.daemon().resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX_BYTES, "unread events do not pile up: {grown} bytes more");
    assert_eq!(bob.ctl(&["status"]).code, Some(0));
    listener.thaw();
    eventually("it has all", DEADLINE, || {
        listener.events().iter().filter(|e| e["type"] == "message").count() == MESSAGES + 1
    });
    let got = numbers(&listener.events());
    assert_eq!(got, (1..=got.len() as u64).collect::<Vec<_>>(), "no gap and none twice");
}

/// Row 23: a program of somebody's that reads nothing; it begins again behind the last line that it has.
#[test]
fn a_reader_that_was_cut_resumes_and_misses_nothing() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    let socket = bob.socket();
    let listen = |after: u64| {
        let mut stream = UnixStream::connect(&socket).expect("peerd listens");
        let ask = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"listen\",\"params\":{{\"after\":{after}}}}}\n"
        );
        stream.write_all(ask.as_bytes()).expect("peerd reads");
        stream.set_read_timeout(Some(Duration::from_secs(2))).expect("not zero");
        BufReader::new(stream)
    };
    // Whole lines until peerd closes or has no more.
    let read = |mut reader: BufReader<UnixStream>| {
        let mut events = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 0) && line.ends_with('\n') {
            let notice: Value = serde_json::from_str(&line).expect("whole lines are JSON");
            if notice["method"] == "event" {
                events.push(notice["params"]["n"].as_u64().expect("a number"));
            }
            line.clear();
        }
        events
    };
    let stuck = listen(0);
    fill(&alice);
    eventually("peerd cuts it", DEADLINE, || {
        bob.daemon().log().contains("a client that does not read is cut")
    });
    let mut got = read(stuck);
    let held = *got.last().expect("what fits the socket came");
    let head = bob.listen(&["--after", "0"]);
    head.wait_for("the last message", |e| {
        e["body"].as_str().is_some_and(|b| b.starts_with("199 "))
    });
    let head = *numbers(&head.events()).last().expect("there are events");
    assert!(held < head, "it was cut before the end");
    got.extend(read(listen(held)));
    assert_eq!(got, (1..=head).collect::<Vec<_>>(), "no gap and none twice");

    // One that asks for a number that is not there is told where it can go on.
    let mut lost = listen(head + 1000);
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        lost.read_line(line).expect("an answer and a notice");
    }
    let lagged: Value = serde_json::from_str(&lines[1]).expect("JSON");
    assert_eq!(
        (&lagged["method"], &lagged["params"]["resume"]),
        (&"lagged".into(), &(head + 1).into())
    );
}
