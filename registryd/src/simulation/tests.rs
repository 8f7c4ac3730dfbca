//! The simulated registry: that it is the real one, that the same seed is the same run, and that each
//! planted fault shows.

mod restart;

use registryd_proto::{
    Access, Code, Digest, Endpoints, Failure, HistoryAccess, KeyBinding, Keypair, Password,
    PresenceState, Reply, Role, RoomName, RoomView, SessionGrant, UserView, Username,
    hello::{Clear, Direction, HelloClient, Outcome},
};

use super::*;
use crate::{
    presence::{Lookup, Secret},
    store::AccountId,
};

const WALL_MS: u64 = 1_700_000_000_000;

fn now(monotonic_ms: u64) -> Now {
    Now { monotonic_ms, wall_ms: WALL_MS + monotonic_ms }
}

fn fresh() -> Registry {
    Registry::new(1, now(0), Setup::default())
}

fn broken(planted: Planted) -> Registry {
    Registry::new(1, now(0), Setup { planted, ..Setup::default() })
}

/// A user with its keys, and its address at the registry.
struct User {
    name: Username,
    keys: Keypair,
    room_keys: Keypair,
    address: SocketAddr,
}

fn user(name: &str, device: u8) -> User {
    User {
        name: name.parse().expect("name"),
        keys: Keypair::from_secret(&[device; 32]),
        room_keys: Keypair::from_secret(&[device + 100; 32]),
        address: ([192, 0, 2, device], 5000).into(),
    }
}

fn den() -> RoomName {
    "den".parse().expect("name")
}

fn password() -> Password {
    Password::new("correct horse battery".to_owned()).expect("length")
}

impl User {
    fn ask(&self, registry: &mut Registry, request: Request, at: u64) -> Result<Reply, Failure> {
        match registry.request(&self.keys.public(), self.address.ip(), request, now(at)) {
            Answer::Ok(reply) => Ok(reply),
            Answer::Error(failure) => Err(failure),
        }
    }

    fn binding(&self, registry: &Registry) -> KeyBinding {
        KeyBinding::new(&registry.key(), &self.name, &self.keys, &self.room_keys)
    }

    fn login(&self, registry: &mut Registry, attempt: u8, at: u64) -> Result<Reply, Failure> {
        let request = Request::Login {
            username: self.name.clone(),
            password: password(),
            binding: self.binding(registry),
            attempt: Digest([attempt; 32]),
            takeover: false,
            endpoints: Endpoints::default(),
        };
        self.ask(registry, request, at)
    }

    /// Creates the account and logs in.
    fn enrol(&self, registry: &mut Registry, at: u64) -> SessionGrant {
        let create = Request::CreateAccount {
            username: self.name.clone(),
            password: password(),
            binding: self.binding(registry),
            invite: None,
        };
        self.ask(registry, create, at).expect("a free name");
        session(self.login(registry, 1, at))
    }

    fn resume(&self, registry: &mut Registry, attempt: u8, at: u64) -> SessionGrant {
        let request = Request::Resume {
            attempt: Digest([attempt; 32]),
            endpoints: Endpoints::default(),
            serial: 0,
            epoch: 0,
        };
        session(self.ask(registry, request, at))
    }

    fn sees(&self, registry: &mut Registry, other: &User, at: u64) -> PresenceState {
        self.view(registry, other, at).presence
    }

    fn view(&self, registry: &mut Registry, other: &User, at: u64) -> UserView {
        let search = Request::Search { username: other.name.clone() };
        match self.ask(registry, search, at) {
            Ok(Reply::User(view)) => view,
            other => panic!("no user: {other:?}"),
        }
    }

    /// Says HELLO and takes the answer.
    fn hello(&self, registry: &mut Registry, client: &mut HelloClient, at: u64) -> Outcome {
        client.hurry(at);
        let datagram = client.poll(at).expect("due");
        registry.datagram(self.address, &datagram, now(at));
        let answers = registry.take_datagrams();
        let [(to, answer)] = answers.as_slice() else { panic!("one answer: {answers:?}") };
        assert_eq!(*to, self.address);
        client.on_datagram(answer, at)
    }
}

