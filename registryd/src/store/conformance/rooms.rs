//! Rooms, their rules and their logs.

use registryd_proto::{Access, HistoryAccess, MembershipOp, Role, Room, RoomId, RoomName};

use super::*;
use crate::store::{Bumped, Change, NewRoom, RoomState};

async fn people(store: &Store) -> [AccountId; 3] {
    let mut ids = [AccountId(0); 3];
    for ((at, id), name) in ids.iter_mut().enumerate().zip(["ann", "bob", "cat"]) {
        *id = member(store, name, at as u8 + 1).await.0;
    }
    ids
}

fn new_room(owner: AccountId, access: Access) -> NewRoom {
    NewRoom {
        owner,
        name: room_name("den"),
        access,
        history: HistoryAccess::All,
        password_hash: String::new(),
    }
}

async fn create_den(store: &Store, owner: AccountId, access: Access) -> RoomState {
    store.create_room(new_room(owner, access), 0).await.expect("a free name").0
}

async fn join(store: &Store, who: AccountId) -> Result<(RoomState, Bumped), StoreError> {
    let id = store.room_key(&room_name("den"), who).await?.id;
    store.join_room(&room_name("den"), id, who, 0).await
}

async fn change(store: &Store, by: AccountId, wish: Change) -> Result<Bumped, StoreError> {
    store.change_room(&room_name("den"), by, wish, 0).await
}

async fn look(store: &Store, who: AccountId) -> RoomState {
    store.room(&room_name("den"), who, 0).await.expect("a member")
}

fn roles(state: &RoomState) -> Vec<(String, Role)> {
    let named = state.members.iter().map(|(p, role)| (p.username.as_str().to_owned(), *role));
    named.collect()
}

/// The log folds to the members, under one owner.
fn check(state: &RoomState) {
    let room = Room::from_log(&state.log, &registry().public()).expect("a log that folds");
    assert_eq!((room.id, room.epoch), (state.id, state.epoch));
    let mut folded: Vec<_> =
        room.members().map(|m| (m.username.as_str().to_owned(), m.role)).collect();
    folded.sort();
    let mut listed = roles(state);
    listed.sort();
    assert_eq!(folded, listed);
    assert_eq!(listed.iter().filter(|(_, role)| *role == Role::Owner).count(), 1);
}

fn ids(bumped: &Bumped) -> Vec<AccountId> {
    let mut ids: Vec<_> = bumped.iter().map(|(id, _)| *id).collect();
    ids.sort();
    ids
}

pub(super) async fn a_room_name_is_taken_once_until_it_is_deleted(mut engine: impl Engine) {
    let store = engine.open();
    let [ann, bob, cat] = people(&store).await;
    let (one, two) = tokio::join!(
        store.create_room(new_room(ann, Access::Open), 0),
        store.create_room(new_room(bob, Access::Open), 0),
    );
    let (winner, loser, owner) = if one.is_ok() { (one, two, ann) } else { (two, one, bob) };
    let first = winner.expect("one gets it").0;
    assert_eq!(rule(loser), Rule::RoomTaken);
    check(&first);
    change(&store, owner, Change::Delete).await.expect("its owner");
    let gone = store.join_room(&room_name("den"), first.id, cat, 0).await;
    assert_eq!(rule(gone), Rule::NoRoom);
    let second = create_den(&store, cat, Access::Open).await;
    assert_ne!(second.id, first.id);
    for store in [store, engine.open()] {
        assert_eq!(look(&store, cat).await.id, second.id);
        let old = store.join_room(&room_name("den"), first.id, ann, 0).await;
        assert_eq!(rule(old), Rule::NoRoom, "the name stands for another room");
        assert_eq!(rule(store.room(&room_name("den"), ann, 0).await), Rule::NoMember);
        assert_eq!(rule(store.room(&room_name("attic"), ann, 0).await), Rule::NoRoom);
    }
}

