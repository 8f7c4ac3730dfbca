//! Rooms: access, roles, moderation, the signed log, nudges.

use std::num::NonZeroU32;

use registryd::Rate;
use registryd_proto::{
    Access, Code, HistoryAccess, PublicKey, Reply, Request, Role, Room, RoomName, RoomView,
    hello::Outcome,
};

use crate::client::{Hello, Member, Registry, password};

fn den() -> RoomName {
    "den".parse().expect("name")
}

fn create(access: Access, secret: Option<&str>) -> Request {
    Request::CreateRoom {
        room: den(),
        access,
        password: secret.map(password),
        history: HistoryAccess::Joined,
    }
}

fn join(secret: Option<&str>) -> Request {
    Request::JoinRoom { room: den(), password: secret.map(password) }
}

fn members(after_epoch: u64) -> Request {
    Request::RoomMembers { room: den(), after_epoch }
}

fn fold(view: &RoomView, registry: &PublicKey) -> Room {
    let room = Room::from_log(&view.log, registry).expect("a log that folds");
    assert_eq!(room.epoch, view.epoch);
    let listed: Vec<_> = view.members.iter().map(|m| m.member.clone()).collect();
    assert_eq!(listed.len(), room.members().count());
    for member in listed {
        assert_eq!(room.member(&member.username), Some(&member), "log and list agree");
    }
    room
}

async fn three(registry: &Registry) -> [Member; 3] {
    [
        registry.member("ann", 1).await,
        registry.member("bob", 2).await,
        registry.member("eve", 3).await,
    ]
}

#[tokio::test]
async fn an_open_room_from_create_to_delete() {
    let registry = Registry::start().await;
    let key = registry.server.key();
    let [mut ann, mut bob, mut eve] = three(&registry).await;
    let view = ann.link.room(&create(Access::Open, None)).await;
    assert_eq!(fold(&view, &key).member(&ann.peer.name).expect("owner").role, Role::Owner);
    assert_eq!(bob.link.code(&create(Access::Open, None)).await, Code::Conflict);

    let view = bob.link.room(&join(None)).await;
    assert_eq!((view.epoch, fold(&view, &key).members().count()), (2, 2));
    assert_eq!(view.members[0].addresses, ["127.0.0.1:4002".parse().expect("address")]);
    assert_eq!(bob.link.room(&join(None)).await.epoch, 2, "a member already");
    assert_eq!(eve.link.code(&members(0)).await, Code::Blocked);
    let page = ann.link.room(&members(1)).await;
    assert_eq!((page.log.len(), page.epoch), (1, 2), "only what is new");

    let Reply::Rooms { rooms } = bob.link.ask(&Request::ListRooms).await.expect("list") else {
        panic!("expected rooms");
    };
    assert_eq!((rooms[0].members, rooms[0].role, rooms[0].epoch), (2, Role::Member, 2));

    assert_eq!(ann.link.code(&Request::LeaveRoom { room: den() }).await, Code::Conflict);
    assert_eq!(bob.link.ask(&Request::LeaveRoom { room: den() }).await, Ok(Reply::Done));
    assert_eq!(bob.link.code(&Request::LeaveRoom { room: den() }).await, Code::NotFound);
    assert_eq!(bob.link.code(&Request::DeleteRoom { room: den() }).await, Code::Blocked);
    assert_eq!(ann.link.ask(&Request::DeleteRoom { room: den() }).await, Ok(Reply::Done));
    assert_eq!(ann.link.code(&members(0)).await, Code::NotFound);
    let anew = bob.link.room(&create(Access::Open, None)).await;
    assert_ne!(anew.id, view.id, "the name is free, the id is not");
}

#[tokio::test]
async fn nobody_fills_the_log_of_a_room_by_going_in_and_out() {
    let few = Rate {
        burst: NonZeroU32::new(6).expect("not 0"),
        every_ms: NonZeroU32::new(600_000).expect("not 0"),
    };
    let registry = Registry::start_with(|c| c.limits.room_changes = few).await;
    let [mut ann, mut bob, _] = three(&registry).await;
    ann.link.room(&create(Access::Open, None)).await;
    for _ in 0..3 {
        bob.link.room(&join(None)).await;
        bob.link.ask(&Request::LeaveRoom { room: den() }).await.expect("done");
    }
    assert_eq!(bob.link.code(&join(None)).await, Code::RateLimited);
    assert_eq!(ann.link.room(&members(0)).await.epoch, 7, "looking is free");
    ann.link.room(&join(None)).await;
}

#[tokio::test]
async fn roles_decide_who_may_do_what() {
    let registry = Registry::start().await;
    let key = registry.server.key();
    let [mut ann, mut bob, mut eve] = three(&registry).await;
    ann.link.room(&create(Access::Open, None)).await;
    bob.link.room(&join(None)).await;
    eve.link.room(&join(None)).await;
    let kick = |who: &Member| Request::Kick { room: den(), username: who.peer.name.clone() };
    let role = |who: &Member, role| Request::SetRole {
        room: den(),
        username: who.peer.name.clone(),
        role,
    };

    assert_eq!(bob.link.code(&kick(&eve)).await, Code::Blocked, "a member kicks nobody");
    let promote = role(&bob, Role::Moderator);
    assert_eq!(bob.link.code(&promote).await, Code::Blocked, "nobody promotes himself");
    assert_eq!(ann.link.ask(&promote).await, Ok(Reply::Done));
    assert_eq!(bob.link.code(&kick(&ann)).await, Code::Blocked, "the owner stays");
    let dethrone = role(&ann, Role::Member);
    assert_eq!(bob.link.code(&dethrone).await, Code::Blocked);
    assert_eq!(ann.link.code(&dethrone).await, Code::Conflict, "a room has an owner");
    assert_eq!(bob.link.ask(&kick(&eve)).await, Ok(Reply::Done));
    assert_eq!(eve.link.code(&members(0)).await, Code::Blocked);
    assert_eq!(bob.link.code(&kick(&eve)).await, Code::NotFound, "no member any more");

    let give = role(&bob, Role::Owner);
    assert_eq!(ann.link.ask(&give).await, Ok(Reply::Done));
    let room = fold(&bob.link.room(&members(0)).await, &key);
    assert_eq!(room.member(&bob.peer.name).expect("member").role, Role::Owner);
    assert_eq!(room.member(&ann.peer.name).expect("member").role, Role::Moderator);
    assert_eq!(ann.link.ask(&Request::LeaveRoom { room: den() }).await, Ok(Reply::Done));
    assert_eq!(bob.link.ask(&Request::LeaveRoom { room: den() }).await, Ok(Reply::Done));
    assert_eq!(bob.link.code(&members(0)).await, Code::NotFound, "the last one out ends it");
}