fn session(reply: Result<Reply, Failure>) -> SessionGrant {
    match reply {
        Ok(Reply::Session(grant)) => grant,
        other => panic!("no session: {other:?}"),
    }
}

fn room(reply: Result<Reply, Failure>) -> RoomView {
    match reply {
        Ok(Reply::Room(view)) => view,
        other => panic!("no room: {other:?}"),
    }
}

fn create_den() -> Request {
    let (access, history) = (Access::Open, HistoryAccess::Joined);
    Request::CreateRoom { room: den(), access, password: None, history }
}

#[test]
fn an_account_is_made_logs_in_and_is_found() {
    let mut registry = fresh();
    let (ann, bob) = (user("ann", 1), user("bob", 2));
    let grant = ann.enrol(&mut registry, 0);
    assert_eq!((grant.hello_port, grant.server_time_ms), (PORT, WALL_MS));
    bob.enrol(&mut registry, 5);
    assert_eq!(ann.sees(&mut registry, &bob, 5), PresenceState::Offline, "no HELLO yet");
    let stranger = Request::Search { username: ann.name.clone() };
    let refused = user("eve", 3).ask(&mut registry, stranger, 5).expect_err("no session");
    assert_eq!(refused.code, Code::NotLoggedIn);
    let wrong = Request::ChangePassword {
        old: Password::new("wrong horse battery".to_owned()).expect("length"),
        new: password(),
    };
    let refused = ann.ask(&mut registry, wrong, 5).expect_err("wrong password");
    assert_eq!(refused.code, Code::BadCredentials, "cheap passwords are checked all the same");
}

#[test]
fn hello_makes_online_and_silence_offline() {
    let mut registry = fresh();
    let (ann, bob) = (user("ann", 1), user("bob", 2));
    ann.enrol(&mut registry, 0);
    let mut client = HelloClient::new(&bob.enrol(&mut registry, 0), 0);
    let outcome = bob.hello(&mut registry, &mut client, 100);
    assert!(matches!(outcome, Outcome::Answered { .. }), "{outcome:?}");
    assert_eq!(ann.sees(&mut registry, &bob, 3_099), PresenceState::Online);
    assert_eq!(ann.sees(&mut registry, &bob, 3_100), PresenceState::Offline);
}

#[test]
fn who_makes_a_room_hears_of_it_by_hello_as_well() {
    let (mut registry, bob) = (fresh(), user("bob", 1));
    let grant = bob.enrol(&mut registry, 0);
    let mut client = HelloClient::new(&grant, 0);
    let before = bob.hello(&mut registry, &mut client, 10);
    // The reply to this may be lost, and the nudge as well.
    bob.ask(&mut registry, create_den(), 20).expect("a free name");
    registry.take_datagrams();
    let after = bob.hello(&mut registry, &mut client, 30);
    let version = |outcome| match outcome {
        Outcome::Answered { version } => version,
        other => panic!("no answer: {other:?}"),
    };
    assert!(version(before) < version(after), "bob syncs");
}

#[test]
fn only_the_monotonic_clock_decides_who_is_online() {
    let mut registry = fresh();
    let (ann, bob) = (user("ann", 1), user("bob", 2));
    ann.enrol(&mut registry, 0);
    let mut client = HelloClient::new(&bob.enrol(&mut registry, 0), 0);
    bob.hello(&mut registry, &mut client, 100);
    for wall_ms in [0, 10 * WALL_MS] {
        let jumped = Now { monotonic_ms: 200, wall_ms };
        let search = Request::Search { username: bob.name.clone() };
        let answer = registry.request(&ann.keys.public(), ann.address.ip(), search, jumped);
        let Answer::Ok(Reply::User(view)) = answer else { panic!("no user: {answer:?}") };
        assert_eq!(view.presence, PresenceState::Online);
    }
}

