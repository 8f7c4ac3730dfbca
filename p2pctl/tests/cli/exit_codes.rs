//! The table of exit codes, and how errors look.

use registryd_proto::Code;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, p2pctl, run};

fn status(session: &str) -> Value {
    json!({
        "username": "alice", "session": session, "registry": "127.0.0.1:4700",
        "peer_listener": "127.0.0.1:1", "room_listener": null, "chats": [], "rooms": ["den"],
        "outbox": 0, "version": "0.1.0",
    })
}

#[test]
fn every_code_of_peerd_has_its_exit_code() {
    for code in Code::ALL {
        let fake = Fake::refusing(code.as_str(), Value::Null);
        let ran = fake.p2pctl(&["--json", "search", "bob"]);
        assert_eq!(ran.code, i32::from(code.exit_code()), "{code}");
        assert_eq!(ran.stdout, "");
        let error = ran.error();
        assert_eq!(error["schema"], "p2pctl.error/1");
        assert_eq!(error["code"], code.as_str());
        assert_eq!(error["message"], "text of peerd");
        assert_eq!(error["hint"], "do this");
        assert_eq!(error["retryable"], false);
        assert!(ran.stderr.starts_with(r#"{"schema":"p2pctl.error/1","code":"#));
    }
}

#[test]
fn people_get_a_message_and_a_hint() {
    let ran = Fake::refusing("busy", Value::Null).p2pctl(&["search", "bob"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (9, ""));
    assert_eq!(ran.stderr, "p2pctl: text of peerd\nhint: do this\n");
}

#[test]
fn details_are_fields_of_the_error() {
    let details = json!({"fingerprints": ["a", "b"], "schema": "evil"});
    let ran = Fake::refusing("untrusted_key", details).p2pctl(&["--json", "search", "bob"]);
    assert_eq!(ran.code, 11);
    assert_eq!(ran.error()["fingerprints"], json!(["a", "b"]));
    assert!(!ran.stderr.contains("evil"));
    let details = json!({"old_key": "a", "new_key": "b\u{1b}"});
    let ran = Fake::refusing("untrusted_key", details).p2pctl(&["search", "bob"]);
    assert!(ran.stderr.contains("  new_key: b\\u{1b}\n  old_key: a\n"), "{}", ran.stderr);
}

#[test]
fn no_peerd_is_3_and_names_the_places() {
    let mut command = p2pctl();
    command.args(["--socket", "/nowhere/peerd.sock", "status", "--json"]);
    let ran = run(command, "");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    let error = ran.error();
    assert_eq!(error["code"], "peerd_not_running");
    assert_eq!(error["retryable"], true);
    assert!(ran.stderr.contains("/nowhere/peerd.sock"));
}

#[test]
fn status_is_printed_and_its_exit_code_is_the_health() {
    for (session, code) in [("online", 0), ("logged_out", 4), ("offline", 5), ("superseded", 16)] {
        let fake = Fake::answering(status(session));
        let ran = fake.p2pctl(&["status", "--json"]);
        assert_eq!(ran.code, code, "{session}");
        assert_eq!(ran.json()[0]["session"], session);
        assert_eq!(ran.json()[0]["schema"], "p2pctl.status/1");
        assert!(ran.stdout.starts_with(r#"{"schema":"p2pctl.status/1","#));
        assert_eq!(ran.stderr, "");
        assert_eq!(fake.p2pctl(&["status"]).code, code);
    }
}

#[test]
fn the_answer_to_a_request_is_the_exit_code() {
    let answers = [("active", 0), ("rejected", 8), ("busy", 9), ("timed_out", 10)];
    for (state, code) in answers {
        let fake = Fake::answering(json!({"peer": "bob", "state": state}));
        let ran = fake.p2pctl(&["--json", "chat", "bob", "--request", "--ring", "2s"]);
        assert_eq!(ran.code, code, "{state}");
        let expected = json!([{"schema": "p2pctl.chat/1", "peer": "bob", "state": state}]);
        assert_eq!(Value::from(ran.json()), expected);
        let params = json!({"username": "bob", "ring_ms": 2000});
        assert_eq!(fake.requests(), [("chat".to_owned(), params)]);
    }
}

#[test]
fn the_answer_may_be_an_error_as_well() {
    for (word, code) in [("rejected", 8), ("busy", 9), ("timed_out", 10)] {
        let ran = Fake::refusing(word, Value::Null).p2pctl(&["--json", "chat", "bob", "--request"]);
        assert_eq!((ran.code, ran.json()[0]["state"].as_str()), (code, Some(word)));
    }
    let ran =
        Fake::refusing("peer_offline", Value::Null).p2pctl(&["--json", "chat", "bob", "--request"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (7, ""));
}

#[test]
fn a_peerd_that_does_not_answer_is_timed_out() {
    let ran = Fake::new(|_| vec![]).p2pctl(&["--json", "--timeout", "100ms", "rooms"]);
    assert_eq!((ran.code, ran.error()["code"].as_str()), (10, Some("timed_out")));
}

#[test]
fn a_peerd_that_hangs_up_is_gone() {
    let ran = Fake::new(|_| vec![Reply::Close]).p2pctl(&["--json", "rooms"]);
    assert_eq!((ran.code, ran.error()["code"].as_str()), (3, Some("peerd_not_running")));
}

#[test]
fn an_answer_of_another_version_is_a_mismatch() {
    let ran = Fake::answering(json!({"peerd": "9.0.0", "api": 9})).p2pctl(&["--json", "version"]);
    assert_eq!((ran.code, ran.error()["code"].as_str()), (19, Some("version_mismatch")));
    let ran = Fake::answering(json!({"no": "such"})).p2pctl(&["--json", "search", "bob"]);
    assert_eq!(ran.code, 19);
    let ran = Fake::answering(json!({"peerd": "0.1.0", "api": 1})).p2pctl(&["--json", "version"]);
    assert_eq!((ran.code, ran.json()[0]["peerd"].as_str()), (0, Some("0.1.0")));
}

#[test]
fn the_own_version_is_told_without_a_peerd() {
    let mut command = p2pctl();
    command.args(["--socket", "/nowhere", "--json", "version"]);
    let ran = run(command, "");
    assert_eq!((ran.code, &ran.json()[0]["peerd"]), (0, &Value::Null), "{ran:?}");
    assert_eq!(ran.json()[0]["p2pctl"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn wait_with_a_timeout_waits_for_a_peerd_that_does_not_run_yet() {
    let mut command = p2pctl();
    command.args(["--socket", "/nowhere", "--json", "wait", "online"]);
    assert_eq!(run(command, "").code, 3, "at once");

    let folder = tempfile::tempdir().expect("a folder");
    let mut command = p2pctl();
    command.args(["--json", "--timeout", "20s", "--socket"]).arg(folder.path().join("peerd.sock"));
    command.args(["wait", "online"]);
    let waiting = std::thread::spawn(move || run(command, ""));
    let path = folder.path().join("peerd.sock");
    let _fake = Fake::at(folder, &path, |_| vec![Reply::Result(status("online"))]);
    let ran = waiting.join().expect("it ends");
    assert_eq!((ran.code, ran.json()[0]["session"].as_str()), (0, Some("online")), "{ran:?}");
}

#[test]
fn a_verb_that_peerd_lacks_is_a_mismatch() {
    let error = json!({"code": -32601, "message": "no method rooms",
        "data": {"code": "usage", "retryable": false}});
    let ran = Fake::new(move |_| vec![Reply::Error(error.clone())]).p2pctl(&["--json", "rooms"]);
    assert_eq!((ran.code, ran.error()["code"].as_str()), (19, Some("version_mismatch")));
}

#[test]
fn an_endless_line_is_refused() {
    let long = "x".repeat(600 * 1024);
    let ran = Fake::answering(json!({"x": long})).p2pctl(&["--json", "rooms"]);
    assert_eq!((ran.code, ran.error()["code"].as_str()), (1, Some("internal")));
}

#[test]
fn the_doctor_names_the_first_failure() {
    let answer = |session: &'static str| {
        Fake::new(move |request| {
            vec![Reply::Result(match request["method"].as_str() {
                Some("version") => json!({"peerd": "0.1.0", "api": 1}),
                _ => status(session),
            })]
        })
    };
    let ran = answer("offline").p2pctl(&["--json", "doctor"]);
    assert_eq!((ran.code, ran.json()[0]["healthy"].as_bool()), (5, Some(false)));
    assert_eq!(ran.json()[0]["checks"].as_array().map(Vec::len), Some(7));
    assert_eq!(answer("logged_out").p2pctl(&["doctor"]).code, 4);
    let mut command = p2pctl();
    command.args(["--socket", "/nowhere", "doctor", "--json"]);
    let ran = run(command, "");
    assert_eq!((ran.code, ran.json()[0]["schema"].as_str()), (3, Some("p2pctl.doctor/1")));
}
