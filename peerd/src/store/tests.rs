//! What is written comes back at the next start.

use peerd_proto::{
    control::{Event, EventKind, HistoryMessage, MessageState, PolicyName, Target, Timestamp},
    wire::{
        Body, ChatId, ChatPhase, Context, ConversationId, Exception, ExceptionKind, Header, Kind,
        MessageId, StreamId, VerifiedEntry, void_signature,
    },
};
use registryd_proto::{
    Card, Code, Digest, Endpoints, KeyBinding, Keypair, MembershipOp, MembershipRecord, RoomId,
    Signed,
};

use super::*;
use crate::core::durable::{
    Acked, ChatRow, Contact, Conversation, ConversationKind, GiveUp, Kept, Outgoing, Profile,
    ProfileState, RequestRow, RoomRow, Snapshot, shown_id_hash,
};

fn key(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

fn conversation() -> ConversationId {
    ConversationId(Digest([9; 32]))
}

fn stream(seed: u8) -> StreamId {
    StreamId(uuid::Uuid::from_bytes([seed; 16]))
}

fn entry(author: u8, seq: u64, lamport: u64, text: &str) -> VerifiedEntry {
    let body = Body { salt: [seq as u8; 16], text: text.to_owned() };
    let previous = if seq == 1 { Digest::default() } else { Digest([1; 32]) };
    let header = Header {
        conversation: conversation(),
        author: key(author).public(),
        stream: stream(author),
        seq,
        previous,
        origin: None,
        id: format!("{author}-{seq}").parse::<MessageId>().expect("an id"),
        lamport,
        wall_ms: 1_000 + seq,
        context: Context::Direct { chat: None },
        kind: Kind::Text,
        body: body.hash(),
    };
    VerifiedEntry::sign(header, body, &key(author))
}

fn card(peer: u8, name: &str) -> Signed<Card> {
    let (registry, username) = (key(100), name.parse().expect("a name"));
    let binding = KeyBinding::new(&registry.public(), &username, &key(peer), &key(peer + 50));
    let card = Card { username, binding, serial: 1, issued_ms: 1, expires_ms: 2 };
    Signed::seal(&card, &registry)
}

fn profile() -> Profile {
    Profile {
        registry: format!("{}@localhost:4700", key(100).public()).parse().expect("an address"),
        username: "alice".parse().expect("a name"),
        state: ProfileState::LoggedIn,
        serial: 3,
        epoch: 4,
        card: card(1, "alice"),
        peer_port: 5,
        room_port: 6,
        version: 7,
    }
}

fn contact() -> Contact {
    Contact {
        username: "bob".parse().expect("a name"),
        peer_key: key(2).public(),
        room_key: key(52).public(),
        serial: 1,
        card: card(2, "bob"),
        untrusted: Some(card(3, "bob")),
        policy: Some(PolicyName::Allow),
        verified: true,
        endpoints: Endpoints::default(),
    }
}

fn outgoing(state: MessageState) -> Outgoing {
    Outgoing {
        conversation: conversation(),
        stream: stream(1),
        seq: 1,
        id: "1-1".parse().expect("an id"),
        caller_id: true,
        text_hash: Digest([4; 32]),
        epoch: 2,
        state,
        reason: Some(Code::Rejected),
        queued_ms: 10,
        expires_ms: Some(20),
        offered: true,
        giving_up: Some(GiveUp { state: MessageState::Expired, reason: None }),
    }
}

fn message(n: u64, body: &str) -> Write {
    let kind = EventKind::Message {
        from: "bob".parse().expect("a name"),
        room: None,
        id: "2-1".parse().expect("an id"),
        body: body.to_owned(),
        sent: Timestamp::from_ms(1),
    };
    Write::Event(Event { n, time: Timestamp::from_ms(n), kind })
}

/// One of each kind of write, less those that take something back.
fn everything() -> Vec<Write> {
    let record = MembershipRecord {
        room: RoomId(Digest([7; 32])),
        name: "den".parse().expect("a name"),
        epoch: 1,
        previous: None,
        time_ms: 5,
        op: MembershipOp::Leave { username: "bob".parse().expect("a name") },
    };
    let kind = ConversationKind::Direct {
        username: "bob".parse().expect("a name"),
        peer_key: key(2).public(),
    };
    let own = Box::new(entry(1, 1, 1, "mine"));
    let theirs = Box::new(entry(2, 1, u64::MAX, "theirs"));
    vec![
        Write::Profile(profile()),
        Write::Contact(contact()),
        Write::DefaultPolicy(PolicyName::Block),
        Write::Conversation(Conversation { id: conversation(), kind }),
        message(1, "theirs"),
        Write::Entry { entry: own, recorded_ms: 1, shown: None },
        Write::Outgoing(outgoing(MessageState::Queued)),
        Write::Entry { entry: theirs, recorded_ms: 2, shown: Some(1) },
        Write::Acked(acked()),
        Write::Exception {
            conversation: conversation(),
            holder: key(2).public(),
            exception: exception(),
        },
        Write::Fork {
            a: Box::new(entry(2, 2, 1, "a").withheld()),
            b: Box::new(entry(2, 2, 1, "b").withheld()),
        },
        Write::Chat(chat()),
        Write::Request(request()),
        Write::Room(room()),
        Write::Membership {
            room: RoomId(Digest([7; 32])),
            epoch: 1,
            record: Signed::seal(&record, &key(100)),
        },
    ]
}

fn acked() -> Acked {
    Acked { conversation: conversation(), member: key(2).public(), stream: stream(1), seq: 1 }
}

fn exception() -> Exception {
    Exception { author: key(1).public(), stream: stream(1), seq: 1, kind: ExceptionKind::Refused }
}

fn chat() -> ChatRow {
    ChatRow {
        peer: "bob".parse().expect("a name"),
        chat: ChatId(uuid::Uuid::from_bytes([3; 16])),
        phase: ChatPhase::Active,
        caller: true,
        since_ms: 8,
    }
}

fn request() -> RequestRow {
    RequestRow {
        from: "carol".parse().expect("a name"),
        since_ms: 9,
        messages_waiting: 2,
        through: Some((stream(5), 2)),
        chat: None,
    }
}

fn room() -> RoomRow {
    let id = RoomId(Digest([7; 32]));
    RoomRow { id, name: "den".parse().expect("a name"), joined: true }
}

/// Opens, writes, and comes back as after a kill: nothing is closed, the file is opened once more.
async fn written(folder: &tempfile::TempDir, batches: Vec<Vec<Write>>) -> Opened {
    let path = folder.path().join("peerd.db");
    let opened = open(&path, true).expect("new");
    for writes in batches {
        let committing = opened.store.commit(writes).await.expect("queued");
        committing.done().await.expect("committed");
    }
    let again = open(&path, false).expect("again");
    assert_eq!(opened.store.log(), again.store.log(), "the log keeps its id");
    again
}

#[tokio::test]
async fn everything_that_is_written_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { store, snapshot, .. } = written(&folder, vec![everything()]).await;
    assert_eq!(snapshot.profile, Some(profile()));
    assert_eq!(snapshot.contacts, [contact()]);
    assert_eq!(snapshot.default_policy, Some(PolicyName::Block));
    assert_eq!(snapshot.conversations.len(), 1);
    let heads: Vec<_> = snapshot.streams.iter().map(|head| head.position).collect();
    assert_eq!(heads.len(), 2);
    assert_eq!((heads[0].author, heads[0].seq), (key(1).public(), 1));
    assert_eq!(heads[1].hash, entry(2, 1, u64::MAX, "theirs").hash());
    assert_eq!(snapshot.outgoing, [outgoing(MessageState::Queued)]);
    assert_eq!(snapshot.acked, [acked()]);
    assert_eq!(snapshot.exceptions, [(conversation(), key(2).public(), exception())]);
    assert_eq!(snapshot.forks.len(), 1);
    assert_eq!(snapshot.chats, [chat()]);
    assert_eq!(snapshot.requests, [request()]);
    assert_eq!(snapshot.rooms, [room()]);
    assert_eq!(snapshot.membership.len(), 1);
    let shown = "2-1".parse().expect("an id");
    assert_eq!(snapshot.shown_ids, [shown_id_hash(&conversation(), &key(2).public(), &shown)]);
    assert_eq!(snapshot.event_head, 1);

    let author = key(2).public();
    let loaded = store.entries(conversation(), author, stream(2), 0, 10).await.expect("read");
    assert_eq!(loaded, [entry(2, 1, u64::MAX, "theirs")], "byte for byte");
    let events = store.events(0).await.expect("read").events;
    assert_eq!(Write::Event(events[0].clone()).to_text(), message(1, "theirs").to_text());
}

