//! Peers that are not what they say, or say what no peer may: each is refused, and bob does not notice.

use std::time::Duration;

use harness::{DEADLINE, Impostor, Peer, Registry, never};
use peerd_proto::wire::{
    Body, ChatFrame, ChatId, Content, Context, ConversationId, Entry, FRAME_BYTES_MAX, Frame,
    Header, Kind, StreamId, VerifiedEntry,
};
use registryd_proto::{Digest, Keypair, PublicKey, Username};
use serde_json::Value;

use crate::online;

/// Long enough for bob to do the wrong thing.
const WATCH: Duration = Duration::from_secs(2);

fn mallory_and(names: [&str; 2]) -> (Registry, [Peer; 2], Impostor) {
    let (registry, peers) = online(names);
    let mallory = Impostor::registered("mallory", &registry);
    (registry, peers, mallory)
}

/// A signed entry of the conversation of `author` and `other`.
fn entry(
    registry: &PublicKey,
    author: &Keypair,
    signer: &Keypair,
    other: &PublicKey,
    text: &str,
) -> (ConversationId, Entry) {
    let conversation = ConversationId::direct(registry, &author.public(), other);
    let body = Body { salt: [3; 16], text: text.to_owned() };
    let header = Header {
        conversation,
        author: signer.public(),
        stream: StreamId(uuid::Uuid::from_bytes([9; 16])),
        seq: 1,
        previous: Digest::default(),
        origin: None,
        id: "m-1".parse().expect("an id"),
        lamport: 1,
        wall_ms: 1_795_341_600_000,
        context: Context::Direct { chat: None },
        kind: Kind::Text,
        body: body.hash(),
    };
    (conversation, VerifiedEntry::sign(header, body, signer).entry().clone())
}

fn messages(peer: &Peer) -> Vec<Value> {
    let args = ["listen", "--after", "0", "--type", "message", "--idle", "100ms"];
    peer.ctl(&args).ok_lines()
}

#[test]
fn garbage_and_giants_behind_a_good_handshake_close_the_link() {
    let (_registry, [mut bob, _carol], mut mallory) = mallory_and(["bob", "carol"]);
    let (_, key, at) = mallory.look_up("bob");
    let before = bob.daemon().resident_bytes();
    let hello = mallory.own_hello().encode().expect("small");
    let giant = u32::try_from(FRAME_BYTES_MAX + 1).expect("small").to_be_bytes();
    let cases: [&[u8]; 5] =
        [&[0xff; 64], &giant, &[0, 0, 0, 3, 0xff, 0xff, 0xff], &[0, 0, 0, 0], &giant];
    for (n, case) in cases.iter().enumerate() {
        let mut link = mallory.dial(&key, at);
        if n > 3 {
            link.write(&hello);
        }
        link.write(case);
        assert!(link.is_closed_within(DEADLINE), "case {n}");
    }
    let mut twice = mallory.dial(&key, at);
    twice.write(&[&hello[..], &hello].concat());
    assert!(twice.is_closed_within(DEADLINE), "a second hello");
    let mut silent = mallory.dial(&key, at);
    silent.write(&[0, 0]);
    assert!(silent.is_closed_within(DEADLINE), "half a frame and then nothing");
    let grown = bob.daemon().resident_bytes().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes more");
    assert_eq!(bob.ctl(&["status"]).code, Some(0));
}

