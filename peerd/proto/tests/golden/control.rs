//! Every command, answer, event, notice and error of the control API.

use std::collections::BTreeSet;

use peerd_proto::{
    control::*,
    wire::{ChatId, MessageId},
};
use registryd_proto::{
    Access, Code, HistoryAccess, Password, PublicKey, RegistryAddress, Role, RoomName,
};
use serde_json::{Value, json};

use super::{NOW_MS, bob, check, keys, on_disk};

fn password() -> Password {
    Password::new("correct horse".to_owned()).expect("length")
}

fn registry() -> RegistryAddress {
    let place: RegistryAddress = "registry.example:4700".parse().expect("address");
    place.with_key(keys(1).public())
}

fn key() -> PublicKey {
    keys(2).public()
}

fn den() -> RoomName {
    "den".parse().expect("name")
}

fn id() -> MessageId {
    "backup-1".parse().expect("visible")
}

fn chat() -> ChatId {
    ChatId(uuid::Uuid::from_bytes([5; 16]))
}

fn now() -> Timestamp {
    Timestamp::from_ms(NOW_MS)
}

fn commands() -> Vec<Command> {
    let (username, room) = (bob, den);
    vec![
        CreateAccount {
            username: bob(),
            registry: registry(),
            password: password(),
            invite: Some("code".to_owned()),
        }
        .into(),
        Login {
            username: bob(),
            registry: Some(registry()),
            password: password(),
            peer_port: Some(4001),
            room_port: Some(0),
            takeover: true,
        }
        .into(),
        Logout {}.into(),
        Search { username: username() }.into(),
        Chat { username: username(), ring_ms: Some(60_000) }.into(),
        Accept { username: username() }.into(),
        Reject { username: username() }.into(),
        End { username: username() }.into(),
        Requests {}.into(),
        Send {
            to: Target::User(bob()),
            body: "hi".to_owned(),
            wait: WaitUntil::Queued,
            timeout_ms: Some(30_000),
            id: Some(id()),
            expires_ms: Some(60_000),
        }
        .into(),
        Listen {
            after: Some(16),
            consumer: Some("notifier".to_owned()),
            ack_written: true,
            from: Some(bob()),
            room: Some(den()),
            types: vec!["message".to_owned()],
        }
        .into(),
        Ack { consumer: "notifier".to_owned(), n: 17 }.into(),
        History {
            target: Target::Room(den()),
            limit: Some(10),
            search: Some("backup".to_owned()),
            before: None,
        }
        .into(),
        CreateRoom {
            room: room(),
            access: Access::Password,
            history: HistoryAccess::All,
            password: Some(password()),
        }
        .into(),
        JoinRoom { room: room(), password: Some(password()) }.into(),
        LeaveRoom { room: room() }.into(),
        Rooms {}.into(),
        Members { room: room() }.into(),
        Invite { room: room(), username: username() }.into(),
        Kick { room: room(), username: username() }.into(),
        SetRole { room: room(), username: username(), role: Role::Moderator }.into(),
        DeleteRoom { room: room() }.into(),
        Status {}.into(),
        Wait { what: WaitFor::Member { room: den(), username: bob() }, timeout_ms: Some(30_000) }
            .into(),
        Contacts {}.into(),
        Policy { username: Some(bob()), policy: Some(PolicyName::Allow) }.into(),
        Verify { username: username(), confirm: true }.into(),
        Trust { username: username(), key: Some(key()) }.into(),
        Outbox {}.into(),
        OutboxCancel { id: id() }.into(),
        OutboxRetry {}.into(),
        Passwd { old: password(), new: password() }.into(),
        DeleteAccount { password: password() }.into(),
        Version {}.into(),
    ]
}

