//! What no honest member sends: altered, foreign, out of order, without end, or in another's name.

use peerd_proto::wire::{
    Content, EntryError, Exception, ExceptionKind, FRAME_ENTRIES_MAX, HAVE_POSITIONS_MAX,
    void_signature,
};
use proptest::prelude::*;

use super::{super::Breach, *};

const MALLORY: usize = 1;
const STRANGER: usize = 7;

/// One peer in a room with Mallory (linked, played by hand) and another member.
fn met() -> Bench {
    let mut bench = Bench::room(1, 2);
    bench.peers[0].meet(BY_HAND, key(MALLORY).public());
    bench.peers[0].sent.clear();
    bench
}

fn position(author: usize, of: u128, seq: u64) -> Position {
    Position { author: key(author).public(), stream: stream(of), seq, hash: Digest([5; 32]) }
}

proptest! {
    #[test]
    fn no_bit_of_an_entry_can_be_altered(at in 0_usize..100_000, text in "[ -~]{1,40}") {
        let bench = Bench::room(1, 1);
        let honest = bench.entry(MALLORY, (1, 1), Digest::default(), "a").entry().clone();
        let body = Body { salt: [9; 16], text };
        let mut header = honest.clone().verify().expect("honest").header().clone();
        header.body = body.hash();
        let honest = VerifiedEntry::sign(header, body, &key(MALLORY)).entry().clone();
        let mut bytes = postcard::to_stdvec(&honest).expect("plain data");
        let bit = at % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // What still reads as an entry is either refused or the same header and text.
        if let Ok((altered, rest)) = postcard::take_from_bytes::<Entry>(&bytes)
            && let Ok(verified) = altered.verify()
        {
            prop_assert!(verified.body().is_none() || rest.is_empty());
            prop_assert_eq!(&verified.entry().header, &honest.header);
            prop_assert_eq!(&verified.entry().signature, &honest.signature);
            prop_assert!(verified.body().is_none() || verified.body() == honest.body());
        }
    }
}

#[test]
fn nobody_but_its_author_can_make_an_entry_void() {
    let bench = met();
    let chain = bench.chain(MALLORY, 1, &["one", "two"]);
    let sign = |entry: &VerifiedEntry, by: usize| {
        let Header { conversation, stream, seq, id, .. } = entry.header();
        void_signature(conversation, stream, *seq, id, &key(by))
    };
    let void = chain[0].void(sign(&chain[0], MALLORY)).entry().clone();
    assert!(void.clone().verify().expect("by its author").is_void());
    let (of_another, by_another) = (sign(&chain[1], MALLORY), sign(&chain[0], STRANGER));
    for signature in [of_another, by_another, chain[0].entry().signature] {
        let forged = Entry { content: Content::Void(signature), ..void.clone() };
        assert!(matches!(forged.verify(), Err(EntryError::Signature(_))));
    }
}

#[test]
fn entries_of_strangers_and_for_other_conversations_are_ignored() {
    let mut bench = met();
    let stranger = bench.chain(STRANGER, 1, &["from outside"]);
    let context = Context::Room { epoch: 1 };
    let conversation = ConversationId(Digest([8; 32]));
    let zero = Digest::default();
    let foreign = bench.entry_in(conversation, context, MALLORY, (2, 1), zero, "elsewhere");
    let before = bench.peers[0].disk.events().len();
    bench.peers[0].take(BY_HAND, stranger);
    bench.peers[0].take(BY_HAND, [foreign]);
    let unlinked = bench.chain(MALLORY, 3, &["on no link"]);
    bench.peers[0].take(LinkId(55), unlinked);
    assert_eq!(bench.peers[0].disk.events().len(), before);
    assert_eq!(bench.peers[0].replica.streams.iter().count(), 0);
}

