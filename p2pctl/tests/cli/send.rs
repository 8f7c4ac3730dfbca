//! `send`: 0 only when the state asked for is reached.

use serde_json::{Value, json};

use crate::fake::{Fake, Reply, error};

fn sent(state: &str, delivered: u32, of: u32) -> Value {
    json!({"id": "m1", "to": "bob", "state": state, "delivered": delivered, "of": of})
}

#[test]
fn delivered_is_0() {
    let fake = Fake::answering(sent("delivered", 1, 1));
    let ran =
        fake.p2pctl(&["send", "bob", "hi", "--id", "k", "--expires", "1m", "--timeout", "2s"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "delivered m1\n"));
    let params = json!({
        "to": {"user": "bob"}, "body": "hi", "wait": "delivered", "timeout_ms": 2000,
        "id": "k", "expires_ms": 60_000,
    });
    assert_eq!(fake.requests(), [("send".to_owned(), params)]);
    let ran = fake.p2pctl(&["--json", "send", "bob", "hi"]);
    let mut expected = sent("delivered", 1, 1);
    expected["schema"] = "p2pctl.sent/1".into();
    assert_eq!(ran.json(), [expected]);
}

#[test]
fn queued_is_0_only_for_who_asked_for_it() {
    let fake = Fake::answering(sent("queued", 0, 1));
    assert_eq!(fake.p2pctl(&["send", "bob", "hi", "--wait", "queued"]).code, 0);
    let ran = fake.p2pctl(&["--json", "send", "bob", "hi"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (10, ""));
    assert_eq!(ran.error()["id"], "m1");
}

#[test]
fn no_success_around_a_failure() {
    for (state, delivered, code) in
        [("rejected", 0, 8), ("failed", 0, 13), ("expired", 0, 10), ("queued", 1, 15)]
    {
        let ran =
            Fake::answering(sent(state, delivered, 3)).p2pctl(&["--json", "send", "bob", "x"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{state}");
        assert_eq!(ran.error()["state"], state);
    }
}

#[test]
fn what_timed_out_is_still_queued_and_has_an_id() {
    let details = json!({"id": "m7", "state": "queued", "delivered": 0, "of": 1});
    let fake = Fake::refusing("timed_out", details);
    let ran = fake.p2pctl(&["send", "bob", "hi"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (10, ""));
    assert!(ran.stderr.contains("still queued: m7 (0 of 1 delivered)"), "{}", ran.stderr);
    assert_eq!(fake.p2pctl(&["--json", "send", "bob", "hi"]).error()["id"], "m7");
}

#[test]
fn a_room_that_has_it_in_part_is_15() {
    let details = json!({"id": "m7", "state": "queued", "delivered": 2, "of": 3});
    let fake = Fake::refusing("partial", details);
    let ran = fake.p2pctl(&["--json", "send", "--room", "den", "hi"]);
    assert_eq!((ran.code, ran.error()["delivered"].as_u64()), (15, Some(2)));
    assert_eq!(fake.requests()[0].1["to"], json!({"room": "den"}));
}

#[test]
fn a_dash_is_all_of_stdin() {
    let fake = Fake::answering(sent("delivered", 1, 1));
    assert_eq!(fake.p2pctl_with(&["send", "bob", "-"], "one\ntwo\n").code, 0);
    assert_eq!(fake.requests()[0].1["body"], "one\ntwo");
    let ran = fake.p2pctl_with(&["--json", "send", "bob", "-"], "");
    assert_eq!((ran.code, ran.error()["code"].as_str()), (2, Some("usage")));
}

#[test]
fn each_line_is_a_message_until_one_fails() {
    let fake = Fake::new(|request| match request["params"]["body"].as_str() {
        Some("bad") => vec![Reply::Error(error("rejected", json!({"id": "m9"})))],
        _ => vec![Reply::Result(sent("delivered", 1, 1))],
    });
    let args = ["--json", "send", "bob", "-", "--lines", "--id", "k"];
    let ran = fake.p2pctl_with(&args, "one\n\nthree\nbad\nnever\n");
    assert_eq!((ran.code, ran.json().len()), (8, 2));
    let error = ran.error();
    assert_eq!((&error["line"], &error["id"]), (&json!(4), &json!("m9")));
    let requests = fake.requests();
    let sent: Vec<_> =
        requests.iter().map(|(_, params)| (&params["body"], &params["id"])).collect();
    let expected = [("one", "k-1"), ("three", "k-3"), ("bad", "k-4")];
    let expected = expected.map(|(body, id)| (json!(body), json!(id)));
    assert_eq!(sent, expected.iter().map(|(body, id)| (body, id)).collect::<Vec<_>>());
}

#[test]
fn nonsense_is_refused_before_peerd_hears_of_it() {
    let fake = Fake::answering(sent("delivered", 1, 1));
    let cases: [&[&str]; 6] = [
        &["send", "bob"],
        &["send", "Bob!", "hi"],
        &["send", "--room", "den", "bob", "hi"],
        &["send", "bob", "hi", "--lines"],
        &["send", "bob", "hi", "--id", "a b"],
        &["send", "bob", "hi", "--wait", "read"],
    ];
    for args in cases {
        let ran = fake.p2pctl(&[&["--json"], args].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}");
        assert_eq!(ran.error()["code"], "usage", "{args:?}");
    }
    assert_eq!(fake.requests(), []);
}
