//! Two entries under one number: found, proved to all, frozen for everybody, for ever; and what is none.

use super::*;

/// The hostile author: a member whom no peer plays.
const MALLORY: usize = 3;

/// Three members, the first two with another branch each of Mallory's stream; the third has nothing.
fn forked(left: &[&str], right: &[&str]) -> Bench {
    let mut bench = Bench::room(3, 1);
    let (a, b) = (bench.chain(MALLORY, 1, left), bench.chain(MALLORY, 1, right));
    for (peer, chain) in [(0, a), (1, b)] {
        bench.peers[peer].meet(BY_HAND, key(MALLORY).public());
        bench.peers[peer].take(BY_HAND, chain);
        bench.peers[peer].call(|r, _| r.link_down(BY_HAND));
    }
    bench
}

fn full_mesh(bench: &mut Bench) {
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        bench.link(a, b);
    }
}

fn frozen_at(bench: &Bench, peer: usize) -> Option<u64> {
    let key = (key(MALLORY).public(), stream(1));
    bench.peers[peer].replica.streams.get(&key).and_then(|stream| stream.frozen)
}

fn assert_found(bench: &Bench, at: u64) {
    for peer in 0..3 {
        assert_eq!(frozen_at(bench, peer), Some(at), "peer {peer}");
        assert_eq!(bench.peers[peer].forks_told(), 1, "peer {peer} is told once");
        assert_eq!(bench.peers[peer].replica.forks.len(), 1, "peer {peer} keeps one proof");
    }
}

#[test]
fn unequal_hashes_in_vectors_prove_a_fork_to_all() {
    let mut bench = forked(&["same", "left"], &["same", "right"]);
    full_mesh(&mut bench);
    bench.settle();
    assert_found(&bench, 2);
    assert_eq!(bench.peers[2].texts(), ["same"], "nothing from the fork on is shown");
}

#[test]
fn branches_of_unequal_length_prove_a_fork() {
    let mut bench = forked(&["same", "left 2", "left 3", "left 4"], &["same", "right 2"]);
    full_mesh(&mut bench);
    bench.settle();
    assert_found(&bench, 2);
    assert_eq!(bench.peers[1].texts(), ["same", "right 2"]);
    assert_eq!(bench.peers[2].texts(), ["same"]);
}

#[test]
fn a_fork_is_followed_back_to_where_it_begins() {
    let mut bench =
        forked(&["left 1", "left 2", "left 3", "left 4"], &["right 1", "right 2", "right 3"]);
    full_mesh(&mut bench);
    bench.settle();
    assert_found(&bench, 1);
    assert_eq!(bench.peers[2].texts(), [""; 0], "no branch is taken by who had none");
}

#[test]
fn a_fork_is_followed_back_through_the_store() {
    let left: Vec<String> = (0..150).map(|n| format!("left {n}")).collect();
    let right: Vec<String> = (0..150).map(|n| format!("right {n}")).collect();
    let both = |texts: &[String]| ["same".to_owned()].iter().chain(texts).cloned().collect();
    let (left, right): (Vec<String>, Vec<String>) = (both(&left), both(&right));
    let left: Vec<&str> = left.iter().map(String::as_str).collect();
    let right: Vec<&str> = right.iter().map(String::as_str).collect();
    let mut bench = forked(&left, &right);
    for peer in 0..3 {
        bench.restart(peer);
    }
    full_mesh(&mut bench);
    bench.settle();
    assert_found(&bench, 2);
}

#[test]
fn a_fork_stays_frozen_after_a_restart_and_is_told_to_who_comes_later() {
    let mut bench = forked(&["same", "left"], &["same", "right"]);
    bench.link(0, 1);
    bench.settle();
    for peer in 0..3 {
        bench.restart(peer);
    }
    assert_eq!(frozen_at(&bench, 0), Some(2));
    full_mesh(&mut bench);
    bench.settle();
    assert_found(&bench, 2);
    let head = bench.chain(MALLORY, 1, &["same", "left", "more"]);
    bench.peers[0].meet(BY_HAND, key(MALLORY).public());
    bench.peers[0].take(BY_HAND, head);
    assert_eq!(bench.peers[0].texts(), ["same", "left"], "nothing behind it is taken");
    assert_eq!(bench.peers[0].forks_told(), 1);
}