pub(super) async fn who_may_join_does_so_once(mut engine: impl Engine) {
    let store = engine.open();
    let [ann, bob, cat] = people(&store).await;
    create_den(&store, ann, Access::Invite).await;
    assert_eq!(rule(join(&store, bob).await), Rule::NotInvited);
    let bumped = change(&store, ann, Change::Invite(name("bob"))).await.expect("invited");
    assert_eq!(ids(&bumped), [bob]);
    // One invitation, used twice at once: the second finds a member.
    let (one, two) = tokio::join!(join(&store, bob), join(&store, bob));
    let (one, two) = (one.expect("in"), two.expect("in"));
    assert_eq!((one.0.epoch, two.0.epoch), (2, 2), "one record of it");
    let mut told = [ids(&one.1), ids(&two.1)];
    told.sort();
    assert_eq!(told, [vec![], vec![ann, bob]]);
    assert_eq!(rule(join(&store, cat).await), Rule::NotInvited);
    change(&store, ann, Change::Kick(name("bob"))).await.expect("owner");
    assert_eq!(rule(join(&store, bob).await), Rule::NotInvited, "it is used up");
    let refused = change(&store, ann, Change::Invite(name("nobody"))).await;
    assert_eq!(rule(refused), Rule::NoUser);
    for store in [store, engine.open()] {
        check(&look(&store, ann).await);
    }
}

pub(super) async fn roles_decide(mut engine: impl Engine) {
    let store = engine.open();
    let [ann, bob, cat] = people(&store).await;
    create_den(&store, ann, Access::Open).await;
    assert_eq!(rule(change(&store, bob, Change::Leave).await), Rule::NoRoom);
    assert_eq!(rule(change(&store, bob, Change::Delete).await), Rule::NoMember);
    for who in [bob, cat] {
        join(&store, who).await.expect("open to all");
    }
    for wish in [
        Change::Kick(name("cat")),
        Change::SetRole(name("cat"), Role::Moderator),
        Change::Invite(name("cat")),
        Change::Delete,
    ] {
        assert_eq!(rule(change(&store, bob, wish).await), Rule::RoleTooLow);
    }
    let invite = change(&store, ann, Change::Invite(name("cat"))).await;
    assert_eq!(rule(invite), Rule::NoInvitationNeeded);
    let promote = Change::SetRole(name("bob"), Role::Moderator);
    assert_eq!(ids(&change(&store, ann, promote.clone()).await.expect("owner")), [ann, bob, cat]);
    assert!(change(&store, ann, promote).await.expect("as it is").is_empty());
    assert_eq!(rule(change(&store, bob, Change::Kick(name("ann"))).await), Rule::RoleTooLow);
    change(&store, bob, Change::Kick(name("cat"))).await.expect("a moderator");
    let down = change(&store, ann, Change::SetRole(name("ann"), Role::Member)).await;
    assert_eq!(rule(down), Rule::OwnerGivesAway);
    change(&store, ann, Change::SetRole(name("bob"), Role::Owner)).await.expect("given away");
    for store in [store, engine.open()] {
        let state = look(&store, bob).await;
        check(&state);
        let expected = [("ann".to_owned(), Role::Moderator), ("bob".to_owned(), Role::Owner)];
        assert_eq!(roles(&state), expected);
    }
}

pub(super) async fn an_owner_leaves_last(mut engine: impl Engine) {
    let store = engine.open();
    let [ann, bob, _] = people(&store).await;
    create_den(&store, ann, Access::Open).await;
    join(&store, bob).await.expect("open to all");
    assert_eq!(rule(change(&store, ann, Change::Leave).await), Rule::OwnerStays);
    change(&store, bob, Change::Leave).await.expect("a member");
    change(&store, ann, Change::Leave).await.expect("nobody is left behind");
    assert_eq!(rule(store.room_key(&room_name("den"), ann).await.map(|_| ())), Rule::NoRoom);
}

