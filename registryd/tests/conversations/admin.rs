//! The operator's socket: what it answers, who hears of what is done there, and what is refused.

use registryd_proto::{Card, Code, MembershipOp, PresenceState, Request, Room, hello::Outcome};
use serde_json::{Value, json};

use crate::{
    client::{Hello, Registry, SECRET, password, resume},
    operator::Operator,
};

fn user(name: &str) -> Value {
    json!({ "username": name })
}

fn login_with(registry: &Registry, name: &str, seed: u8, secret: &str) -> Request {
    registry.peer(name, seed).login_by(secret, seed, false)
}

#[tokio::test]
async fn a_kicked_device_is_nudged_and_finds_itself_logged_out() {
    let registry = Registry::start().await;
    let mut operator = Operator::at(&registry).await;
    let (mut bob, mut ann) = (registry.member("bob", 2).await, registry.member("ann", 1).await);
    let mut hello = Hello::new(&bob.grant).await;
    hello.say().await;
    let sessions = operator.ask("sessions_list", json!({})).await;
    assert_eq!(sessions["sessions"][0]["username"], "bob", "the older account first");
    assert_eq!(sessions["sessions"][0]["presence"], "online");

    operator.ask("sessions_kick", user("bob")).await;
    assert!(matches!(hello.hear().await, Outcome::Nudged { .. }), "bob's device hears of it");
    assert_eq!(bob.link.code(&Request::Sync { version: 0 }).await, Code::NotLoggedIn);
    assert_eq!(bob.link.code(&resume(9)).await, Code::NotLoggedIn);
    assert_eq!(ann.link.user("bob").await.presence, PresenceState::Offline);
    assert_eq!(operator.code("sessions_kick", user("bob")).await, Code::NotLoggedIn, "once");
    assert_eq!(operator.code("sessions_kick", user("eve")).await, Code::NotFound);
    bob.link.session(&bob.peer.login(10)).await;
}

#[tokio::test]
async fn a_disabled_account_lets_nobody_in_until_it_is_enabled() {
    let registry = Registry::start().await;
    let mut operator = Operator::at(&registry).await;
    let mut bob = registry.member("bob", 2).await;
    Hello::new(&bob.grant).await.say().await;
    let shown = operator.ask("users_disable", user("bob")).await;
    assert_eq!((&shown["state"], &shown["session"]), (&json!("disabled"), &Value::Null));
    assert_eq!(bob.link.code(&resume(3)).await, Code::NotLoggedIn);
    assert_eq!(bob.link.code(&bob.peer.login(3)).await, Code::Blocked, "the right password");
    let wrong = bob.peer.login_by("wrong horse battery", 3, false);
    assert_eq!(bob.link.code(&wrong).await, Code::BadCredentials, "strangers learn nothing");
    let mut elsewhere = registry.peer("bob", 4).connect().await;
    assert_eq!(elsewhere.code(&registry.peer("bob", 4).login(4)).await, Code::Blocked);

    // It stays so.
    let registry = registry.restart().await;
    let mut operator = Operator::at(&registry).await;
    let mut link = bob.peer.connect().await;
    assert_eq!(link.code(&bob.peer.login(5)).await, Code::Blocked);
    assert_eq!(operator.ask("users_enable", user("bob")).await["state"], "active");
    link.session(&bob.peer.login(6)).await;
}

