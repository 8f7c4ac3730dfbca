//! `chat` with stdin piped: the lines go out one after the other, then the chat ends.

use serde_json::{Value, json};

use crate::fake::{Fake, Reply, error, message};

fn peerd(request: &Value) -> Vec<Reply> {
    let body = request["params"]["body"].as_str();
    match request["method"].as_str() {
        Some("listen") => vec![Reply::Result(json!({"log": "a", "head": 0}))],
        Some("requests") => vec![Reply::Result(json!({"requests": []}))],
        Some("send") if body == Some("bad") => vec![Reply::Error(error("blocked", Value::Null))],
        Some("send") => vec![Reply::Result(
            json!({"id": "m", "to": "alice", "state": "delivered", "delivered": 1, "of": 1}),
        )],
        Some("end") => vec![Reply::Result(json!({"peer": "alice", "state": "ended"}))],
        _ => vec![Reply::Result(json!({"peer": "alice", "state": "active"}))],
    }
}

fn methods(fake: &Fake) -> Vec<String> {
    fake.requests().into_iter().map(|(method, _)| method).collect()
}

#[test]
fn each_line_is_sent_and_the_chat_ends() {
    let fake = Fake::new(peerd);
    let ran = fake.p2pctl_with(&["chat", "alice"], "one\n\ntwo\n");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(methods(&fake), ["listen", "requests", "chat", "send", "send", "end"]);
    let requests = fake.requests();
    assert_eq!((&requests[3].1["body"], &requests[4].1["body"]), (&json!("one"), &json!("two")));
    assert_eq!(requests[0].1["from"], "alice");
}

#[test]
fn the_first_failure_ends_the_chat_and_is_the_exit_code() {
    let fake = Fake::new(peerd);
    let ran = fake.p2pctl_with(&["--json", "chat", "alice"], "one\nbad\nnever\n");
    assert_eq!((ran.code, ran.error()["line"].as_u64()), (12, Some(2)));
    assert_eq!(ran.json().len(), 1);
    assert_eq!(methods(&fake), ["listen", "requests", "chat", "send", "send", "end"]);
}

#[test]
fn a_request_that_waits_is_accepted() {
    let fake = Fake::new(|request| match request["method"].as_str() {
        Some("requests") => {
            let since = "2026-11-22T10:00:00.000Z";
            let asks =
                json!({"from": "alice", "since": since, "messages_waiting": 0, "chat": true});
            vec![Reply::Result(json!({"requests": [asks]}))]
        }
        _ => peerd(request),
    });
    assert_eq!(fake.p2pctl_with(&["chat", "alice"], "").code, 0);
    assert_eq!(methods(&fake), ["listen", "requests", "accept", "end"]);
}

#[test]
fn a_no_is_an_error_and_nothing_is_sent() {
    for (state, code) in [("rejected", 8), ("busy", 9), ("timed_out", 10)] {
        let fake = Fake::new(move |request| match request["method"].as_str() {
            Some("chat") => vec![Reply::Result(json!({"peer": "alice", "state": state}))],
            _ => peerd(request),
        });
        let ran = fake.p2pctl_with(&["--json", "chat", "alice"], "one\n");
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""));
        assert_eq!(ran.error()["peer"], "alice");
        assert_eq!(methods(&fake), ["listen", "requests", "chat"]);
    }
}

#[test]
fn what_the_peer_says_before_the_chat_is_open_is_not_missed() {
    let fake = Fake::new(|request| match request["method"].as_str() {
        Some("listen") => {
            let head = Reply::Result(json!({"log": "a", "head": 0}));
            vec![head, message(1, "hello"), message(2, "\u{1b}[2J")]
        }
        _ => peerd(request),
    });
    let ran = fake.p2pctl_with(&["chat", "alice"], &"x\n".repeat(20));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout, "10:00:00 alice: hello\n10:00:00 alice: \\u{1b}[2J\n");
}

fn ended_at_once(chats: Value) -> Fake {
    Fake::new(move |request| match request["method"].as_str() {
        Some("listen") => {
            let params = json!({
                "n": 1, "time": "2026-11-22T10:00:00.000Z", "type": "chat_ended",
                "peer": "alice", "chat": "00".repeat(16),
            });
            let ended = Reply::Line(json!({"method": "event", "params": params}));
            vec![Reply::Result(json!({"log": "a", "head": 0})), ended]
        }
        Some("status") => vec![Reply::Result(json!({
            "username": "bob", "session": "online", "registry": null, "peer_listener": null,
            "room_listener": null, "chats": chats, "rooms": [], "outbox": 0, "version": "0.1.0",
        }))],
        _ => peerd(request),
    })
}

#[test]
fn a_line_after_the_peer_ended_the_chat_is_not_called_sent() {
    let fake = ended_at_once(json!([]));
    let ran = fake.p2pctl_with(&["--json", "chat", "alice"], &"x\n".repeat(50));
    assert_eq!((ran.code, ran.error()["code"].as_str()), (8, Some("rejected")));
    assert!(!methods(&fake).contains(&"end".to_owned()), "it is over already");
}

#[test]
fn the_end_of_an_earlier_chat_is_not_the_end_of_this_one() {
    let fake = ended_at_once(json!([{"peer": "alice", "state": "active"}]));
    let ran = fake.p2pctl_with(&["chat", "alice"], &"x\n".repeat(20));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(methods(&fake).iter().filter(|method| *method == "send").count(), 20);
    assert_eq!(methods(&fake).last().map(String::as_str), Some("end"));
}