pub(super) async fn a_long_log_comes_in_pages(mut engine: impl Engine) {
    let store = engine.open();
    let [ann, bob, _] = people(&store).await;
    create_den(&store, ann, Access::Open).await;
    join(&store, bob).await.expect("open to all");
    for turn in 0..500 {
        let role = if turn % 2 == 0 { Role::Moderator } else { Role::Member };
        change(&store, ann, Change::SetRole(name("bob"), role)).await.expect("owner");
    }
    let store = engine.open();
    let (mut log, mut pages, mut after) = (Vec::new(), 0, 0);
    loop {
        let page = store.room(&room_name("den"), bob, after).await.expect("a member");
        assert_eq!(page.epoch, 502);
        if page.log.is_empty() {
            break;
        }
        let last = page.log.last().expect("not empty").open(&registry().public());
        after = last.expect("signed").epoch;
        log.extend(page.log);
        pages += 1;
    }
    assert!(pages > 1, "no reply is without bound");
    assert_eq!((log.len(), after), (502, 502));
    check(&RoomState { log, ..look(&store, ann).await });
}

pub(super) async fn new_keys_are_in_the_log_of_every_room(mut engine: impl Engine) {
    let store = engine.open();
    let [ann, bob, _] = people(&store).await;
    create_den(&store, ann, Access::Open).await;
    join(&store, bob).await.expect("open to all");
    let profile = store.profile(bob).await.expect("there");
    let moved = store.login(login(&profile, 9, 9, Entry::Free), 0).await.expect("a new device");
    assert_eq!(ids(&moved.bumped), [ann, bob]);
    assert_eq!(moved.profile.version, store.profile(bob).await.expect("there").version);
    let state = look(&store, ann).await;
    check(&state);
    let record = state.log.last().expect("not empty").open(&registry().public());
    let MembershipOp::Rebind { username, peer_key, .. } = record.expect("signed").op else {
        panic!("not the new keys");
    };
    assert_eq!((username, peer_key), (name("bob"), key(9)));
    store.delete_account(bob, 0).await.expect("deleted");
    let state = look(&store, ann).await;
    check(&state);
    assert_eq!(roles(&state), [("ann".to_owned(), Role::Owner)]);
    store.delete_account(ann, 0).await.expect("deleted");
    let gone: Result<RoomId, _> = store.room_key(&room_name("den"), bob).await.map(|k| k.id);
    assert_eq!(rule(gone), Rule::NoRoom, "a room without its owner");
}

pub(super) async fn rooms_and_invitations_are_listed(mut engine: impl Engine) {
    let store = engine.open();
    let [ann, bob, _] = people(&store).await;
    for den in ["den", "attic"] {
        let new = NewRoom { name: room_name(den), ..new_room(ann, Access::Invite) };
        store.create_room(new, 0).await.expect("a free name");
        let wish = Change::Invite(name("bob"));
        store.change_room(&room_name(den), ann, wish, 0).await.expect("owner");
    }
    join(&store, bob).await.expect("invited");
    for store in [store, engine.open()] {
        let (rooms, invited) = store.rooms(bob).await.expect("readable");
        let listed: Vec<_> = rooms.iter().map(|r| (r.room.clone(), r.role, r.members)).collect();
        assert_eq!(listed, [(room_name("den"), Role::Member, 2)]);
        assert_eq!(invited, [room_name("attic")]);
        let (rooms, invited) = store.rooms(ann).await.expect("readable");
        let names: Vec<_> = rooms.into_iter().map(|r| r.room).collect();
        assert_eq!((names, invited), (vec![room_name("attic"), room_name("den")], vec![]));
    }
}

async fn room_of(store: &Store, owner: AccountId, at: usize) -> RoomName {
    let name = room_name(&format!("room{at}"));
    let new = NewRoom { name: name.clone(), ..new_room(owner, Access::Invite) };
    store.create_room(new, 0).await.expect("a free name");
    name
}

async fn places(store: &Store, guest: AccountId) -> usize {
    store.rooms(guest).await.expect("readable").1.len()
}