#[tokio::test]
async fn an_account_made_by_the_operator_begins_with_its_first_login() {
    let registry = Registry::start().await;
    let mut operator = Operator::at(&registry).await;
    let params = json!({ "username": "bob", "password": "first password" });
    assert_eq!(operator.ask("users_add", params.clone()).await["state"], "new");
    assert_eq!(operator.code("users_add", params).await, Code::Conflict);
    let mut ann = registry.member("ann", 1).await;
    let search = Request::Search { username: "bob".parse().expect("name") };
    assert_eq!(ann.link.code(&search).await, Code::NotFound, "nobody can verify him yet");

    let bob = registry.peer("bob", 2);
    let mut link = bob.connect().await;
    assert_eq!(link.code(&bob.create()).await, Code::Conflict, "the name is taken");
    assert_eq!(link.code(&bob.login(1)).await, Code::BadCredentials);
    let taken = login_with(&registry, "bob", 1, "first password");
    let mut foreign = registry.peer("bob", 1).connect().await;
    assert_eq!(foreign.code(&taken).await, Code::Conflict, "the key is ann's");
    let grant = link.session(&login_with(&registry, "bob", 2, "first password")).await;
    assert_eq!(grant.username, bob.name);
    let card = Card::open(&ann.link.user("bob").await.card, &registry.server.key());
    assert_eq!(card.expect("signed").serial, 1);
    let shown = operator.ask("users_show", user("bob")).await;
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["key"], bob.keys.public().to_string());

    let params = json!({ "username": "bob", "password": "second password" });
    operator.ask("users_passwd", params).await;
    link.sync(0).await;
    let old = bob.login_by("first password", 5, false);
    assert_eq!(link.code(&old).await, Code::BadCredentials);
    link.session(&bob.login_by("second password", 6, false)).await;
}

#[tokio::test]
async fn a_deleted_account_keeps_its_name_and_its_rooms_are_deleted() {
    let registry = Registry::start().await;
    let mut operator = Operator::at(&registry).await;
    let [mut ann, mut bob] = [registry.member("ann", 1).await, registry.member("bob", 2).await];
    let den = room_of(&mut ann, &mut bob).await;
    assert_eq!(operator.ask("users_delete", user("ann")).await["state"], "deleted");
    assert_eq!(ann.link.code(&Request::Sync { version: 0 }).await, Code::NotLoggedIn);
    assert_eq!(bob.link.code(&den).await, Code::NotFound);
    let again = registry.peer("ann", 3);
    assert_eq!(again.connect().await.code(&again.create()).await, Code::Conflict);
    let other = json!({ "username": "ann", "password": SECRET });
    for (method, params) in [
        ("users_add", other.clone()),
        ("users_passwd", other),
        ("users_disable", user("ann")),
        ("users_enable", user("ann")),
        ("users_delete", user("ann")),
    ] {
        let code = operator.code(method, params).await;
        assert!(matches!(code, Code::Conflict | Code::NotFound), "{method}: {code}");
    }
}

/// Makes a room of both, and returns the request for its members.
async fn room_of(owner: &mut crate::client::Member, member: &mut crate::client::Member) -> Request {
    let room: registryd_proto::RoomName = "den".parse().expect("name");
    let create = Request::CreateRoom {
        room: room.clone(),
        access: registryd_proto::Access::Password,
        password: Some(password(SECRET)),
        history: registryd_proto::HistoryAccess::All,
    };
    owner.link.room(&create).await;
    let join = Request::JoinRoom { room: room.clone(), password: Some(password(SECRET)) };
    member.link.room(&join).await;
    Request::RoomMembers { room, after_epoch: 0 }
}

#[tokio::test]
async fn a_room_deleted_by_the_operator_ends_with_a_record_that_members_verify() {
    let registry = Registry::start().await;
    let mut operator = Operator::at(&registry).await;
    let [mut ann, mut bob] = [registry.member("ann", 1).await, registry.member("bob", 2).await];
    let den = room_of(&mut ann, &mut bob).await;
    let held = Room::from_log(&bob.link.room(&den).await.log, &registry.server.key());
    let mut held = held.expect("a log that folds");
    let mut hello = Hello::new(&bob.grant).await;
    hello.say().await;

    let listed = operator.ask("rooms_list", json!({})).await;
    assert_eq!(listed["rooms"][0]["owner"], "ann");
    assert_eq!(listed["rooms"][0]["member_count"], 2);
    let params = json!({ "room": "den" });
    let shown = operator.ask("rooms_show", params.clone()).await;
    assert_eq!(shown["members"][1]["username"], "bob");
    assert_eq!(shown["members"][1]["presence"], "online");
    assert_eq!(operator.ask("rooms_delete", params.clone()).await["state"], "deleted");
    assert!(matches!(hello.hear().await, Outcome::Nudged { .. }));
    assert!(bob.link.sync(0).await.rooms.is_empty());
    assert_eq!(operator.code("rooms_show", params.clone()).await, Code::NotFound);
    assert_eq!(operator.code("rooms_delete", params).await, Code::NotFound);

    // What a member with the log before would be shown.
    let record = last_record(&registry);
    held.apply(&record, &registry.server.key()).expect("it continues the log");
    assert!(held.deleted);
    let opened = record.open(&registry.server.key()).expect("signed");
    assert_eq!(opened.op, MembershipOp::Delete { by: ann.peer.name.clone() });
}

