//! Bad links: loss, duplicates, reordering, delay, all at once.

use std::time::Duration;

use harness::{Peer, Quality, Running, Town, User, converge, eventually};

use super::den;

/// Nothing is promised of time here, but that it ends.
const IN_THE_END: Duration = Duration::from_secs(240);

/// Lines of one author.
fn lines(author: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{author} {n}")).collect()
}

fn start(user: &Peer, target: &[&str], count: usize) -> Running {
    let call = user.ctl_with().args(&["send"]).args(target).args(&["-", "--lines"]);
    let call = call.args(&["--wait", "queued"]);
    call.stdin(lines(user.name(), count).join("\n")).spawn()
}

/// What `user` shows of each author, as often and in the order as shown.
fn shown(user: &Peer, author: &str) -> Vec<String> {
    let call = user.ctl_with().args(&["listen", "--after", "0", "--type", "message"]);
    let events = call.args(&["--from", author, "--idle", "500ms"]).run().ok_lines();
    events.iter().map(|e| e["body"].as_str().expect("a text").to_owned()).collect()
}

fn chat_over(quality: Quality, seed: u64) {
    let Some((town, [alice, bob])) = Town::of(seed, ["alice", "bob"]) else { return };
    town.net.set_all(quality);
    let sending = [start(&alice, &["bob"], 60), start(&bob, &["alice"], 60)];
    for output in sending.map(Running::wait) {
        assert_eq!(output.ok_lines().len(), 60);
    }
    for user in [&alice, &bob] {
        let what = format!("all of {} is delivered", user.name());
        eventually(&what, IN_THE_END, || user.outbox().is_empty());
    }
    assert_eq!(shown(&alice, "bob"), lines("bob", 60));
    assert_eq!(shown(&bob, "alice"), lines("alice", 60));
}

fn room_over(quality: Quality, seed: u64) {
    let Some((town, users)) = Town::of(seed, ["ann", "ben", "cem"]) else { return };
    let [ann, ben, cem] = &users;
    den(ann, &[ben, cem]);
    town.net.set_all(quality);
    let sending = [ann, ben, cem].map(|user: &User| start(user, &["--room", "den"], 20));
    for output in sending.map(Running::wait) {
        assert_eq!(output.ok_lines().len(), 20);
    }
    for user in &users {
        let what = format!("all of {} is delivered", user.name());
        eventually(&what, IN_THE_END, || user.outbox().is_empty());
    }
    converge("den", &[ann, ben, cem], 60);
    for user in &users {
        for author in users.iter().filter(|author| author.name() != user.name()) {
            assert_eq!(shown(user, author.name()), lines(author.name(), 20));
        }
    }
}

/// Row 13: one packet in a hundred is lost.
#[test]
fn chats_over_links_that_lose_1_percent_lose_and_double_nothing() {
    chat_over(Quality::bad(0.01), 131);
}

/// Row 13: one packet in ten is lost.
#[test]
fn chats_over_links_that_lose_10_percent_lose_and_double_nothing() {
    chat_over(Quality::bad(0.1), 132);
}

/// Row 13: three packets in ten are lost.
#[test]
fn chats_over_links_that_lose_30_percent_lose_and_double_nothing() {
    chat_over(Quality::bad(0.3), 133);
}

/// Row 13: one packet in ten is lost.
#[test]
fn rooms_over_links_that_lose_10_percent_lose_and_double_nothing() {
    room_over(Quality::bad(0.1), 134);
}

/// Row 13: three packets in ten are lost.
#[test]
fn rooms_over_links_that_lose_30_percent_lose_and_double_nothing() {
    room_over(Quality::bad(0.3), 135);
}