#[test]
fn who_sends_a_branch_of_a_known_fork_is_given_the_proof() {
    let mut bench = forked(&["same", "left"], &["same", "right"]);
    bench.link(0, 1);
    bench.settle();
    let chain = bench.chain(MALLORY, 1, &["same", "left", "more"]);
    bench.peers[2].meet(BY_HAND, key(MALLORY).public());
    bench.link(0, 2);
    // The proof that comes with the vector is lost: an epoch was not known.
    bench.peers[0].sent.clear();
    bench.peers[2].take(BY_HAND, chain);
    bench.peers[2].call(|r, _| r.announce_full());
    bench.peers[0].call(|r, _| r.announce_full());
    bench.peers[0].sent.retain(|(_, frame)| !matches!(frame, Frame::Fork { .. }));
    bench.settle();
    assert_eq!(frozen_at(&bench, 2), Some(2));
}

#[test]
fn forks_of_strangers_and_of_other_conversations_prove_nothing() {
    let mut bench = Bench::room(1, 1);
    let stranger = 7;
    let of = |author: usize, text: &str| bench.entry(author, (1, 1), Digest::default(), text);
    let foreign = |text: &str| {
        let conversation = ConversationId(Digest([8; 32]));
        let context = Context::Room { epoch: 1 };
        bench.entry_in(conversation, context, 1, (1, 1), Digest::default(), text)
    };
    let pairs = [
        (of(stranger, "left"), of(stranger, "right")),
        (foreign("left"), foreign("right")),
        (of(1, "left"), foreign("right")),
        (of(1, "left"), of(0, "right")),
        (of(1, "left"), of(1, "left")),
        (of(1, "left"), bench.entry(1, (1, 2), Digest([1; 32]), "right")),
        (of(1, "left"), bench.entry(1, (2, 1), Digest::default(), "right")),
    ];
    for (a, b) in pairs {
        bench.peers[0].call(|r, cx| r.on_fork(cx, &a, &b));
    }
    assert_eq!(bench.peers[0].forks_told(), 0);
    assert_eq!(bench.peers[0].replica.streams.iter().count(), 0);
}

#[test]
fn a_branch_written_out_of_its_authors_time_is_a_fork_for_all() {
    let mut bench = Bench::room(2, 1);
    bench.peers.iter_mut().for_each(|peer| peer.house.epoch = 2);
    let author = 2;
    let chain = bench.chain(author, 1, &["same"]);
    let late = bench.entry_in(
        bench.conversation,
        Context::Room { epoch: 9 },
        author,
        (1, 1),
        Digest::default(),
        "other",
    );
    for peer in &mut bench.peers {
        peer.meet(BY_HAND, key(author).public());
        peer.take(BY_HAND, chain.clone());
        peer.call(|r, cx| r.on_fork(cx, &chain[0], &late));
        assert_eq!(peer.forks_told(), 1, "one of the two is enough to hold the author to it");
    }
}

#[test]
fn proofs_about_streams_that_nobody_sent_fill_no_memory() {
    let mut bench = Bench::room(1, 1);
    for n in 0..1_000 {
        let a = bench.entry(1, (n, 1), Digest::default(), "left");
        let b = bench.entry(1, (n, 1), Digest::default(), "right");
        bench.peers[0].call(|r, cx| r.on_fork(cx, &a, &b));
    }
    assert!(bench.peers[0].forks_told() <= 64, "{}", bench.peers[0].forks_told());
    assert!(bench.peers[0].replica.streams.iter().count() <= 64);
}

#[test]
fn our_own_fork_moves_us_to_a_new_stream() {
    let mut bench = Bench::room(2, 0);
    bench.peers[0].say("first");
    let ours = bench.peers[0].replica.current.expect("a stream");
    let other = bench.entry(0, (ours.0.as_u128(), 1), Digest::default(), "written by a copy of us");
    let of = (bench.conversation, key(0).public(), ours);
    let first = bench.peers[0].disk.entry(&of, 1).expect("on disk").entry.clone();
    bench.peers[0].call(|r, cx| r.on_fork(cx, &first, &other));
    let id = bench.peers[0].say("second");
    bench.link(0, 1);
    bench.settle();
    assert_eq!(bench.peers[1].texts(), ["text of second"]);
    assert_eq!(bench.peers[0].state(&id).0, MessageState::Delivered);
}
