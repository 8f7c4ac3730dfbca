//! Links that lose, delay, duplicate, reorder, go one way, move or end, in namespaces of their own.
//!
//! Nothing here may send to a host that nobody configured: each network looks for such packets when it ends.

mod away;
mod lossy;
mod moved;
mod partitions;
mod slow;

use std::time::{Duration, Instant};

use harness::{CtlOutput, DEADLINE, Peer, User, eventually};
use registryd_proto::Code;

/// How much longer than promised a busy machine of two cores may take.
const SLOW: u32 = 3;

/// The bodies of a history, in order.
fn bodies(history: &[(String, String)]) -> Vec<&str> {
    history.iter().map(|(_, body)| body.as_str()).collect()
}

/// Hands a message to `from`'s peerd and does not wait for more; its id.
#[track_caller]
fn queue(from: &Peer, to: &str, body: &str) -> String {
    let sent = from.ctl(&["send", to, body, "--wait", "queued"]).ok();
    sent["id"].as_str().expect("an id").to_owned()
}

/// Sends, and waits for the delivery for a moment; exit code 10 if it does not come.
fn send_briefly(from: &Peer, to: &str, body: &str) -> CtlOutput {
    from.ctl(&["send", to, body, "--timeout", "3s"])
}

/// What P6 promises: two HELLO intervals and ten seconds after all is healed nothing waits.
#[track_caller]
fn drained(users: &[&User]) {
    let interval = users[0].status()["hello_interval_ms"].as_u64().expect("a number");
    let promised = Duration::from_millis(2 * interval) + Duration::from_secs(10);
    let start = Instant::now();
    for user in users {
        let what = format!("nothing waits at {}", user.name());
        eventually(&what, promised * SLOW, || user.outbox().is_empty());
    }
    assert!(start.elapsed() < promised * SLOW, "all together took {:?}", start.elapsed());
}

/// How often `author` was told that a message is delivered.
fn told_delivered(author: &Peer, id: &str) -> usize {
    let told = author.ctl_with().args(&["listen", "--after", "0", "--type", "delivered"]);
    let told = told.args(&["--idle", "300ms"]).run().ok_lines();
    told.iter().filter(|event| event["id"] == id).count()
}

/// `owner` makes the room `den`, the others join; returns when every pair is linked.
#[track_caller]
fn den(owner: &Peer, others: &[&Peer]) {
    owner.ctl(&["create-room", "den", "--access", "open"]).ok();
    for peer in others {
        peer.ctl(&["join-room", "den"]).ok();
    }
    let all: Vec<&Peer> = [&[owner], others].concat();
    for peer in &all {
        eventually(&format!("{} is linked to all", peer.name()), 2 * DEADLINE, || {
            let links = links(peer);
            links.len() == all.len() && links.iter().all(|link| link == "connected")
        });
    }
}

/// The links of the members of `den`, as `peer` sees them.
fn links(peer: &Peer) -> Vec<String> {
    let answer = peer.ctl(&["members", "den"]).ok();
    let members = answer["members"].as_array().expect("a list").iter();
    members.map(|m| m["link"].as_str().expect("a word").to_owned()).collect()
}

/// Says it in `den` and does not wait for the others.
#[track_caller]
fn say(peer: &Peer, body: &str) {
    peer.ctl(&["send", "--room", "den", body, "--wait", "queued"]).ok();
}

/// The reasons that `outbox` gives.
fn reasons(peer: &Peer) -> Vec<Option<String>> {
    let answer = peer.ctl(&["outbox"]).ok();
    let messages = answer["messages"].as_array().expect("a list").iter();
    messages.map(|m| m["reason"].as_str().map(str::to_owned)).collect()
}

/// Asserts that a message waits: exit 10, no word of a delivery.
#[track_caller]
fn waits(author: &Peer, output: &CtlOutput) -> String {
    let error = output.failed(Code::TimedOut);
    let id = error["id"].as_str().expect("the id is told").to_owned();
    assert!(author.outbox().contains(&id));
    assert_eq!(told_delivered(author, &id), 0, "nobody says delivered");
    id
}