/// Every command by its method. A new verb does not compile until it is named here, and the test fails
/// until it has a golden.
fn method(command: &Command) -> &'static str {
    match command {
        Command::CreateAccount(_) => "create_account",
        Command::Login(_) => "login",
        Command::Logout(_) => "logout",
        Command::Search(_) => "search",
        Command::Chat(_) => "chat",
        Command::Accept(_) => "accept",
        Command::Reject(_) => "reject",
        Command::End(_) => "end",
        Command::Requests(_) => "requests",
        Command::Send(_) => "send",
        Command::Listen(_) => "listen",
        Command::Ack(_) => "ack",
        Command::History(_) => "history",
        Command::CreateRoom(_) => "create_room",
        Command::JoinRoom(_) => "join_room",
        Command::LeaveRoom(_) => "leave_room",
        Command::Rooms(_) => "rooms",
        Command::Members(_) => "members",
        Command::Invite(_) => "invite",
        Command::Kick(_) => "kick",
        Command::SetRole(_) => "set_role",
        Command::DeleteRoom(_) => "delete_room",
        Command::Status(_) => "status",
        Command::Wait(_) => "wait",
        Command::Contacts(_) => "contacts",
        Command::Policy(_) => "policy",
        Command::Verify(_) => "verify",
        Command::Trust(_) => "trust",
        Command::Outbox(_) => "outbox",
        Command::OutboxCancel(_) => "outbox_cancel",
        Command::OutboxRetry(_) => "outbox_retry",
        Command::Passwd(_) => "passwd",
        Command::DeleteAccount(_) => "delete_account",
        Command::Version(_) => "version",
    }
}

#[test]
fn every_command_has_its_bytes() {
    let mut seen = BTreeSet::new();
    for command in commands() {
        let method = method(&command);
        let request = Request { jsonrpc: VersionTag::V2, id: json!(1), command };
        assert_eq!(serde_json::to_value(&request).expect("plain")["method"], method);
        check(&format!("command_{method}"), &request);
        seen.insert(format!("command_{method}"));
    }
    assert_eq!(seen, on_disk("command_"), "each command has a golden, and each golden a command");
    assert_eq!(seen.len(), 34, "a new verb is counted here");
}

#[test]
fn commands_with_defaults_left_out_can_be_read() {
    for (method, params) in [
        ("login", json!({"username": "bob", "password": "correct horse"})),
        ("chat", json!({"username": "bob"})),
        ("send", json!({"to": {"user": "bob"}, "body": "hi"})),
        ("listen", json!({})),
        ("history", json!({"target": {"room": "den"}})),
        ("wait", json!({"for": "online"})),
        ("wait", json!({"for": "peer", "username": "bob"})),
        ("policy", json!({})),
    ] {
        let line = json!({"jsonrpc": "2.0", "id": "x", "method": method, "params": params});
        let request: Request = serde_json::from_value(line).expect(method);
        assert_eq!(self::method(&request.command), method);
    }
}

fn room() -> RoomAnswer {
    let member = MemberAnswer { username: bob(), role: Role::Owner, link: LinkState::Connected };
    RoomAnswer {
        room: den(),
        owner: Some(bob()),
        access: Access::Invite,
        history: HistoryAccess::Joined,
        epoch: 3,
        members: vec![member],
    }
}

fn contact() -> ContactAnswer {
    ContactAnswer {
        username: Some(bob()),
        key: Some(key()),
        policy: PolicyName::Ask,
        verified: true,
        untrusted_key: Some(keys(3).public()),
        link: LinkState::Absent,
    }
}

fn user() -> UserAnswer {
    UserAnswer {
        username: bob(),
        presence: Presence::Online,
        key: key(),
        addresses: vec!["192.0.2.1:4001".parse().expect("v4")],
        room_addresses: vec!["[2001:db8::1]:4002".parse().expect("v6")],
        last_hello_ms_ago: Some(412),
        presence_confirmed: true,
    }
}

fn status() -> StatusAnswer {
    StatusAnswer {
        username: Some(bob()),
        session: SessionState::Online,
        registry: Some(registry()),
        peer_listener: Some("0.0.0.0:4001".parse().expect("v4")),
        room_listener: Some("0.0.0.0:4002".parse().expect("v4")),
        chats: vec![ChatAnswer { peer: bob(), state: ChatState::Interrupted }],
        rooms: vec![den()],
        outbox: 2,
        version: "0.1.0".to_owned(),
        hello_interval_ms: 1000,
        head: 17,
        invited: vec!["attic".parse().expect("name")],
        disk_full: false,
    }
}

