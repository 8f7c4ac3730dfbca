//! Golden files: the exact bytes of every message and stored document, for ever.
//!
//! Each value built here must encode to its file and decode from it. A file is written once, by
//! `UPDATE=1 cargo test -p registryd-proto --test golden`, which never touches one that exists: a
//! changed file is a changed protocol.

use std::{collections::BTreeSet, fmt::Debug, fs, path::PathBuf};

use registryd_proto::{
    Access, Account, Answer, CARD_LIFETIME_MS, Card, Code, Digest, Endpoints, Failure,
    HistoryAccess, KeyBinding, Keypair, Member, MembershipOp, MembershipRecord, Password,
    PresenceState, Reply, Request, Role, RoomId, RoomListing, RoomMember, RoomView, SessionGrant,
    Signed, SyncReply, UserView, Username,
    hello::{self, Hello, HelloKey, SessionKey},
};
use serde::{Serialize, de::DeserializeOwned};

const NOW_MS: u64 = 1_795_000_000_000;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn check_bytes(file: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder().join(file);
    if std::env::var_os("UPDATE").is_some() && !path.exists() {
        fs::write(&path, bytes).expect("the golden folder is writable");
    }
    let golden = fs::read(&path).unwrap_or_else(|e| panic!("golden {file}: {e}"));
    assert_eq!(String::from_utf8_lossy(bytes), String::from_utf8_lossy(&golden), "{file}");
    golden
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let mut json = serde_json::to_vec_pretty(value).expect("plain");
    json.push(b'\n');
    let golden = check_bytes(&format!("{name}.json"), &json);
    assert_eq!(&serde_json::from_slice::<T>(&golden).expect(name), value, "{name}");
}