pub(super) async fn one_owner_takes_few_places_of_a_guest(mut engine: impl Engine) {
    const MOST: usize = 16;
    let store = engine.open();
    let [ann, bob, cat] = people(&store).await;
    let invite = async |by: AccountId, room: &RoomName| {
        store.change_room(room, by, Change::Invite(name("bob")), 0).await
    };
    let mut rooms = Vec::new();
    for at in 0..MOST + 3 {
        rooms.push(room_of(&store, ann, at).await);
    }
    for room in &rooms[..MOST] {
        assert_eq!(ids(&invite(ann, room).await.expect("one of few")), [bob]);
    }
    assert_eq!(rule(invite(ann, &rooms[MOST]).await), Rule::Full);
    assert!(invite(ann, &rooms[0]).await.expect("as it is").is_empty(), "asked for again");
    invite(cat, &room_of(&store, cat, 99).await).await.expect("of another owner");

    // A moderator invites for the owner.
    let last = &rooms[MOST + 2];
    store.change_room(last, ann, Change::Invite(name("cat")), 0).await.expect("another guest");
    let id = store.room_key(last, cat).await.expect("there").id;
    store.join_room(last, id, cat, 0).await.expect("invited");
    let promote = Change::SetRole(name("cat"), Role::Moderator);
    store.change_room(last, ann, promote, 0).await.expect("owner");
    assert_eq!(rule(invite(cat, last).await), Rule::Full);

    // Each way out of an invitation frees its place.
    let id = store.room_key(&rooms[0], bob).await.expect("there").id;
    store.join_room(&rooms[0], id, bob, 0).await.expect("invited");
    invite(ann, &rooms[MOST]).await.expect("one was used");
    store.change_room(&rooms[1], ann, Change::Delete, 0).await.expect("owner");
    invite(ann, &rooms[MOST + 1]).await.expect("the room of one is gone");
    assert_eq!(rule(invite(ann, last).await), Rule::Full);
    store.change_room(&rooms[2], bob, Change::Leave, 0).await.expect("invited");
    invite(ann, last).await.expect("one was declined");
    assert_eq!(places(&engine.open(), bob).await, MOST + 1);
}

pub(super) async fn rooms_that_are_passed_on_take_no_more_places(mut engine: impl Engine) {
    const MOST: usize = 16;
    let store = engine.open();
    let [ann, bob, cat] = people(&store).await;
    for at in 0..MOST + 4 {
        let room = room_of(&store, ann, at).await;
        let change = async |wish| store.change_room(&room, ann, wish, 0).await.expect("owner");
        for guest in ["bob", "cat"] {
            change(Change::Invite(name(guest))).await;
        }
        let id = store.room_key(&room, cat).await.expect("there").id;
        store.join_room(&room, id, cat, 0).await.expect("invited");
        let told = ids(&change(Change::SetRole(name("cat"), Role::Owner)).await);
        let (kept, expected) = (at < MOST, [ann, bob, cat]);
        assert_eq!(told, if kept { vec![ann, cat] } else { expected.to_vec() }, "room {at}");
        assert_eq!(places(&store, bob).await, MOST.min(at + 1));
    }
    assert_eq!(places(&engine.open(), bob).await, MOST);
}

pub(super) async fn who_is_invited_may_decline(mut engine: impl Engine) {
    let store = engine.open();
    let [ann, bob, cat] = people(&store).await;
    create_den(&store, ann, Access::Invite).await;
    change(&store, ann, Change::Invite(name("bob"))).await.expect("owner");
    assert_eq!(rule(change(&store, cat, Change::Leave).await), Rule::NoRoom);
    assert_eq!(ids(&change(&store, bob, Change::Leave).await.expect("invited")), [bob]);
    for store in [&store, &engine.open()] {
        assert_eq!(places(store, bob).await, 0);
        assert_eq!(rule(change(store, bob, Change::Leave).await), Rule::NoRoom);
        assert_eq!(rule(join(store, bob).await), Rule::NotInvited);
        let state = look(store, ann).await;
        check(&state);
        assert_eq!(state.epoch, 1, "the log says nothing of it");
    }
    change(&store, ann, Change::Invite(name("bob"))).await.expect("owner");
    join(&store, bob).await.expect("invited anew");
}
