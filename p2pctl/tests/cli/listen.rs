//! `listen`: nothing missed, nothing twice, and an end when there is reason to end.

use std::{process::Stdio, sync::mpsc, thread, time::Duration};

use serde_json::{Value, json};

use crate::fake::{Fake, Reply, error, message, p2pctl};

fn started(log: &str, head: u64) -> Reply {
    Reply::Result(json!({"log": log, "head": head}))
}

fn numbers(lines: &[Value]) -> Vec<Option<u64>> {
    lines.iter().map(|line| line["n"].as_u64()).collect()
}

#[test]
fn it_ends_after_count() {
    let fake = Fake::new(|_| {
        vec![started("a", 0), message(1, "one"), message(2, "two"), message(3, "three")]
    });
    let ran = fake.p2pctl(&[
        "--json", "listen", "--count", "2", "--after", "0", "--from", "alice", "--type", "message",
        "--type", "presence",
    ]);
    assert_eq!(ran.code, 0);
    assert_eq!(numbers(&ran.json()), [Some(1), Some(2)]);
    assert!(ran.stdout.starts_with(r#"{"schema":"p2pctl.event/1","n":1,"time":"#));
    assert_eq!((&ran.json()[0]["body"], &ran.json()[0]["room"]), (&json!("one"), &Value::Null));
    let params = &fake.requests()[0].1;
    assert_eq!((&params["after"], &params["from"]), (&json!(0), &json!("alice")));
    assert_eq!(params["types"], json!(["message", "presence"]));
}

#[test]
fn it_ends_when_idle_and_when_the_time_is_up() {
    let fake = Fake::new(|_| vec![started("a", 0), message(1, "one")]);
    let ran = fake.p2pctl(&["--json", "listen", "--idle", "100ms"]);
    assert_eq!((ran.code, ran.json().len()), (0, 1));
    let ran = fake.p2pctl(&["--json", "--timeout", "100ms", "listen", "--count", "2"]);
    assert_eq!((ran.code, ran.json().len()), (10, 1));
    assert_eq!(ran.error()["code"], "timed_out");
}

#[test]
fn it_says_at_once_that_peerd_is_gone() {
    let fake = Fake::new(|_| vec![started("a", 0), message(1, "one"), Reply::Close]);
    let ran = fake.p2pctl(&["--json", "listen"]);
    assert_eq!((ran.code, ran.json().len()), (3, 1));
    assert_eq!(ran.error()["code"], "peerd_not_running");
}

#[test]
fn it_goes_on_after_the_last_number_when_peerd_is_back() {
    let fake = Fake::new(|request| match request["params"]["after"].as_u64() {
        None => vec![started("a", 4), message(5, "five"), message(6, "six"), Reply::Close],
        Some(6) => vec![started("a", 7), message(6, "six again"), message(7, "seven")],
        Some(_) => vec![],
    });
    let ran = fake.p2pctl(&["--json", "listen", "--reconnect", "--count", "3"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(numbers(&ran.json()), [Some(5), Some(6), Some(7)]);
}

#[test]
fn a_reader_that_was_cut_goes_on_by_itself() {
    let fake = Fake::new(|request| match request["params"]["after"].as_u64() {
        None => vec![started("a", 0), message(1, "one"), Reply::Close],
        Some(1) => vec![started("a", 2), message(2, "two")],
        Some(_) => vec![],
    });
    let ran = fake.p2pctl(&["--json", "listen", "--count", "2"]);
    assert_eq!((ran.code, numbers(&ran.json())), (0, vec![Some(1), Some(2)]));
}

#[test]
fn a_consumer_that_comes_back_prints_nothing_twice() {
    let fake = Fake::new(|request| {
        let params = &request["params"];
        if !params["after"].is_null() {
            return vec![Reply::Error(error("usage", Value::Null))];
        }
        vec![started("a", 2), message(1, "one"), message(2, "two"), Reply::Close]
    });
    let ran = fake.p2pctl(&["--json", "listen", "--as", "bot", "--reconnect", "--idle", "500ms"]);
    assert_eq!((ran.code, numbers(&ran.json())), (0, vec![Some(1), Some(2)]), "{}", ran.stderr);
}

#[test]
fn a_quiet_start_does_not_lose_what_comes_while_peerd_is_away() {
    let fake = Fake::new(|request| match request["params"]["after"].as_u64() {
        None => vec![started("a", 4), Reply::Close],
        Some(4) => vec![started("a", 5), message(5, "five")],
        Some(_) => vec![],
    });
    let ran = fake.p2pctl(&["--json", "listen", "--reconnect", "--count", "1"]);
    assert_eq!((ran.code, numbers(&ran.json())), (0, vec![Some(5)]));
}

#[test]
fn another_log_begins_anew_and_says_so() {
    let fake = Fake::new(|request| match request["params"]["after"].as_u64() {
        None => vec![started("a", 4), message(5, "five"), Reply::Close],
        _ => vec![started("b", 1), message(1, "one")],
    });
    let ran = fake.p2pctl(&["--json", "listen", "--reconnect", "--count", "2"]);
    assert_eq!((ran.code, numbers(&ran.json())), (0, vec![Some(5), None, Some(1)]));
    assert_eq!(ran.json()[1]["type"], "lagged");
}

#[test]
fn a_consumer_acknowledges_what_is_written() {
    let fake = Fake::new(|request| match request["method"].as_str() {
        Some("listen") => vec![started("a", 3), message(2, "two"), message(3, "three")],
        _ => vec![started("a", 3)],
    });
    let args = ["--json", "listen", "--as", "bot", "--count", "2"];
    assert_eq!(fake.p2pctl(&args).code, 0);
    assert_eq!(fake.requests().len(), 1, "only --ack-written acknowledges");
    assert_eq!(fake.p2pctl(&[&args[..], &["--ack-written"]].concat()).code, 0);
    let last = fake.requests().pop();
    assert_eq!(last, Some(("ack".to_owned(), json!({"consumer": "bot", "n": 3}))));
    let ran = fake.p2pctl(&["--json", "ack", "bot", "3"]);
    assert_eq!((ran.code, ran.json()[0]["head"].as_u64()), (0, Some(3)));
}

#[test]
fn lagged_has_no_number_and_unknown_types_pass() {
    let fake = Fake::new(|_| {
        let unknown = json!({"n": 9, "time": "2026-11-22T10:00:00.000Z", "type": "new", "x": 1});
        vec![
            started("a", 9),
            Reply::Line(json!({"method": "lagged", "params": {"resume": 9}})),
            Reply::Line(json!({"method": "unheard_of", "params": {}})),
            Reply::Line(json!({"method": "event", "params": unknown})),
        ]
    });
    let ran = fake.p2pctl(&["--json", "listen", "--after", "1", "--count", "1"]);
    assert_eq!((ran.code, numbers(&ran.json())), (0, vec![None, Some(9)]));
    let lines = ran.json();
    assert_eq!((&lines[0]["type"], &lines[0]["resume"]), (&json!("lagged"), &json!(9)));
    assert_eq!((&lines[1]["type"], &lines[1]["x"]), (&json!("new"), &json!(1)));
}

#[test]
fn text_for_people_is_escaped() {
    let evil = "a\u{1b}[2J\u{202e}b\nmallory: c";
    let fake = Fake::new(move |_| vec![started("a", 0), message(1, evil)]);
    let ran = fake.p2pctl(&["listen", "--count", "1"]);
    assert_eq!(ran.stdout, "10:00:00 alice: a\\u{1b}[2J\\u{202e}b\\nmallory: c\n");
    let ran = fake.p2pctl(&["--json", "listen", "--count", "1"]);
    assert_eq!(ran.json()[0]["body"], evil);
    assert!(!ran.stdout.contains('\u{202e}'));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let fake = Fake::new(|_| {
        let flood = (1..=500).map(|n| message(n, &"x".repeat(1000)));
        std::iter::once(started("a", 0)).chain(flood).collect()
    });
    let mut command = p2pctl();
    command.arg("--socket").arg(fake.socket()).args(["listen", "--as", "bot", "--ack-written"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let output = ended.recv_timeout(Duration::from_secs(20)).expect("it ends").expect("a status");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