#[test]
fn who_watches_is_nudged_at_the_next_tick() {
    let mut registry = fresh();
    let (ann, bob) = (user("ann", 1), user("bob", 2));
    let mut anns = HelloClient::new(&ann.enrol(&mut registry, 0), 0);
    let mut bobs = HelloClient::new(&bob.enrol(&mut registry, 0), 0);
    ann.hello(&mut registry, &mut anns, 10);
    registry.tick(now(10));
    assert_eq!(registry.next_wake_ms(), 510);
    ann.ask(&mut registry, Request::Watch { username: bob.name.clone() }, 20).expect("watched");
    bob.hello(&mut registry, &mut bobs, 30);
    assert!(registry.next_wake_ms() <= 30, "an arrival is told at once");
    registry.tick(now(30));
    assert_eq!(registry.next_wake_ms(), 510);
    let nudges = registry.take_datagrams();
    let [(to, nudge)] = nudges.as_slice() else { panic!("one nudge: {nudges:?}") };
    assert_eq!(*to, ann.address);
    let outcome = anns.on_datagram(nudge, 31);
    assert!(matches!(outcome, Outcome::Nudged { .. }), "{outcome:?}");
}

/// Whether an old datagram of bob's, sent again from elsewhere, makes him online.
fn replay_makes_online(registry: &mut Registry) -> bool {
    let (ann, bob) = (user("ann", 1), user("bob", 2));
    ann.enrol(registry, 0);
    let mut client = HelloClient::new(&bob.enrol(registry, 0), 0);
    let old = client.poll(0).expect("due");
    registry.datagram(bob.address, &old, now(0));
    registry.take_datagrams();
    bob.hello(registry, &mut client, 1_000);
    registry.datagram(([203, 0, 113, 9], 9).into(), &old, now(60_000));
    ann.sees(registry, &bob, 60_000) == PresenceState::Online
}

#[test]
fn a_replay_changes_nothing_unless_so_planted() {
    let mut registry = fresh();
    assert!(!replay_makes_online(&mut registry));
    assert!(
        registry.take_datagrams().iter().all(|(to, _)| to.ip() != IpAddr::from([203, 0, 113, 9]))
    );
    let mut registry = broken(Planted { counter_reset: true, ..Planted::default() });
    assert!(replay_makes_online(&mut registry));
}

#[test]
fn a_datagram_of_the_boot_before_changes_nothing_unless_so_planted() {
    for same_boot_id in [false, true] {
        let mut registry = broken(Planted { same_boot_id, ..Planted::default() });
        let (ann, bob) = (user("ann", 1), user("bob", 2));
        ann.enrol(&mut registry, 0);
        let mut client = HelloClient::new(&bob.enrol(&mut registry, 0), 0);
        let old = client.poll(0).expect("due");
        let mut registry = Registry::restart(&registry.disk(), 2, now(200));
        registry.datagram(bob.address, &old, now(300));
        let online = ann.sees(&mut registry, &bob, 300) == PresenceState::Online;
        assert_eq!(online, same_boot_id);
    }
}

#[test]
fn a_copy_of_an_old_disk_goes_back_in_time() {
    let mut registry = fresh();
    let (ann, bob) = (user("ann", 1), user("bob", 2));
    let first = ann.enrol(&mut registry, 0);
    let backup = registry.disk();
    bob.enrol(&mut registry, 10);
    room(ann.ask(&mut registry, create_den(), 20));
    assert_ne!(registry.disk(), backup);
    let mut registry = Registry::restart(&backup, 2, now(100));
    let search = Request::Search { username: bob.name.clone() };
    let missed = ann.ask(&mut registry, search, 100).expect_err("not yet enrolled");
    assert_eq!(missed.code, Code::NotFound);
    let again = ann.resume(&mut registry, 7, 110);
    assert_eq!(again.epoch, first.epoch + 1);
    assert_ne!(again.key, first.key, "no session key is issued twice");
}