#[test]
fn gaps_wrong_links_and_repetitions_are_not_taken() {
    let mut bench = met();
    let chain = bench.chain(MALLORY, 1, &["one", "two", "three"]);
    bench.peers[0].take(BY_HAND, [chain[1].clone()]);
    assert_eq!(bench.peers[0].texts(), [""; 0], "no gap");
    bench.peers[0].take(BY_HAND, [chain[0].clone(), chain[0].clone(), chain[2].clone()]);
    assert_eq!(bench.peers[0].texts(), ["one"]);
    let wrong = bench.entry(MALLORY, (1, 2), Digest([1; 32]), "hanging");
    bench.peers[0].take(BY_HAND, [wrong]);
    assert_eq!(bench.peers[0].texts(), ["one"], "it names another one before it");
    bench.peers[0].take(BY_HAND, chain);
    assert_eq!(bench.peers[0].texts(), ["one", "two", "three"]);
}

#[test]
fn one_id_is_shown_once_whatever_the_stream() {
    let mut bench = met();
    let again = [bench.chain(MALLORY, 1, &["one"]), bench.chain(MALLORY, 2, &["one"])];
    bench.peers[0].take(BY_HAND, again.concat());
    assert_eq!(bench.peers[0].texts(), ["one"]);
}

#[test]
fn an_origin_that_is_not_held_or_names_itself_is_not_taken() {
    let mut bench = met();
    for (of, origin) in [(1, stream(1)), (2, stream(9))] {
        let honest = bench.entry(MALLORY, (of, 1), Digest::default(), "one");
        let mut header = honest.header().clone();
        header.origin =
            Some(peerd_proto::wire::Origin { stream: origin, seq: 1, hash: honest.hash() });
        let body = honest.body().expect("a body").clone();
        bench.peers[0].take(BY_HAND, [VerifiedEntry::sign(header, body, &key(MALLORY))]);
    }
    assert_eq!(bench.peers[0].texts(), [""; 0]);
}

#[test]
fn frames_above_the_limits_close_the_link() {
    let mut bench = met();
    let peer = &mut bench.peers[0];
    let have = peer.have(vec![position(MALLORY, 1, 1); HAVE_POSITIONS_MAX + 1]);
    assert_eq!(peer.call(|r, cx| r.on_have(cx, BY_HAND, &have)), Err(Breach::TooMany));
    let one = bench.entry(MALLORY, (1, 1), Digest::default(), "one");
    let many = vec![one; FRAME_ENTRIES_MAX + 1];
    let peer = &mut bench.peers[0];
    let result = peer.call(|r, cx| r.on_entries(cx, BY_HAND, many));
    assert_eq!(result, Err(Breach::TooMany));
    let mut result = Ok(());
    for frame in 0..10_u128 {
        let of = |n| position(MALLORY, frame * HAVE_POSITIONS_MAX as u128 + n, 1);
        let mut have = peer.have((0..HAVE_POSITIONS_MAX as u128).map(of).collect());
        have.full = false;
        result = result.and(peer.call(|r, cx| r.on_have(cx, BY_HAND, &have)));
    }
    assert_eq!(result, Err(Breach::TooManyStreams));
}

#[test]
fn vectors_that_name_streams_of_ours_that_are_not_fill_no_memory() {
    let mut bench = met();
    let peer = &mut bench.peers[0];
    for frame in 0..20_u128 {
        let have = peer.have((0..100).map(|n| position(0, frame * 100 + n, 9)).collect());
        peer.call(|r, cx| r.on_have(cx, BY_HAND, &have)).expect("within the limits");
    }
    assert_eq!(peer.replica.outgoing.acked.len(), 0);
    assert_eq!(peer.disk.snapshot().acked.len(), 0);
}

#[test]
fn claims_above_what_we_wrote_acknowledge_no_more_than_that() {
    let mut bench = met();
    let id = bench.peers[0].say("one");
    let ours = bench.peers[0].replica.current.expect("a stream").0.as_u128();
    let have = bench.peers[0].have(vec![position(0, ours, u64::MAX)]);
    bench.peers[0].call(|r, cx| r.on_have(cx, BY_HAND, &have)).expect("within the limits");
    let second = bench.peers[0].say("two");
    for id in [id, second] {
        let status = bench.peers[0].replica.status(&bench.peers[0].house, &id).expect("followed");
        assert_eq!(status.state, MessageState::Queued, "the other member confirmed nothing");
    }
    let acked = bench.peers[0].disk.snapshot().acked;
    assert_eq!(acked.iter().map(|acked| acked.seq).collect::<Vec<_>>(), [1]);
}