fn keys(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

fn bob() -> Username {
    "bob".parse().expect("name")
}

fn password() -> Password {
    Password::new("correct horse".to_owned()).expect("length")
}

fn binding() -> KeyBinding {
    KeyBinding::new(&keys(1).public(), &bob(), &keys(2), &keys(3))
}

fn card() -> Signed<Card> {
    let card = Card {
        username: bob(),
        binding: binding(),
        serial: 3,
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + CARD_LIFETIME_MS,
    };
    Signed::seal(&card, &keys(1))
}

fn member(role: Role) -> Member {
    Member { username: bob(), peer_key: keys(2).public(), room_key: keys(3).public(), role }
}

fn records() -> Vec<Signed<MembershipRecord>> {
    let ann = || "ann".parse().expect("name");
    let owner = Member {
        username: ann(),
        peer_key: keys(4).public(),
        room_key: keys(5).public(),
        role: Role::Owner,
    };
    let ops = [
        MembershipOp::Create { owner, access: Access::Invite, history: HistoryAccess::All },
        MembershipOp::Join { member: member(Role::Member) },
        MembershipOp::SetRole { username: bob(), role: Role::Moderator, by: ann() },
        MembershipOp::Rebind {
            username: bob(),
            peer_key: keys(6).public(),
            room_key: keys(7).public(),
        },
        MembershipOp::Kick { username: bob(), by: ann() },
        MembershipOp::Join { member: member(Role::Member) },
        MembershipOp::Leave { username: bob() },
        MembershipOp::Delete { by: ann() },
    ];
    let mut log: Vec<Signed<MembershipRecord>> = Vec::new();
    for (i, op) in ops.into_iter().enumerate() {
        let record = MembershipRecord {
            room: RoomId(Digest([9; 32])),
            name: "den".parse().expect("name"),
            epoch: i as u64 + 1,
            previous: log.last().map(|r| Digest(r.hash())),
            time_ms: NOW_MS + i as u64,
            op,
        };
        log.push(Signed::seal(&record, &keys(1)));
    }
    log
}

fn endpoints() -> Endpoints {
    Endpoints {
        peer: vec![
            "192.0.2.1:4001".parse().expect("v4"),
            "[2001:db8::1]:4001".parse().expect("v6"),
        ],
        room: vec!["0.0.0.0:4002".parse().expect("v4")],
    }
}

fn user() -> UserView {
    UserView {
        username: bob(),
        presence: PresenceState::Online,
        last_hello_ms_ago: Some(412),
        confirmed: true,
        card: card(),
        endpoints: endpoints(),
    }
}

fn listing() -> RoomListing {
    RoomListing {
        id: RoomId(Digest([9; 32])),
        room: "den".parse().expect("name"),
        access: Access::Password,
        role: Role::Owner,
        members: 2,
        epoch: 7,
    }
}

fn requests() -> Vec<Request> {
    let room = || "den".parse().expect("name");
    let attempt = Digest([8; 32]);
    vec![
        Request::CreateAccount {
            username: bob(),
            password: password(),
            binding: binding(),
            invite: Some("code".to_owned()),
        },
        Request::Login {
            username: bob(),
            password: password(),
            binding: binding(),
            attempt,
            takeover: true,
            endpoints: endpoints(),
        },
        Request::Resume { attempt, endpoints: endpoints(), serial: 3, epoch: 4 },
        Request::Logout,
        Request::Search { username: bob() },
        Request::Watch { username: bob() },
        Request::Sync { version: 17 },
        Request::CreateRoom {
            room: room(),
            access: Access::Password,
            password: Some(password()),
            history: HistoryAccess::Joined,
        },
        Request::JoinRoom { room: room(), password: Some(password()) },
        Request::LeaveRoom { room: room() },
        Request::ListRooms,
        Request::RoomMembers { room: room(), after_epoch: 2 },
        Request::Invite { room: room(), username: bob() },
        Request::Kick { room: room(), username: bob() },
        Request::SetRole { room: room(), username: bob(), role: Role::Moderator },
        Request::DeleteRoom { room: room() },
        Request::ChangePassword { old: password(), new: password() },
        Request::DeleteAccount { password: password() },
    ]
}

/// Every request by its tag. A new variant does not compile until it is named here, and the test fails
/// until it has a golden.
fn request_tag(request: &Request) -> &'static str {
    match request {
        Request::CreateAccount { .. } => "create_account",
        Request::Login { .. } => "login",
        Request::Resume { .. } => "resume",
        Request::Logout => "logout",
        Request::Search { .. } => "search",
        Request::Watch { .. } => "watch",
        Request::Sync { .. } => "sync",
        Request::CreateRoom { .. } => "create_room",
        Request::JoinRoom { .. } => "join_room",
        Request::LeaveRoom { .. } => "leave_room",
        Request::ListRooms => "list_rooms",
        Request::RoomMembers { .. } => "room_members",
        Request::Invite { .. } => "invite",
        Request::Kick { .. } => "kick",
        Request::SetRole { .. } => "set_role",
        Request::DeleteRoom { .. } => "delete_room",
        Request::ChangePassword { .. } => "change_password",
        Request::DeleteAccount { .. } => "delete_account",
    }
}

fn replies() -> Vec<Reply> {
    vec![
        Reply::Account(Account { username: bob(), card: card() }),
        Reply::Session(SessionGrant {
            username: bob(),
            session: 5,
            epoch: 6,
            key: SessionKey::from_bytes([7; 32]),
            hello_port: 4700,
            interval_ms: 1000,
            boot: u64::MAX,
            card: card(),
            version: 17,
            server_time_ms: NOW_MS,
            observed: [192, 0, 2, 1].into(),
        }),
        Reply::Done,
        Reply::User(user()),
        Reply::Room(RoomView {
            id: RoomId(Digest([9; 32])),
            room: "den".parse().expect("name"),
            epoch: 2,
            log: records().into_iter().take(2).collect(),
            members: vec![RoomMember {
                member: member(Role::Member),
                addresses: endpoints().room,
                presence: PresenceState::Offline,
            }],
        }),
        Reply::Rooms { rooms: vec![listing()] },
        Reply::Sync(SyncReply {
            version: 18,
            epoch: 6,
            rooms: vec![listing()],
            invited: vec!["attic".parse().expect("name")],
            online: vec![user()],
        }),
    ]
}

