//! How messages end, what a restored backup brings back, and how much goes to who never answers.

use peerd_proto::wire::{Exception, ExceptionKind};

use super::{
    super::{Known, WINDOW_BYTES_MAX, WINDOW_ENTRIES_MAX, recent::entry_bytes, text_hash},
    *,
};

fn pair() -> Bench {
    let mut bench = Bench::direct();
    bench.link(0, 1);
    bench.settle();
    bench
}

fn bodies_sent(peer: &Peer) -> (usize, usize) {
    let mut sum = (0, 0);
    for (_, frame) in &peer.sent {
        let Frame::Entries { entries, .. } = frame else { continue };
        for entry in entries {
            let entry = entry.clone().verify().expect("our own");
            sum = (sum.0 + 1, sum.1 + entry_bytes(&entry));
        }
    }
    sum
}

#[test]
fn what_the_other_side_refuses_fails_as_blocked_and_is_not_shown() {
    let mut bench = pair();
    bench.peers[1].house.policy = Verdict::Refuse;
    let id = bench.peers[0].say("unwanted");
    bench.settle();
    assert_eq!(bench.peers[0].state(&id), (MessageState::Failed, Some(Code::Blocked)));
    assert_eq!(bench.peers[1].texts(), [""; 0]);
    let of = bench.peers[1].disk.streams().next().expect("the header is held").1;
    assert!(of.values().all(|stored| stored.entry.body().is_none()), "its body is not kept");
    bench.peers[1].house.policy = Verdict::Take;
    let id = bench.peers[0].say("wanted");
    bench.settle();
    assert_eq!(bench.peers[0].state(&id), (MessageState::Delivered, None));
    assert_eq!(bench.peers[1].texts(), ["text of wanted"]);
}

#[test]
fn a_message_given_up_before_it_was_offered_ends_at_once_and_is_void_for_good() {
    let mut bench = Bench::direct();
    let expires_ms = bench.peers[0].now.wall_ms + 500;
    let expired = bench.peers[0].say_until("brief", Some(expires_ms));
    let cancelled = bench.peers[0].say("cancelled");
    let (state, reason) = (MessageState::Failed, Some(Code::Conflict));
    bench.peers[0].call(|r, cx| r.give_up(cx, &cancelled, state, reason));
    bench.settle();
    let kept = bench.peers[0].say("kept");
    assert_eq!(bench.peers[0].state(&expired), (MessageState::Expired, Some(Code::TimedOut)));
    assert_eq!(bench.peers[0].state(&cancelled), (MessageState::Failed, Some(Code::Conflict)));
    bench.link(0, 1);
    bench.settle();
    assert_eq!(bench.peers[1].texts(), ["text of kept"]);
    assert_eq!(bench.peers[0].state(&kept).0, MessageState::Delivered);
    assert_eq!(bench.peers[0].state(&expired).0, MessageState::Expired);
}

#[test]
fn what_is_behind_a_void_message_reaches_all_though_its_author_is_gone() {
    let mut bench = Bench::room(3, 0);
    let cancelled = bench.peers[0].say("cancelled");
    let (state, reason) = (MessageState::Failed, Some(Code::Conflict));
    bench.peers[0].call(|r, cx| r.give_up(cx, &cancelled, state, reason));
    bench.peers[0].say("kept");
    bench.link(0, 1);
    bench.settle();
    bench.unlink(0, 1);
    // What it passes on it reads from its disk.
    bench.restart(1);
    bench.link(1, 2);
    bench.settle();
    assert_eq!(bench.peers[2].texts(), ["text of kept"]);
    // Told to its author as what it is.
    bench.link(0, 2);
    bench.settle();
    assert_eq!(bench.peers[0].state(&cancelled), (MessageState::Failed, Some(Code::Conflict)));
    let (author, held) = (bench.peers[0].key.public(), &bench.peers[2].replica.exceptions);
    let void =
        held.iter().filter(|((by, ..), kind)| *by == author && **kind == ExceptionKind::Void);
    assert_eq!(void.count(), 1);
}

#[test]
fn what_a_member_has_is_not_void_because_a_restored_backup_never_offered_it() {
    let mut bench = Bench::room(2, 1);
    let id = bench.peers[0].say("taken");
    let backup = bench.peers[0].disk.clone();
    bench.link(0, 1);
    bench.settle();
    assert_eq!(bench.peers[1].texts(), ["text of taken"]);
    bench.restart(0);
    bench.peers[0].disk = backup;
    bench.peers[0].restart();
    bench.link(0, 1);
    bench.settle();
    let (state, reason) = (MessageState::Failed, Some(Code::Conflict));
    let now = bench.peers[0].call(|r, cx| r.give_up(cx, &id, state, reason));
    assert_eq!(now, Some(MessageState::Queued), "the third decides");
}