/// Writes have no equality of their own.
trait Text {
    fn to_text(&self) -> String;
}

impl Text for Write {
    fn to_text(&self) -> String {
        format!("{self:?}")
    }
}

#[tokio::test]
async fn a_message_of_ours_is_found_by_its_callers_id_and_a_settled_one_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let settled = Outgoing { seq: 2, queued_ms: 11, ..outgoing(MessageState::Failed) };
    let ours = Outgoing {
        seq: 3,
        id: "1-3".parse().expect("an id"),
        caller_id: false,
        ..outgoing(MessageState::Delivered)
    };
    let exception = Exception { seq: 2, ..exception() };
    let later = vec![
        Write::Outgoing(settled.clone()),
        Write::Outgoing(ours.clone()),
        Write::Exception { conversation: conversation(), holder: key(2).public(), exception },
    ];
    let Opened { store, .. } = written(&folder, vec![everything(), later]).await;
    let kept = store.recall(conversation(), settled.id.clone()).await.expect("read");
    let lacking = vec![(key(2).public(), ExceptionKind::Refused)];
    assert_eq!(kept, Some(Kept { message: settled, lacking }));
    assert_eq!(store.recall(conversation(), ours.id).await.expect("read"), None, "not a caller's");
    let other = ConversationId(Digest([8; 32]));
    let id = outgoing(MessageState::Queued).id;
    assert_eq!(store.recall(other, id).await.expect("read"), None);
}