#[test]
fn exceptions_about_what_others_wrote_or_nobody_wrote_are_not_kept() {
    let mut bench = met();
    bench.peers[0].say("one");
    let ours = bench.peers[0].replica.current.expect("a stream");
    let exception = |author: usize, stream, seq| Exception {
        author: key(author).public(),
        stream,
        seq,
        kind: ExceptionKind::Refused,
    };
    let mut have = bench.peers[0].have(Vec::new());
    have.full = false;
    have.exceptions = vec![exception(2, stream(1), 1), exception(MALLORY, ours, 1)];
    have.exceptions.extend((2..500).map(|seq| exception(0, ours, seq)));
    bench.peers[0].call(|r, cx| r.on_have(cx, BY_HAND, &have)).expect("within the limits");
    assert_eq!(bench.peers[0].disk.snapshot().exceptions.len(), 0);
    assert_eq!(bench.peers[0].replica.outgoing.exceptions.len(), 0);
}

#[test]
fn only_its_author_can_withhold_a_body_from_who_may_read_it() {
    let mut bench = met();
    let another = bench.chain(2, 1, &["of a third"]);
    bench.peers[0].take(BY_HAND, another.iter().map(VerifiedEntry::withheld));
    assert_eq!(bench.peers[0].replica.streams.iter().count(), 0, "not by another one");
    bench.peers[0].take(BY_HAND, another);
    assert_eq!(bench.peers[0].texts(), ["of a third"]);
    let own = bench.chain(MALLORY, 1, &["taken back", "two"]);
    bench.peers[0].take(BY_HAND, [own[0].withheld(), own[1].clone()]);
    assert_eq!(bench.peers[0].texts(), ["of a third", "two"]);
    let exceptions = bench.peers[0].disk.snapshot().exceptions;
    assert_eq!(exceptions.len(), 1, "its author is told that it is void here");
    // Its body comes too late: what was void stays so.
    bench.peers[0].take(BY_HAND, own);
    assert_eq!(bench.peers[0].texts(), ["of a third", "two"]);
}

#[test]
fn a_lamport_time_from_nowhere_does_not_stop_the_clock() {
    let mut bench = met();
    let honest = bench.entry(MALLORY, (1, 1), Digest::default(), "one");
    let mut header = honest.header().clone();
    header.lamport = u64::MAX;
    let body = honest.body().expect("a body").clone();
    bench.peers[0].take(BY_HAND, [VerifiedEntry::sign(header, body, &key(MALLORY))]);
    for restart in [false, true] {
        if restart {
            bench.peers[0].restart();
        }
        let lamport = |bench: &Bench| bench.peers[0].replica.lamport;
        bench.peers[0].say(if restart { "three" } else { "one" });
        let before = lamport(&bench);
        bench.peers[0].say(if restart { "four" } else { "two" });
        assert!(lamport(&bench) > before, "later entries are told from earlier ones");
        assert!(lamport(&bench) < u64::try_from(i64::MAX).expect("positive"), "the store's order");
    }
}

#[test]
fn an_entry_in_our_name_does_not_continue_our_stream() {
    let mut bench = met();
    bench.peers[0].say("one");
    let ours = bench.peers[0].replica.current.expect("a stream").0.as_u128();
    let (_, head) = bench.peers[0].replica.streams.iter().next().expect("our stream");
    let copied = bench.entry(0, (ours, 2), head.hash, "of a copy");
    bench.peers[0].take(BY_HAND, [copied]);
    assert_eq!(bench.peers[0].replica.streams.iter().next().expect("ours").1.held, 1);
}