#[tokio::test]
async fn a_password_room_needs_its_password() {
    let registry = Registry::start().await;
    let [mut ann, mut bob, _] = three(&registry).await;
    assert_eq!(ann.link.code(&create(Access::Password, None)).await, Code::Usage);
    assert_eq!(ann.link.code(&create(Access::Open, Some("open sesame"))).await, Code::Usage);
    ann.link.room(&create(Access::Password, Some("open sesame"))).await;
    assert_eq!(bob.link.code(&join(None)).await, Code::BadCredentials);
    assert_eq!(bob.link.code(&join(Some("open barley"))).await, Code::BadCredentials);
    bob.link.room(&join(Some("open sesame"))).await;
    bob.link.room(&join(None)).await;
    let invite = Request::Invite { room: den(), username: "eve".parse().expect("name") };
    assert_eq!(ann.link.code(&invite).await, Code::Usage, "no invitation is needed");
}

#[tokio::test]
async fn who_guesses_at_the_password_of_an_account_keeps_it_out_of_no_room() {
    let registry = Registry::start().await;
    let [mut ann, mut bob, _] = three(&registry).await;
    ann.link.room(&create(Access::Password, Some("open sesame"))).await;
    let eve = registry.peer("bob", 77);
    let mut link = eve.connect().await;
    let guess = eve.login_by("wrong horse", 1, true);
    while link.code(&guess).await != Code::RateLimited {}
    bob.link.room(&join(Some("open sesame"))).await;
}

#[tokio::test]
async fn an_invite_room_lets_the_invited_in_once() {
    let registry = Registry::start().await;
    let [mut ann, mut bob, mut eve] = three(&registry).await;
    ann.link.room(&create(Access::Invite, None)).await;
    let invite = |name: &str| Request::Invite { room: den(), username: name.parse().expect("n") };
    assert_eq!(bob.link.code(&join(None)).await, Code::Blocked);
    assert_eq!(ann.link.code(&invite("nobody")).await, Code::NotFound);
    let before = bob.link.sync(0).await.version;
    assert_eq!(ann.link.ask(&invite("bob")).await, Ok(Reply::Done));
    let sync = bob.link.sync(before).await;
    assert!(sync.version > before);
    assert_eq!(sync.invited, [den()]);
    bob.link.room(&join(None)).await;
    assert!(bob.link.sync(0).await.invited.is_empty());
    assert_eq!(bob.link.code(&invite("eve")).await, Code::Blocked, "a member invites nobody");
    assert_eq!(eve.link.code(&join(None)).await, Code::Blocked);

    let kick = Request::Kick { room: den(), username: bob.peer.name.clone() };
    assert_eq!(ann.link.ask(&kick).await, Ok(Reply::Done));
    assert_eq!(bob.link.code(&join(None)).await, Code::Blocked, "the invitation was used");

    assert_eq!(ann.link.ask(&invite("eve")).await, Ok(Reply::Done));
    assert_eq!(eve.link.ask(&Request::LeaveRoom { room: den() }).await, Ok(Reply::Done));
    assert!(eve.link.sync(0).await.invited.is_empty());
    assert_eq!(eve.link.code(&join(None)).await, Code::Blocked, "the invitation was declined");
    assert_eq!(eve.link.code(&Request::LeaveRoom { room: den() }).await, Code::NotFound);
}

#[tokio::test]
async fn members_are_nudged_by_each_change() {
    let registry = Registry::start().await;
    let [mut ann, mut bob, _] = three(&registry).await;
    ann.link.room(&create(Access::Open, None)).await;
    let mut hello = Hello::new(&ann.grant).await;
    hello.say().await;
    bob.link.room(&join(None)).await;
    let Outcome::Nudged { version } = hello.hear().await else { panic!("expected a nudge") };
    let sync = ann.link.sync(0).await;
    assert_eq!((sync.version, sync.rooms[0].epoch), (version, 2));

    let mut bobs = Hello::new(&bob.grant).await;
    bobs.say().await;
    let kick = Request::Kick { room: den(), username: bob.peer.name.clone() };
    ann.link.ask(&kick).await.expect("done");
    assert!(matches!(bobs.hear().await, Outcome::Nudged { .. }), "the kicked one is told");
    assert!(bob.link.sync(0).await.rooms.is_empty());
}

#[tokio::test]
async fn rooms_and_their_logs_survive_a_restart() {
    let registry = Registry::start().await;
    let [mut ann, mut bob, _] = three(&registry).await;
    ann.link.room(&create(Access::Open, None)).await;
    let before = bob.link.room(&join(None)).await;
    let registry = registry.restart().await;
    let after = ann.peer.connect().await.room(&members(0)).await;
    assert_eq!(after.log, before.log, "byte by byte");
    fold(&after, &registry.server.key());
}