fn last_record(registry: &Registry) -> registryd_proto::Signed<registryd_proto::MembershipRecord> {
    let database = rusqlite::Connection::open(registry.database()).expect("the database");
    let sql = "SELECT signed FROM record ORDER BY epoch DESC LIMIT 1";
    let json: String = database.query_row(sql, [], |row| row.get(0)).expect("a record");
    serde_json::from_str(&json).expect("a signed record")
}

#[tokio::test]
async fn lists_come_in_pages_that_hold_everybody_once() {
    let registry = Registry::start().await;
    let mut operator = Operator::at(&registry).await;
    // Not in the order of their names.
    for name in ["eve", "ann", "dan", "bob", "cid"] {
        let params = json!({ "username": name, "password": SECRET });
        operator.ask("users_add", params).await;
    }
    let mut names = Vec::new();
    let mut after = Value::Null;
    for _ in 0..3 {
        let page = operator.ask("users_list", json!({ "after": after, "limit": 2 })).await;
        let users = page["users"].as_array().expect("a list");
        names.extend(users.iter().map(|u| u["username"].as_str().expect("a name").to_owned()));
        after = page["next"].clone();
    }
    assert_eq!(names, ["ann", "bob", "cid", "dan", "eve"]);
    assert!(after.is_null(), "the last page says so");
    let unknown = json!({ "after": "nobody" });
    assert_eq!(operator.code("sessions_list", unknown.clone()).await, Code::NotFound);
    assert_eq!(operator.ask("users_list", unknown).await["users"], json!([]), "after n");
}

#[tokio::test]
async fn what_is_no_request_is_told_and_a_giant_is_cut() {
    let registry = Registry::start().await;
    let mut operator = Operator::at(&registry).await;
    for line in [
        "",
        "x",
        "[]",
        "{}",
        r#"{"id":1}"#,
        r#"{"id":1,"method":"users_list"}"#,
        r#"{"id":1,"method":"shell","params":{}}"#,
        r#"{"id":-1,"method":"stats"}"#,
        r#"{"id":1,"method":"users_show","params":{"username":"A B"}}"#,
        r#"{"id":1,"method":"users_add","params":{"username":"ann","password":"short"}}"#,
        r#"{"id":1,"method":"invites_revoke","params":{"id":-1}}"#,
        &format!(r#"{{"id":1,"method":{}"#, "[".repeat(10_000)),
    ] {
        let answer = operator.raw(line).await;
        assert_eq!(answer["error"]["code"], "usage", "{line:.60}: {answer}");
    }
    for (uses, expires_ms, note) in
        [(0, 1, ""), (u32::MAX, 1, ""), (1, 0, ""), (1, u64::MAX, ""), (1, 1, &"x".repeat(501))]
    {
        let params = json!({ "uses": uses, "expires_ms": expires_ms, "note": note });
        assert_eq!(operator.code("invites_create", params).await, Code::Usage);
    }
    assert_eq!(operator.ask("health", json!(null)).await["healthy"], true, "it goes on");

    operator.send(&vec![b'x'; 64 * 1024]).await;
    let told = operator.hear().await.expect("why it is cut");
    assert_eq!(told["error"]["code"], "usage");
    assert!(operator.hear().await.is_none(), "what follows cannot be told apart");
}

#[tokio::test]
async fn one_operator_too_many_is_told_so_and_the_others_are_served() {
    let registry = Registry::start().await;
    let mut seated = Vec::new();
    for _ in 0..16 {
        let mut operator = Operator::at(&registry).await;
        operator.ask("health", json!(null)).await;
        seated.push(operator);
    }
    let mut late = Operator::at(&registry).await;
    assert_eq!(late.hear().await.expect("a word")["error"]["code"], "rate_limited");
    assert!(late.hear().await.is_none());
    for operator in &mut seated {
        operator.ask("health", json!(null)).await;
    }
}
