//! Every frame of the links, as the hex of its bytes behind the length.

use std::collections::BTreeSet;

use peerd_proto::wire::*;
use registryd_proto::{
    Access, CARD_LIFETIME_MS, Card, Digest, HistoryAccess, KeyBinding, Member, MembershipOp,
    MembershipRecord, Role, RoomId, Signed,
};

use super::{NOW_MS, bob, check_text, keys, on_disk};

fn stream(seed: u8) -> StreamId {
    StreamId(uuid::Uuid::from_bytes([seed; 16]))
}

fn chat() -> ChatId {
    ChatId(uuid::Uuid::from_bytes([5; 16]))
}

fn conversation() -> ConversationId {
    let [registry, a, b] = [1, 2, 3].map(|seed| keys(seed).public());
    ConversationId::direct(&registry, &a, &b)
}

fn room() -> RoomId {
    RoomId(Digest([9; 32]))
}

fn card() -> Signed<Card> {
    let card = Card {
        username: bob(),
        binding: KeyBinding::new(&keys(1).public(), &bob(), &keys(2), &keys(3)),
        serial: 3,
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + CARD_LIFETIME_MS,
    };
    Signed::seal(&card, &keys(1))
}

fn entry(seq: u64, context: Context, origin: Option<Origin>) -> VerifiedEntry {
    let body = Body { salt: [6; 16], text: "hi".to_owned() };
    let header = Header {
        conversation: conversation(),
        author: keys(2).public(),
        stream: stream(4),
        seq,
        previous: if seq == 1 { Digest::default() } else { Digest([7; 32]) },
        origin,
        id: "backup-1".parse().expect("visible"),
        lamport: 12,
        wall_ms: NOW_MS,
        context,
        kind: Kind::Text,
        body: body.hash(),
    };
    VerifiedEntry::sign(header, body, &keys(2))
}

fn first() -> VerifiedEntry {
    let origin = Origin { stream: stream(8), seq: 40, hash: Digest([3; 32]) };
    entry(1, Context::Direct { chat: Some(chat()) }, Some(origin))
}

fn later() -> VerifiedEntry {
    entry(2, Context::Room { epoch: 3 }, None)
}

fn membership() -> Signed<MembershipRecord> {
    let owner = Member {
        username: bob(),
        peer_key: keys(2).public(),
        room_key: keys(3).public(),
        role: Role::Owner,
    };
    let record = MembershipRecord {
        room: room(),
        name: "den".parse().expect("name"),
        epoch: 1,
        previous: None,
        time_ms: NOW_MS,
        op: MembershipOp::Create { owner, access: Access::Open, history: HistoryAccess::All },
    };
    Signed::seal(&record, &keys(1))
}

fn have() -> Have {
    let author = keys(2).public();
    let position = Position { author, stream: stream(4), seq: 2, hash: later().hash() };
    let exception = |seq, kind| Exception { author, stream: stream(4), seq, kind };
    Have {
        conversation: conversation(),
        epoch: 3,
        full: true,
        positions: vec![position],
        exceptions: vec![exception(1, ExceptionKind::Refused), exception(2, ExceptionKind::Void)],
    }
}

fn frames() -> Vec<Frame> {
    let chat_id = chat();
    let through = (stream(4), 2);
    let hello = Hello {
        version: PROTOCOL_VERSION,
        registry: keys(1).public(),
        username: bob(),
        card: card(),
        boot: Digest([8; 32]),
    };
    let id = later().header().id.clone();
    let void = later().void(void_signature(&conversation(), &stream(4), 2, &id, &keys(2)));
    let entries = [first(), later().withheld(), void].map(|entry| entry.entry().clone()).to_vec();
    let mut frames = vec![
        Frame::Hello(hello),
        Frame::Waiting { messages: 2, through },
        Frame::Decline { through },
        Frame::Have(have()),
        Frame::Entries { conversation: conversation(), entries },
        Frame::Membership { room: room(), records: vec![membership()] },
        Frame::Fork {
            a: first().withheld().entry().clone(),
            b: later().withheld().entry().clone(),
        },
    ];
    frames.extend([Standing::Allow, Standing::Ask, Standing::Block].map(Frame::Standing));
    let phases = [ChatPhase::Pending, ChatPhase::Active, ChatPhase::Ended];
    frames.extend(phases.map(|phase| Frame::Chat(ChatFrame::State { chat: chat_id, phase })));
    frames.extend(
        [
            ChatFrame::Request { chat: chat_id, ring_ms: 60_000 },
            ChatFrame::Accept { chat: chat_id },
            ChatFrame::Confirm { chat: chat_id },
            ChatFrame::Withdraw { chat: chat_id },
            ChatFrame::Reject { chat: chat_id },
            ChatFrame::Busy { chat: chat_id, reason: BusyReason::InChat },
            ChatFrame::End { chat: chat_id },
        ]
        .map(Frame::Chat),
    );
    frames.extend(
        [
            Goodbye::Stopping,
            Goodbye::LoggedOut,
            Goodbye::Duplicate,
            Goodbye::NotWelcome,
            Goodbye::Version,
        ]
        .map(Frame::Goodbye),
    );
    frames
}