#[tokio::test]
async fn what_is_taken_back_is_gone_and_rows_are_replaced_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let void = |of: &VerifiedEntry| {
        let (id, seq) = (&of.header().id, of.header().seq);
        void_signature(&conversation(), &stream(2), seq, id, &key(2))
    };
    let theirs = entry(2, 1, u64::MAX, "theirs");
    let second = vec![
        Write::ForgetRequest("carol".parse().expect("a name")),
        Write::DropBody {
            conversation: conversation(),
            author: key(2).public(),
            stream: stream(2),
            seq: 1,
            void: Some(void(&theirs)),
        },
        Write::Outgoing(outgoing(MessageState::Delivered)),
    ];
    let Opened { store, snapshot, .. } = written(&folder, vec![everything(), second]).await;
    assert_eq!(snapshot.requests, []);
    assert_eq!(snapshot.outgoing, [outgoing(MessageState::Delivered)], "the caller's id is kept");
    let author = key(2).public();
    let loaded = store.entries(conversation(), author, stream(2), 0, 10).await.expect("read");
    assert_eq!(loaded, [theirs.void(void(&theirs))]);
}

#[tokio::test]
async fn a_void_entry_stays_void_and_one_that_is_withheld_does_not_become_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = entry(7, 1, 1, "ended");
    let id = &ended.header().id;
    let void = ended.void(void_signature(&conversation(), &stream(7), 1, id, &key(7)));
    let withheld = entry(7, 2, 2, "not for us").withheld();
    let taken = [&void, &withheld].map(|entry| Write::Entry {
        entry: Box::new(entry.clone()),
        recorded_ms: 5,
        shown: None,
    });
    let Opened { store, .. } = written(&folder, vec![everything(), taken.to_vec()]).await;
    let author = key(7).public();
    let loaded = store.entries(conversation(), author, stream(7), 0, 10).await.expect("read");
    assert_eq!(loaded, [void, withheld]);
    let void = loaded[0].entry().clone().verify().expect("its author's signature was kept");
    assert!(void.is_void());
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing_but_events_and_may_come_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peerd.db");
    let Opened { store, .. } = open(&path, true).expect("new");
    let mut first = everything();
    first.push(Write::ForgetProfile);
    let is_event = |write: &Write| matches!(write, Write::Event(_));
    let again = everything().into_iter().map(|write| match write {
        Write::Entry { entry, recorded_ms, .. } => Write::Entry { entry, recorded_ms, shown: None },
        write => write,
    });
    let again: Vec<Write> = again.filter(|write| !is_event(write)).collect();
    for writes in [first, again, vec![Write::ForgetProfile, message(2, "later")]] {
        store.commit(writes).await.expect("queued").done().await.expect("committed");
    }
    let snapshot = open(&path, false).expect("again").snapshot;
    let fresh = Snapshot { event_head: 2, ..Snapshot::default() };
    assert_eq!(format!("{snapshot:?}"), format!("{fresh:?}"));
    let events = store.events(0).await.expect("read").events;
    assert_eq!(Write::Event(events[0].clone()).to_text(), message(1, "theirs").to_text());
    assert_eq!(events.len(), 2);
}