#[test]
fn answers_about_accounts_and_peerd_have_their_bytes() {
    let account = AccountAnswer { username: bob(), registry: registry(), newly_pinned: true };
    check("answer_account", &account);
    let session = SessionAnswer {
        username: bob(),
        state: SessionState::Online,
        peer_port: 4001,
        room_port: 4002,
        registry: registry(),
        hello_interval_ms: 1000,
        newly_pinned: false,
    };
    check("answer_session", &session);
    check("answer_user", &user());
    let unconfirmed = UserAnswer {
        presence: Presence::Offline,
        last_hello_ms_ago: None,
        presence_confirmed: false,
        ..user()
    };
    check("answer_user_unconfirmed", &unconfirmed);
    check("answer_status", &status());
    check("answer_status_disk_full", &StatusAnswer { disk_full: true, ..status() });
    check("answer_wait_online", &WaitAnswer::Status(Box::new(status())));
    check("answer_wait_peer", &WaitAnswer::User(user()));
    check("answer_wait_member", &WaitAnswer::Member(room().members[0].clone()));
    check("answer_version", &VersionAnswer { peerd: "0.1.0".to_owned(), api: API_VERSION });
}

#[test]
fn answers_about_messages_have_their_bytes() {
    let sent = SentAnswer {
        id: id(),
        to: Some(bob()),
        room: None,
        state: MessageState::Delivered,
        delivered: 1,
        of: 1,
    };
    check("answer_sent", &sent);
    let to_room = SentAnswer { to: None, room: Some(den()), delivered: 2, of: 4, ..sent };
    check("answer_sent_room", &SentAnswer { state: MessageState::Queued, ..to_room });
    check("answer_listen", &ListenAnswer { log: "0f".repeat(16), head: 17 });
    let own = HistoryMessage {
        n: None,
        time: now(),
        kind: "message".to_owned(),
        from: bob(),
        room: None,
        id: id(),
        body: "hi".to_owned(),
        sent: now(),
        state: Some(MessageState::Expired),
    };
    let came = HistoryMessage { n: Some(17), room: Some(den()), state: None, ..own.clone() };
    check("answer_history", &HistoryAnswer { messages: vec![own, came], earlier: None });
    let waiting = OutboxMessage {
        id: id(),
        to: Some(bob()),
        room: None,
        state: MessageState::Queued,
        queued: now(),
        delivered: 0,
        of: 1,
        reason: Some(Code::PeerOffline),
    };
    check("answer_outbox", &OutboxAnswer { messages: vec![waiting] });
}

#[test]
fn answers_about_people_have_their_bytes() {
    check("answer_chat", &ChatAnswer { peer: bob(), state: ChatState::Active });
    let request = RequestAnswer { from: bob(), since: now(), messages_waiting: 3, chat: true };
    check("answer_requests", &RequestsAnswer { requests: vec![request] });
    check("answer_room", &room());
    check("answer_rooms", &RoomsAnswer { rooms: vec![room()] });
    check("answer_contact", &contact());
    let contacts = ContactsAnswer { default_policy: PolicyName::Block, contacts: vec![contact()] };
    check("answer_contacts", &contacts);
    let verify = VerifyAnswer {
        username: bob(),
        number: ["12345"; 12].join(" "),
        our_key: keys(4).public(),
        their_key: key(),
        verified: false,
    };
    check("answer_verify", &verify);
}

#[test]
fn words_of_enums_are_for_ever() {
    let chat = [
        (ChatState::Pending, "pending"),
        (ChatState::Active, "active"),
        (ChatState::Interrupted, "interrupted"),
        (ChatState::Rejected, "rejected"),
        (ChatState::Busy, "busy"),
        (ChatState::TimedOut, "timed_out"),
        (ChatState::Ended, "ended"),
        (ChatState::Allowed, "allowed"),
    ];
    for (state, word) in chat {
        assert_eq!(serde_json::to_value(state).expect("plain"), word);
    }
    let session = [
        (SessionState::Online, "online"),
        (SessionState::Offline, "offline"),
        (SessionState::LoggedOut, "logged_out"),
        (SessionState::Superseded, "superseded"),
    ];
    for (state, word) in session {
        assert_eq!(serde_json::to_value(state).expect("plain"), word);
    }
    let message = [
        (MessageState::Queued, "queued"),
        (MessageState::Delivered, "delivered"),
        (MessageState::Expired, "expired"),
        (MessageState::Rejected, "rejected"),
        (MessageState::Failed, "failed"),
    ];
    for (state, word) in message {
        assert_eq!(serde_json::to_value(state).expect("plain"), word);
    }
}