fn reply_tag(reply: &Reply) -> &'static str {
    match reply {
        Reply::Account(_) => "account",
        Reply::Session(_) => "session",
        Reply::Done => "done",
        Reply::User(_) => "user",
        Reply::Room(_) => "room",
        Reply::Rooms { .. } => "rooms",
        Reply::Sync(_) => "sync",
    }
}

#[test]
fn every_request_has_its_bytes() {
    let mut seen = BTreeSet::new();
    for request in requests() {
        let tag = request_tag(&request);
        assert_eq!(serde_json::to_value(&request).expect("plain")["request"], tag);
        check(&format!("request_{tag}"), &request);
        seen.insert(format!("request_{tag}.json"));
    }
    assert_eq!(seen, on_disk("request_"), "each request has a golden, and each golden a request");
    assert_eq!(seen.len(), 18, "a new variant is counted here");
}

#[test]
fn every_reply_has_its_bytes() {
    let mut seen = BTreeSet::new();
    for reply in replies() {
        let tag = reply_tag(&reply);
        let answer = Answer::Ok(reply);
        assert_eq!(serde_json::to_value(&answer).expect("plain")["ok"]["reply"], tag);
        check(&format!("reply_{tag}"), &answer);
        seen.insert(format!("reply_{tag}.json"));
    }
    assert_eq!(seen, on_disk("reply_"), "each reply has a golden, and each golden a reply");
    assert_eq!(seen.len(), 7, "a new variant is counted here");
}

fn on_disk(prefix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder()).expect("golden folder");
    let names = entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with(prefix)).collect()
}

#[test]
fn every_error_has_its_bytes() {
    for code in Code::ALL {
        let failure = Failure::new(code, "for people");
        check(&format!("error_{code}"), &Answer::Error(failure));
    }
    let failure =
        Failure { retry_after_ms: Some(3000), ..Failure::new(Code::RateLimited, "for people") };
    check("error_with_retry", &Answer::Error(failure));
}

#[test]
fn documents_have_their_bytes_and_still_open() {
    check("document_card", &card());
    let unconfirmed = UserView {
        presence: PresenceState::Offline,
        last_hello_ms_ago: None,
        confirmed: false,
        ..user()
    };
    check("document_user_unconfirmed", &unconfirmed);
    Card::open(&card(), &keys(1).public()).expect("its three signatures hold");
    check("document_membership_log", &records());
    registryd_proto::Room::from_log(&records(), &keys(1).public()).expect("a log that folds");
}

#[test]
fn datagrams_have_their_bytes_and_still_open() {
    let session = SessionKey::from_bytes([7; 32]);
    let peer = HelloKey::peer(&session);
    let hello = Hello { session: 5, epoch: 6, boot: 100, counter: 3, interval_ms: 1000 };
    check_hex("hello", &hello.seal(&peer));
    assert_eq!(Hello::open(&hello.seal(&peer), &peer), Some(hello));

    let registry = HelloKey::registry(&session, 100);
    let answer = hello::Answer {
        session: 5,
        epoch: 6,
        boot: 100,
        counter: 41,
        echo: 3,
        interval_ms: 2000,
        version: 17,
    };
    check_hex("hello_answer", &answer.seal(&registry));
    let nudge = hello::Answer { counter: 42, echo: 0, version: 18, ..answer };
    check_hex("hello_nudge", &nudge.seal(&registry));
}

fn check_hex(name: &str, datagram: &[u8]) {
    let hex: String = datagram.iter().map(|b| format!("{b:02x}")).collect();
    check_bytes(&format!("{name}.hex"), format!("{hex}\n").as_bytes());
}

#[test]
fn readers_ignore_fields_that_they_do_not_know() {
    let json = r#"{"request":"search","username":"bob","later":{"a":[1]}}"#;
    let request: Request = serde_json::from_str(json).expect("an added field");
    assert_eq!(request, Request::Search { username: bob() });
}