#[tokio::test]
async fn a_history_has_one_order_and_its_newest_messages() {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { store, .. } = written(&folder, vec![everything()]).await;
    let query = |limit, search: Option<&str>| HistoryQuery {
        target: Target::User("bob".parse().expect("a name")),
        limit,
        search: search.map(str::to_owned),
        before: None,
    };
    let read = async |query| {
        let found: HistoryRead = store.history(query).await.expect("read").expect("known");
        found.messages
    };
    let places = read(query(10, None)).await;
    let told = |page: &[(_, HistoryMessage)]| page.iter().map(|(_, m)| m.clone()).collect();
    let all: Vec<HistoryMessage> = told(&places);
    let told: Vec<_> =
        all.iter().map(|m| (m.from.as_str(), m.body.as_str(), m.n, m.state)).collect();
    let expected =
        [("alice", "mine", None, Some(MessageState::Queued)), ("bob", "theirs", Some(1), None)];
    assert_eq!(told, expected);
    assert_eq!(read(query(1, None)).await[..], places[1..]);
    assert_eq!(read(query(10, Some("min"))).await[..], places[..1]);
    let before = HistoryQuery { before: Some(places[1].0), ..query(10, None) };
    assert_eq!(read(before).await[..], places[..1]);
    let nobody = Target::User("nobody".parse().expect("a name"));
    let nobody = HistoryQuery { target: nobody, limit: 1, search: None, before: None };
    assert!(store.history(nobody).await.expect("read").is_none());
}

/// Far above, and far below what any test writes.
const ALL_SPACE: u32 = 1_000_000;
const NO_SPACE: u32 = 1;

async fn until(disk: Disk, store: &Store) {
    let within = std::time::Duration::from_secs(20);
    let mut state = store.disk();
    let wait = state.wait_for(|state| *state == disk);
    tokio::time::timeout(within, wait).await.expect("in time").expect("the writer runs");
}

#[tokio::test]
async fn a_full_disk_keeps_what_waits_in_its_order_and_writes_it_once_there_is_space() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peerd.db");
    let Opened { store, .. } = open(&path, true).expect("new");
    store.consumer("bot".to_owned(), None).await.expect("made while there is space");
    store.set_space(NO_SPACE).await;
    // Texts that do not fit the pages that are there.
    let large = "x".repeat(60_000);
    let mut waiting = Vec::new();
    for n in 1..=5 {
        waiting.push(store.commit(vec![message(n, &large)]).await.expect("queued"));
    }
    until(Disk::Full, &store).await;
    assert_eq!(store.events(0).await.expect("reading goes on").head, 0);
    let refused = store.consumer("other".to_owned(), None).await.expect_err("no space for it");
    assert!(refused.is_full(), "{refused:?}");
    let known = store.consumer("bot".to_owned(), None).await;
    assert_eq!(known.expect("a known reader writes nothing"), 0);
    let ahead = store.consumer("bot".to_owned(), Some(9)).await.expect_err("no such event");
    assert!(matches!(*ahead, StoreError::ConsumerAhead { head: 0 }), "{ahead:?}");
    waiting.push(store.commit(vec![message(6, "after")]).await.expect("queued"));
    store.set_space(ALL_SPACE).await;
    for committing in waiting {
        committing.done().await.expect("committed in the end");
    }
    until(Disk::Ready, &store).await;
    let events = open(&path, false).expect("again").store.events(0).await.expect("read").events;
    let numbers: Vec<_> = events.iter().map(|event| event.n).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn the_writer_ends_though_the_disk_stays_full() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("peerd.db");
    let Opened { store, writer, .. } = open(&path, true).expect("new");
    store.set_space(NO_SPACE).await;
    let waiting = store.commit(vec![message(1, &"x".repeat(60_000))]).await.expect("queued");
    until(Disk::Full, &store).await;
    drop(store);
    let told = waiting.done().await.expect_err("it is not on the disk");
    assert!(told.is_full(), "{told:?}");
    tokio::task::spawn_blocking(|| writer.join()).await.expect("runs").expect("no panic");
    assert_eq!(open(&path, false).expect("again").snapshot.event_head, 0);
}

#[tokio::test]
async fn a_consumer_begins_at_the_newest_event_and_only_goes_forward() {
    let folder = tempfile::tempdir().expect("a folder");
    let Opened { store, .. } = written(&folder, vec![vec![message(1, "a"), message(2, "b")]]).await;
    let position = |acked| store.consumer("bot".to_owned(), acked);
    assert_eq!(position(None).await.expect("new"), 2);
    assert_eq!(position(Some(1)).await.expect("known"), 2);
    let ahead = position(Some(3)).await.expect_err("no such event");
    assert!(matches!(*ahead, StoreError::ConsumerAhead { head: 2 }), "{ahead:?}");
    assert_eq!(store.consumer("late".to_owned(), Some(1)).await.expect("new"), 1);
}