fn events() -> Vec<EventKind> {
    let (peer, chat, room) = (bob, chat, den);
    vec![
        EventKind::Message {
            from: bob(),
            room: None,
            id: id(),
            body: "hi".to_owned(),
            sent: now(),
        },
        EventKind::ChatRequest { from: bob(), chat: Some(chat()), messages_waiting: 2 },
        EventKind::ChatActive { peer: peer(), chat: chat() },
        EventKind::ChatRejected { peer: peer(), chat: chat() },
        EventKind::ChatBusy { peer: peer(), chat: chat() },
        EventKind::ChatEnded { peer: peer(), chat: chat() },
        EventKind::ChatInterrupted { peer: peer(), chat: chat() },
        EventKind::Delivered { to: Some(bob()), room: None, id: id() },
        EventKind::Failed { to: None, room: Some(den()), id: id(), code: Code::Rejected },
        EventKind::RoomJoined { room: room() },
        EventKind::RoomLeft { room: room() },
        EventKind::MemberJoined { room: room(), member: bob() },
        EventKind::MemberLeft { room: room(), member: bob() },
        EventKind::Presence { peer: peer(), presence: Presence::Offline },
        EventKind::RegistryUp {},
        EventKind::RegistryDown {},
        EventKind::KeyChanged {
            peer: peer(),
            old_key: key().to_string(),
            new_key: keys(3).public().to_string(),
        },
        EventKind::Superseded {},
        EventKind::LoggedOut {},
        EventKind::ForkFound { author: bob(), room: Some(den()) },
        EventKind::RoomInvited { room: room() },
        EventKind::RoomDiverged { room: room() },
    ]
}

#[test]
fn every_event_has_its_bytes() {
    let mut seen = BTreeSet::new();
    for kind in events() {
        let name = kind.type_name();
        let event = Event { n: 17, time: now(), kind };
        assert_eq!(serde_json::to_value(&event).expect("plain")["type"], name);
        let notice = Notification { jsonrpc: VersionTag::V2, notice: Notice::Event(event) };
        check(&format!("event_{name}"), &notice);
        seen.insert(format!("event_{name}"));
    }
    assert_eq!(seen, on_disk("event_"), "each event has a golden, and each golden an event");
    assert_eq!(seen.len(), 22, "a new event is counted here");
    let types: BTreeSet<_> = EventKind::TYPES.map(|name| format!("event_{name}")).into();
    seen.insert("event_lagged".to_owned());
    assert_eq!(types, seen, "filters know each of them");
}

#[test]
fn the_envelope_has_its_bytes() {
    let jsonrpc = VersionTag::V2;
    let result = json!({"peer": "bob", "state": "active"});
    let answered = Response { jsonrpc, id: json!(1), result: Some(result), error: None };
    check("response_result", &answered);
    let data = RpcErrorData {
        code: Code::TimedOut,
        hint: Some("it stays queued".to_owned()),
        retryable: true,
        retry_after_ms: Some(1000),
        details: Some(json!({"id": "backup-1", "state": "queued", "delivered": 0, "of": 1})),
    };
    let error = RpcError { code: -32000, message: "for people".to_owned(), data };
    let failed = Response { jsonrpc, id: json!(1), result: None, error: Some(error) };
    check("response_error", &failed);
    let unread = RpcErrorData {
        code: Code::Usage,
        hint: None,
        retryable: false,
        retry_after_ms: None,
        details: None,
    };
    let error = RpcError { code: -32700, message: "for people".to_owned(), data: unread };
    let unread = Response { jsonrpc, id: Value::Null, result: None, error: Some(error) };
    check("response_unreadable", &unread);
    let lagged = Notification { jsonrpc, notice: Notice::Lagged { resume: 40 } };
    check("notice_lagged", &lagged);
}

#[test]
fn readers_ignore_fields_that_they_do_not_know() {
    let line = r#"{"jsonrpc":"2.0","id":1,"method":"search","params":{"username":"bob","later":[1]},"more":{}}"#;
    let request: Request = serde_json::from_str(line).expect("added fields");
    assert_eq!(request.command, Search { username: bob() }.into());
}