#[test]
fn who_joined_later_is_not_told_that_a_message_is_void_whose_recipients_may_have_it() {
    let mut bench = Bench::room(3, 0);
    bench.peers[0].house.newcomers = vec![bench.peers[1].key.public()];
    bench.link(0, 2);
    bench.settle();
    let id = bench.peers[0].say("cancelled");
    // Its author never hears whether the third took it.
    bench.next_frame().expect("it is pushed");
    bench.unlink(0, 2);
    let (state, reason) = (MessageState::Failed, Some(Code::Conflict));
    bench.peers[0].call(|r, cx| r.give_up(cx, &id, state, reason));
    bench.link(0, 1);
    bench.settle();
    let held = bench.peers[1].disk.streams().flat_map(|(_, entries)| entries.values());
    let held: Vec<_> = held.map(|stored| stored.entry.is_void()).collect();
    assert_eq!(held, [false], "it has the header alone");
}

#[test]
fn delivered_wins_over_giving_up_what_was_offered_and_taken() {
    let mut bench = pair();
    let id = bench.peers[0].say("in-flight");
    let (from, to, frame) = bench.next_frame().expect("it is pushed");
    bench.peers[to].receive(LinkId(from as u64), &frame);
    bench.peers.iter_mut().for_each(|peer| peer.sent.clear());
    bench.unlink(0, 1);
    let (state, reason) = (MessageState::Failed, Some(Code::Conflict));
    let now = bench.peers[0].call(|r, cx| r.give_up(cx, &id, state, reason));
    assert_eq!(now, Some(MessageState::Queued), "its recipient decides");
    bench.restart(0);
    bench.link(0, 1);
    bench.settle();
    assert_eq!(bench.peers[0].state(&id), (MessageState::Delivered, None));
    assert_eq!(bench.peers[1].texts(), ["text of in-flight"]);
}

#[test]
fn what_was_offered_and_lost_on_the_way_is_given_up_when_the_recipient_says_void() {
    let mut bench = pair();
    let expires_ms = bench.peers[0].now.wall_ms + 500;
    let id = bench.peers[0].say_until("lost", Some(expires_ms));
    bench.peers[0].sent.clear();
    bench.unlink(0, 1);
    bench.settle();
    assert_eq!(bench.peers[0].state(&id).0, MessageState::Queued, "nobody knows yet");
    bench.link(0, 1);
    bench.settle();
    assert_eq!(bench.peers[0].state(&id), (MessageState::Expired, Some(Code::TimedOut)));
    assert_eq!(bench.peers[1].texts(), [""; 0]);
}

#[test]
fn an_exception_counts_only_with_the_vector_that_covers_it() {
    let mut bench = Bench::direct();
    bench.peers[0].meet(BY_HAND, key(1).public());
    let id = bench.peers[0].say("one");
    let head = bench.peers[0].replica.streams.iter().next().expect("ours").1.position();
    let exception = Exception {
        author: head.author,
        stream: head.stream,
        seq: 1,
        kind: ExceptionKind::Refused,
    };
    let mut have = bench.peers[0].have(Vec::new());
    (have.full, have.exceptions) = (false, vec![exception]);
    bench.peers[0].call(|r, cx| r.on_have(cx, BY_HAND, &have)).expect("an honest vector");
    assert_eq!(bench.peers[0].state(&id).0, MessageState::Queued);
    bench.restart(0);
    bench.peers[0].meet(BY_HAND, key(1).public());
    (have.positions, have.exceptions) = (vec![head], Vec::new());
    bench.peers[0].call(|r, cx| r.on_have(cx, BY_HAND, &have)).expect("an honest vector");
    assert_eq!(bench.peers[0].state(&id), (MessageState::Failed, Some(Code::Blocked)));
}

#[test]
fn a_restored_backup_gets_its_own_entries_back_and_reuses_no_number() {
    let mut bench = pair();
    bench.peers[0].say("one");
    bench.settle();
    let backup = bench.peers[0].disk.clone();
    bench.peers[0].say("two");
    bench.settle();
    bench.unlink(0, 1);
    bench.peers[0].disk = backup;
    bench.restart(0);
    bench.peers[0].say("three");
    bench.link(0, 1);
    bench.settle();
    assert_eq!(bench.peers[1].texts(), ["text of one", "text of two", "text of three"]);
    let held = |peer: &Peer| peer.disk.streams().map(|(_, entries)| entries.len()).sum::<usize>();
    assert_eq!((held(&bench.peers[0]), held(&bench.peers[1])), (3, 3));
    assert_eq!(bench.peers[0].forks_told() + bench.peers[1].forks_told(), 0);
}

#[test]
fn what_a_restored_backup_lost_is_a_message_of_ours_again_and_its_id_stays_taken() {
    let mut bench = Bench::room(3, 0);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        bench.link(a, b);
    }
    bench.peers[0].say("one");
    bench.settle();
    let backup = bench.peers[0].disk.clone();
    bench.unlink(0, 2);
    bench.unlink(1, 2);
    let lost = bench.peers[0].say("two");
    bench.settle();
    bench.unlink(0, 1);
    bench.peers[0].disk = backup;
    bench.restart(0);
    bench.link(0, 1);
    bench.settle();
    let me = &bench.peers[0];
    assert_eq!(me.state(&lost), (MessageState::Queued, None), "one of two has it");
    let status = me.replica.status(&me.house, &lost).expect("followed");
    assert_eq!((status.delivered, status.of), (1, 2));
    assert!(matches!(me.replica.message_by_id(&lost, &text_hash("other")), Known::Conflict));
    bench.link(0, 2);
    bench.settle();
    assert_eq!(bench.peers[0].state(&lost), (MessageState::Delivered, None));
    assert_eq!(bench.peers[2].texts(), ["text of one", "text of two"]);
    bench.restart(0);
    assert_eq!(bench.peers[0].state(&lost), (MessageState::Delivered, None));
}