#[test]
fn nobody_speaks_under_anothers_card() {
    let (_registry, [bob, carol], mut mallory) = mallory_and(["bob", "carol"]);
    bob.allow("carol");
    let (_, key, at) = mallory.look_up("bob");
    let (carols_card, ..) = mallory.look_up("carol");
    let name = |name: &str| name.parse::<Username>().expect("a name");
    for (who, card) in [
        (name("carol"), carols_card.clone()),
        (name("mallory"), carols_card),
        (name("carol"), mallory.card().clone()),
    ] {
        let mut link = mallory.dial(&key, at);
        link.send(&mallory.hello(&who, &card));
        assert!(link.is_closed_within(DEADLINE), "as {who}");
    }
    drop(carol);
    assert!(messages(&bob).is_empty());
    assert_eq!(bob.ctl(&["requests"]).ok()["requests"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_strangers_accept_or_confirm_makes_nobody_busy() {
    let (_registry, [bob, carol], mut mallory) = mallory_and(["bob", "carol"]);
    let (_, key, at) = mallory.look_up("bob");
    let chat = ChatId(uuid::Uuid::from_bytes([6; 16]));
    let mut link = mallory.dial(&key, at);
    link.send(&mallory.own_hello());
    for frame in [
        ChatFrame::Accept { chat },
        ChatFrame::Confirm { chat },
        ChatFrame::State { chat, phase: peerd_proto::wire::ChatPhase::Active },
    ] {
        link.send(&Frame::Chat(frame));
    }
    never("bob is in a chat", WATCH, || {
        bob.status()["chats"].as_array().is_none_or(|chats| !chats.is_empty())
    });
    carol.chat_with(&bob);
}

#[test]
fn nobody_ends_or_answers_anothers_chat() {
    let (_registry, [bob, carol], mut mallory) = mallory_and(["bob", "carol"]);
    carol.chat_with(&bob);
    let event = bob.listen(&["--after", "0"]).wait_for_type("chat_active");
    let chat = event["chat"].as_str().expect("an id");
    let chat = ChatId(uuid::Uuid::parse_str(chat).expect("an id"));
    let (_, key, at) = mallory.look_up("bob");
    let mut link = mallory.dial(&key, at);
    link.send(&mallory.own_hello());
    for frame in [ChatFrame::End { chat }, ChatFrame::Withdraw { chat }, ChatFrame::Reject { chat }]
    {
        link.send(&Frame::Chat(frame));
    }
    never("the chat ends", WATCH, || bob.status()["chats"][0]["state"] != "active");
    carol.ctl(&["send", "bob", "still with you"]).ok();
}

#[test]
fn a_message_under_anothers_name_is_never_shown() {
    let (registry, [bob, carol], mut mallory) = mallory_and(["bob", "carol"]);
    bob.ctl(&["policy", "--default", "allow"]).ok();
    let (_, key, at) = mallory.look_up("bob");
    let (_, carols_key, _) = mallory.look_up("carol");
    let forger = Keypair::generate().expect("randomness");

    let own = |signer: &Keypair| entry(&registry.key(), mallory.keys(), signer, &key, "forged");
    let (conversation, mut wrong_signature) = own(mallory.keys());
    wrong_signature.signature = own(&forger).1.signature;
    let (_, mut wrong_body) = own(mallory.keys());
    wrong_body.content = Content::Body(Body { salt: [3; 16], text: "altered".to_owned() });
    let (_, foreign_author) = own(&forger);
    let carols = ConversationId::direct(&registry.key(), &carols_key, &key);
    for (conversation, entry) in [
        (conversation, wrong_signature),
        (conversation, wrong_body),
        (conversation, foreign_author),
        (carols, own(mallory.keys()).1),
    ] {
        let mut link = mallory.dial(&key, at);
        link.send(&mallory.own_hello());
        link.send(&Frame::Entries { conversation, entries: vec![entry] });
        link.is_closed_within(WATCH);
    }
    assert_eq!(messages(&bob), Vec::<Value>::new());
    drop(carol);

    // The same with all as it should be arrives: the test above can fail.
    let mut link = mallory.dial(&key, at);
    link.send(&mallory.own_hello());
    let (conversation, mut honest) = own(mallory.keys());
    honest.content = Content::Body(Body { salt: [3; 16], text: "forged".to_owned() });
    link.send(&Frame::Entries { conversation, entries: vec![honest] });
    let shown = bob.listen(&["--after", "0"]).wait_for_body("forged");
    assert_eq!(shown["from"], "mallory", "under the name of the key");
}