#[test]
fn a_full_disk_refuses_changes_and_heals() {
    let mut registry = fresh();
    let ann = user("ann", 1);
    ann.enrol(&mut registry, 0);
    let before = registry.disk();
    registry.set_disk_full(true);
    let refused = ann.ask(&mut registry, create_den(), 10).expect_err("no room on the disk");
    assert_eq!(refused.code, Code::Internal);
    ann.ask(&mut registry, Request::ListRooms, 10).expect("reading goes on");
    assert_eq!(registry.disk(), before);
    registry.set_disk_full(false);
    room(ann.ask(&mut registry, create_den(), 20));
}

#[test]
fn what_was_answered_survives_a_crash_unless_so_planted() {
    for answers_before_commit in [false, true] {
        let mut registry = broken(Planted { answers_before_commit, ..Planted::default() });
        let ann = user("ann", 1);
        ann.enrol(&mut registry, 0);
        registry.tick(now(0));
        room(ann.ask(&mut registry, create_den(), 10));
        let mut registry = Registry::restart(&registry.disk(), 2, now(20));
        let members = Request::RoomMembers { room: den(), after_epoch: 0 };
        let lost = ann.ask(&mut registry, members, 30).is_err();
        assert_eq!(lost, answers_before_commit);
    }
}

#[test]
fn a_restart_forgets_sessions_or_records_only_if_so_planted() {
    for (forgets_sessions, cuts_logs) in [(false, false), (true, false), (false, true)] {
        let planted = Planted { forgets_sessions, cuts_logs, ..Planted::default() };
        let mut registry = broken(planted);
        let (ann, bob) = (user("ann", 1), user("bob", 2));
        ann.enrol(&mut registry, 0);
        bob.enrol(&mut registry, 0);
        ann.ask(&mut registry, create_den(), 10).expect("made");
        let join = Request::JoinRoom { room: den(), password: None };
        let before = room(bob.ask(&mut registry, join, 20));
        assert_eq!((before.epoch, before.log.len()), (2, 2));
        assert_eq!(before.members[0].member.role, Role::Owner);
        let mut registry = Registry::restart(&registry.disk(), 2, now(30));
        let members = Request::RoomMembers { room: den(), after_epoch: 0 };
        let after = ann.ask(&mut registry, members, 40);
        assert_eq!(after.is_err(), forgets_sessions);
        if !forgets_sessions {
            assert_eq!(room(after).log.len(), if cuts_logs { 1 } else { 2 });
        }
    }
}

/// Answers two requests of which `turns` says whose step is next; each goes on alone at the end.
fn interleave(registry: &mut Registry, both: [Pending; 2], turns: u32) {
    let mut both = both.map(|pending| (pending, None));
    let ends = (0..32).map(|bit| (turns >> bit & 1) as usize).chain([0; 100]).chain([1; 100]);
    for turn in ends {
        let (pending, answer) = &mut both[turn];
        if answer.is_none() {
            *answer = registry.step(pending, now(100));
        }
    }
    assert!(both.iter().all(|(_, answer)| answer.is_some()), "fewer than 100 steps");
}

#[test]
fn whatever_comes_at_once_the_seat_is_that_of_the_session() {
    let (first, second) = (user("ann", 1), user("ann", 2));
    let mut registry = fresh();
    first.enrol(&mut registry, 0);
    let login = |user: &User, takeover| Request::Login {
        username: user.name.clone(),
        password: password(),
        binding: user.binding(&registry),
        attempt: Digest([9; 32]),
        takeover,
        endpoints: Endpoints::default(),
    };
    let (attempt, endpoints) = (Digest([8; 32]), Endpoints::default());
    let asked = [
        (&first, login(&first, false)),
        (&second, login(&second, true)),
        (&first, Request::Resume { attempt, endpoints, serial: 0, epoch: 0 }),
        (&first, Request::Logout),
        (&first, Request::DeleteAccount { password: password() }),
    ];
    let disk = registry.disk();
    let pairs = (0..asked.len()).flat_map(|a| (0..a).map(move |b| [a, b]));
    let orders = (0..1_u32 << 8).filter(|order| order.count_ones() == 4);
    for (pair, turns) in pairs.flat_map(|pair| orders.clone().map(move |order| (pair, order))) {
        let mut registry = Registry::restart(&disk, 2, now(50));
        let both = pair.map(|at| {
            let (user, request) = &asked[at];
            registry.accept(&user.keys.public(), user.address.ip(), request.clone())
        });
        interleave(&mut registry, both, turns);
        let sessions = at_once(registry.inner.store.sessions(AccountId(0), 9)).expect("readable");
        let kept = sessions.first().map(|s| (s.epoch, Lookup::Secret(Secret::Salt(s.salt))));
        let seats = (0..10).filter_map(|epoch| {
            let (direction, session, boot, counter) = (Direction::Peer, 1, 0, 1);
            let named = Clear { direction, session, epoch, boot, counter };
            let found = registry.inner.presence().look_up(&named);
            (found != Lookup::Unknown).then_some((epoch, found))
        });
        assert_eq!(seats.collect::<Vec<_>>(), Vec::from_iter(kept), "{pair:?}, turns {turns:b}");
    }
}