#[test]
fn who_covers_what_came_back_without_its_body_does_not_count_as_having_it() {
    let mut bench = Bench::room(2, 1);
    bench.link(0, 1);
    bench.settle();
    let backup = bench.peers[0].disk.clone();
    let lost = bench.peers[0].say("one");
    bench.settle();
    let place = bench.peers[0].replica.outgoing(&lost).map(|row| (row.stream, row.seq));
    let (stream, seq) = place.expect("followed");
    bench.peers[0].disk = backup;
    bench.restart(0);
    let me = &mut bench.peers[0];
    let (author, hash) = (me.key.public(), Digest::default());
    me.meet(BY_HAND, key(2).public());
    let mut have = me.have(vec![Position { author, stream, seq, hash }]);
    have.exceptions = vec![Exception { author, stream, seq, kind: ExceptionKind::Void }];
    me.call(|r, cx| r.on_have(cx, BY_HAND, &have)).expect("an honest vector");
    bench.link(0, 1);
    bench.settle();
    assert_eq!(bench.peers[0].state(&lost), (MessageState::Failed, Some(Code::Conflict)));
}

#[test]
fn an_id_of_any_form_stays_taken_when_its_message_came_back() {
    let mut bench = pair();
    let backup = bench.peers[0].disk.clone();
    let id = bench.peers[0].say("018bcfe5-687b-7fff-bfff-ffffffffffff");
    bench.settle();
    bench.unlink(0, 1);
    bench.peers[0].disk = backup;
    bench.restart(0);
    bench.link(0, 1);
    bench.settle();
    let known = |text: &str| bench.peers[0].replica.message_by_id(&id, &text_hash(text));
    assert!(matches!(known("other"), Known::Conflict));
    assert!(matches!(known(&format!("text of {id}")), Known::Same(_)));
}

#[test]
fn an_id_used_anew_before_its_lost_message_came_back_is_not_taken_from_the_new_one() {
    let mut bench = pair();
    let backup = bench.peers[0].disk.clone();
    bench.peers[0].say("one");
    bench.settle();
    bench.unlink(0, 1);
    bench.peers[0].disk = backup;
    bench.restart(0);
    let id = bench.peers[0].say("one");
    let place = |peer: &Peer| peer.replica.outgoing(&id).map(|row| (row.stream, row.seq));
    let new = place(&bench.peers[0]);
    bench.link(0, 1);
    bench.settle();
    assert_eq!(place(&bench.peers[0]), new);
    assert_eq!(bench.peers[0].state(&id), (MessageState::Delivered, None));
    assert_eq!(bench.peers[0].disk.outgoing().count(), 1);
    assert_eq!(bench.peers[1].texts(), ["text of one"]);
}

#[test]
fn who_never_acknowledges_gets_a_window_and_no_more() {
    let mut bench = Bench::direct();
    bench.peers[0].meet(BY_HAND, key(1).public());
    for n in 0..WINDOW_ENTRIES_MAX * 2 {
        bench.peers[0].say(&format!("m{n}"));
    }
    for _ in 0..50 {
        bench.peers[0].now.mono_ms += 1_000;
        bench.peers[0].call(|r, cx| r.tick(cx));
    }
    assert_eq!(bench.peers[0].sent.iter().filter(|(link, _)| *link == BY_HAND).count(), {
        bench.peers[0].sent.len()
    });
    assert_eq!(bodies_sent(&bench.peers[0]).0, WINDOW_ENTRIES_MAX);
}

#[test]
fn a_window_of_large_bodies_is_bounded_in_bytes() {
    let mut bench = Bench::direct();
    for n in 0..100 {
        let text = "x".repeat(peerd_proto::wire::BODY_BYTES_MAX);
        let id = format!("m{n}").parse().expect("an id");
        let context = bench.peers[0].context();
        let draft = Draft { id, caller_id: false, text, context, expires_ms: None };
        bench.peers[0].call(|r, cx| r.append(cx, draft)).expect("room for more");
    }
    bench.peers[0].meet(BY_HAND, key(1).public());
    let (entries, bytes) = bodies_sent(&bench.peers[0]);
    assert!(entries > 20 && bytes <= WINDOW_BYTES_MAX, "{entries} entries, {bytes} bytes");
    bench.peers[0].call(|r, _| r.link_down(BY_HAND));
    bench.peers[0].sent.clear();
    bench.link(0, 1);
    bench.settle();
    assert_eq!(bench.peers[1].texts().len(), 100, "who acknowledges gets all");
}