/// Every frame by name. A new one does not compile until it is named here, and the test fails until it has
/// a golden.
fn name(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello(_) => "frame_hello",
        Frame::Standing(Standing::Allow) => "frame_standing_allow",
        Frame::Standing(Standing::Ask) => "frame_standing_ask",
        Frame::Standing(Standing::Block) => "frame_standing_block",
        Frame::Waiting { .. } => "frame_waiting",
        Frame::Decline { .. } => "frame_decline",
        Frame::Have(_) => "frame_have",
        Frame::Entries { .. } => "frame_entries",
        Frame::Membership { .. } => "frame_membership",
        Frame::Fork { .. } => "frame_fork",
        Frame::Chat(ChatFrame::Request { .. }) => "frame_chat_request",
        Frame::Chat(ChatFrame::Accept { .. }) => "frame_chat_accept",
        Frame::Chat(ChatFrame::Confirm { .. }) => "frame_chat_confirm",
        Frame::Chat(ChatFrame::Withdraw { .. }) => "frame_chat_withdraw",
        Frame::Chat(ChatFrame::Reject { .. }) => "frame_chat_reject",
        Frame::Chat(ChatFrame::Busy { reason: BusyReason::InChat, .. }) => "frame_chat_busy",
        Frame::Chat(ChatFrame::End { .. }) => "frame_chat_end",
        Frame::Chat(ChatFrame::State { phase: ChatPhase::Pending, .. }) => {
            "frame_chat_state_pending"
        }
        Frame::Chat(ChatFrame::State { phase: ChatPhase::Active, .. }) => "frame_chat_state_active",
        Frame::Chat(ChatFrame::State { phase: ChatPhase::Ended, .. }) => "frame_chat_state_ended",
        Frame::Goodbye(Goodbye::Stopping) => "frame_goodbye_stopping",
        Frame::Goodbye(Goodbye::LoggedOut) => "frame_goodbye_logged_out",
        Frame::Goodbye(Goodbye::Duplicate) => "frame_goodbye_duplicate",
        Frame::Goodbye(Goodbye::NotWelcome) => "frame_goodbye_not_welcome",
        Frame::Goodbye(Goodbye::Version) => "frame_goodbye_version",
    }
}

#[test]
fn every_frame_has_its_bytes() {
    let mut seen = BTreeSet::new();
    for frame in frames() {
        let name = name(&frame);
        let bytes = frame.encode().expect("small");
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let golden = check_text(&format!("{name}.hex"), &format!("{hex}\n"));
        let body = decode_hex(golden.trim_end());
        assert_eq!(body[..4], u32::try_from(body.len() - 4).expect("small").to_be_bytes());
        assert_eq!(Frame::decode(&body[4..]).expect(name), frame, "{name}");
        seen.insert(name.to_owned());
    }
    assert_eq!(seen, on_disk("frame_"), "each frame has a golden, and each golden a frame");
    assert_eq!(seen.len(), 25, "a new frame is counted here");
}

#[test]
fn entries_of_the_goldens_still_verify() {
    for frame in frames() {
        if let Frame::Entries { entries, .. } = frame {
            let [whole, bare, void] = <[Entry; 3]>::try_from(entries).expect("three");
            assert_eq!(whole.verify().expect("whole").body().expect("there").text, "hi");
            let bare = bare.verify().expect("withheld");
            assert!(bare.body().is_none() && !bare.is_void());
            assert!(void.verify().expect("void").is_void());
        }
    }
}

#[test]
fn a_cut_or_longer_frame_is_no_frame() {
    for frame in frames() {
        let bytes = frame.encode().expect("small");
        let body = &bytes[4..];
        assert!(Frame::decode(&body[..body.len() - 1]).is_err(), "{}", name(&frame));
        assert!(Frame::decode(&[body, &[0]].concat()).is_err(), "{}", name(&frame));
    }
}

fn decode_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |d| u8::from_str_radix(std::str::from_utf8(d).expect("ASCII"), 16).expect("hex");
    digits.map(byte).collect()
}
