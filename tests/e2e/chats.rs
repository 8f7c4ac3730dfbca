//! Chats: request, answer, conversation, end; and each way it can be answered otherwise.

use harness::{DEADLINE, Peer, eventually};
use registryd_proto::Code;
use serde_json::Value;

use crate::{assert_answer, bodies, online};

/// The state of the chat with `user` in `status`, if there is one.
fn chat_state(peer: &Peer, user: &str) -> Option<String> {
    let status = peer.status();
    let chats = status["chats"].as_array().expect("a list");
    let chat = chats.iter().find(|c| c["peer"] == user)?;
    Some(chat["state"].as_str().expect("a word").to_owned())
}

fn event_after_start(peer: &Peer, kind: &str) -> Value {
    peer.listen(&["--after", "0"]).wait_for_type(kind)
}

#[test]
fn a_conversation_from_request_to_end() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    alice.chat_with(&bob);
    assert_eq!(chat_state(&alice, "bob").as_deref(), Some("active"));
    assert_eq!(chat_state(&bob, "alice").as_deref(), Some("active"));

    for n in 0..5 {
        let sent = alice.ctl(&["send", "bob", &format!("ping {n}")]).ok();
        assert_eq!(sent["schema"], "p2pctl.sent/1");
        assert_eq!(sent["state"], "delivered");
        bob.ctl(&["send", "alice", &format!("pong {n}")]).ok();
    }
    let history = alice.history(&["bob"]);
    assert_eq!(history.len(), 10);
    assert_eq!(history[0], ("alice".to_owned(), "ping 0".to_owned()));
    assert_eq!(history[1], ("bob".to_owned(), "pong 0".to_owned()));
    assert_eq!(bob.history(&["alice"]), history, "the same on both sides");

    assert_eq!(alice.ctl(&["end", "bob"]).ok()["state"], "ended");
    assert_eq!(event_after_start(&bob, "chat_ended")["peer"], "alice");
    assert_eq!(chat_state(&alice, "bob"), None);
    eventually("it is over at bob", DEADLINE, || chat_state(&bob, "alice").is_none());
}

#[test]
fn a_rejected_request_exits_8() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    let asking = alice.ctl_with().args(&["chat", "bob", "--request"]).spawn();
    bob.wait_for_request("alice");
    assert_eq!(bob.ctl(&["reject", "alice"]).ok()["state"], "rejected");
    assert_answer(&asking.wait(), "rejected", Code::Rejected);
    assert_eq!(chat_state(&alice, "bob"), None);
    assert_eq!(bob.ctl(&["requests"]).ok()["requests"], Value::Array(vec![]));
    bob.ctl(&["accept", "alice"]).failed(Code::NotFound);
}

#[test]
fn a_third_caller_is_busy_while_the_chat_runs_and_not_after() {
    let (_registry, [alice, bob, carol]) = online(["alice", "bob", "carol"]);
    alice.chat_with(&bob);
    for _ in 0..2 {
        assert_answer(&carol.ctl(&["chat", "bob", "--request"]), "busy", Code::Busy);
    }
    assert_eq!(chat_state(&bob, "alice").as_deref(), Some("active"), "bob's chat goes on");
    alice.ctl(&["send", "bob", "still here"]).ok();
    bob.ctl(&["end", "alice"]).ok();
    carol.chat_with(&bob);
}

#[test]
fn an_offline_user_exits_7() {
    let (_registry, [alice, bob, mut carol]) = online(["alice", "bob", "carol"]);
    bob.ctl(&["logout"]).ok();
    alice.ctl(&["chat", "bob", "--request"]).failed(Code::PeerOffline);
    carol.kill();
    eventually("carol counts as offline", DEADLINE, || alice.presence_of("carol") == "offline");
    alice.ctl(&["chat", "carol", "--request"]).failed(Code::PeerOffline);
    alice.ctl(&["chat", "nobody", "--request"]).failed(Code::NotFound);
}

#[test]
fn no_answer_exits_10_and_stops_ringing() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    let output = alice.ctl(&["chat", "bob", "--request", "--ring", "1s"]);
    assert_answer(&output, "timed_out", Code::TimedOut);
    eventually("it rings no more at bob", DEADLINE, || {
        bob.ctl(&["requests"]).ok()["requests"] == Value::Array(vec![])
    });
    alice.chat_with(&bob);
}

#[test]
fn crossed_requests_become_one_chat() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    let asking = [(&alice, "bob"), (&bob, "alice")]
        .map(|(who, whom)| who.ctl_with().args(&["chat", whom, "--request"]).spawn());
    for output in asking.map(harness::Running::wait) {
        assert_eq!(output.ok()["state"], "active");
    }
    let chats = [&alice, &bob].map(|p| event_after_start(p, "chat_active")["chat"].clone());
    assert_eq!(chats[0], chats[1], "one chat");
    alice.ctl(&["send", "bob", "both at once"]).ok();
    assert_eq!(bodies(&bob.history(&["alice"])), ["both at once"]);
}

#[test]
fn a_caller_that_gives_up_stops_ringing() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    let mut asking = alice.ctl_with().args(&["chat", "bob", "--request"]).spawn();
    bob.wait_for_request("alice");
    asking.kill();
    eventually("it rings no more at bob", DEADLINE, || {
        bob.ctl(&["requests"]).ok()["requests"] == Value::Array(vec![])
    });
    assert_eq!(chat_state(&alice, "bob"), None);
}

#[test]
fn a_chat_is_interrupted_by_a_crash_and_goes_on_after() {
    let (_registry, [alice, mut bob, carol]) = online(["alice", "bob", "carol"]);
    alice.chat_with(&bob);
    bob.kill();
    eventually("alice sees the interruption", DEADLINE, || {
        chat_state(&alice, "bob").as_deref() == Some("interrupted")
    });
    assert_eq!(event_after_start(&alice, "chat_interrupted")["peer"], "bob");
    let id = alice.ctl(&["send", "bob", "while away", "--wait", "queued"]).ok()["id"].clone();
    bob.restart();
    eventually("the chat is active again", DEADLINE, || {
        chat_state(&alice, "bob").as_deref() == Some("active")
            && chat_state(&bob, "alice").as_deref() == Some("active")
    });
    let delivered = event_after_start(&alice, "delivered");
    assert_eq!(delivered["id"], id);
    assert_eq!(bodies(&bob.history(&["alice"])), ["while away"]);
    assert_answer(&carol.ctl(&["chat", "bob", "--request"]), "busy", Code::Busy);
}

#[test]
fn the_slot_of_an_interrupted_chat_is_free() {
    let (_registry, [alice, mut bob, carol]) = online(["alice", "bob", "carol"]);
    alice.chat_with(&bob);
    bob.kill();
    eventually("alice sees the interruption", DEADLINE, || {
        chat_state(&alice, "bob").as_deref() == Some("interrupted")
    });
    carol.chat_with(&alice);
}

#[test]
fn a_piped_chat_sends_its_lines() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    let chatting = alice.ctl_with().args(&["chat", "bob"]).stdin("one\ntwo\n\nthree\n").spawn();
    bob.wait_for_request("alice");
    bob.ctl(&["accept", "alice"]).ok();
    let output = chatting.wait();
    assert_eq!(output.code, Some(0), "{output:#?}");
    assert_eq!(bodies(&bob.history(&["alice"])), ["one", "two", "three"]);
}