#[test]
fn who_is_in_a_room_hears_of_a_change_with_the_next_hello_unless_so_planted() {
    for forgets_versions in [false, true] {
        let mut registry = broken(Planted { forgets_versions, ..Planted::default() });
        let (ann, bob) = (user("ann", 1), user("bob", 2));
        let mut client = HelloClient::new(&ann.enrol(&mut registry, 0), 0);
        bob.enrol(&mut registry, 0);
        room(ann.ask(&mut registry, create_den(), 10));
        let version = |outcome| match outcome {
            Outcome::Answered { version, .. } => version,
            other => panic!("not answered: {other:?}"),
        };
        let before = version(ann.hello(&mut registry, &mut client, 20));
        let join = Request::JoinRoom { room: den(), password: None };
        room(bob.ask(&mut registry, join, 30));
        assert_eq!(registry.take_datagrams().is_empty(), forgets_versions, "a nudge");
        let after = version(ann.hello(&mut registry, &mut client, 1_020));
        assert_eq!(after > before, !forgets_versions);
    }
}

/// All that a run says and leaves.
#[derive(PartialEq)]
struct Run {
    said: Vec<Result<Reply, Failure>>,
    sent: Vec<(SocketAddr, Datagram)>,
    disk: Disk,
}

fn run(seed: u64) -> Run {
    let mut registry = Registry::new(seed, now(0), Setup::default());
    let users: Vec<User> = (1..20).map(|at| user(&format!("user{at}"), at)).collect();
    let (mut said, mut sent, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    for user in &users {
        let grant = user.enrol(&mut registry, 1);
        clients.push(HelloClient::new(&grant, 1));
        said.push(Ok(Reply::Session(grant)));
    }
    said.push(users[0].ask(&mut registry, create_den(), 2));
    for user in &users[1..] {
        said.push(user.ask(&mut registry, Request::JoinRoom { room: den(), password: None }, 3));
        said.push(user.ask(&mut registry, Request::Watch { username: users[0].name.clone() }, 4));
    }
    for restart in 0..2 {
        for at in [1_000, 2_000, 3_000].map(|at| 10_000 * restart + at) {
            for (user, client) in users.iter().zip(&mut clients).rev() {
                client.hurry(at);
                let hello = client.poll(at).expect("due");
                registry.datagram(user.address, &hello, now(at));
                registry.tick(now(at));
                for (to, datagram) in registry.take_datagrams() {
                    if to == user.address {
                        client.on_datagram(&datagram, at);
                    }
                    sent.push((to, datagram));
                }
            }
        }
        let disk = registry.disk();
        registry = Registry::restart(&disk, seed + 1, now(10_000 * restart + 5_000));
    }
    Run { said, sent, disk: registry.disk() }
}

#[test]
fn the_same_seed_is_the_same_run_to_the_last_byte() {
    let first = run(5);
    assert!(first.sent.len() > 19 * 6, "answers and nudges");
    assert!(first == run(5), "another run with the same seed");
    let other = run(6);
    assert!(first.said != other.said && first.sent != other.sent && first.disk != other.disk);
}
